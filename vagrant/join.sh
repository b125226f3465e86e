#!/bin/sh
# The token goes from the first manager to the machine that joins, through a pipe.
#   join.sh FIRST ITS_ADDRESS NAME ADDRESS
set -eu
first=$1 manager=$2 name=$3 address=$4
reach=$(dirname "$0")/reach
token=$("$reach" on "$first" swarmctl swarm join-token --quiet "${name%-*}")
printf '%s\n' "$token" |
    "$reach" on "$name" /opt/swarm-source/deploy/install.sh --advertise-addr "$address" --join - "$manager"
