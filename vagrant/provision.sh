#!/bin/sh
# On a machine, as root: installed, and with --init the first manager. A second time nothing changes.
#   provision.sh ADDRESS [--init]
set -eu
address=$1
shift
exec /opt/swarm-source/deploy/install.sh --advertise-addr "$address" "$@"
