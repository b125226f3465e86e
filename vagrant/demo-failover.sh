#!/bin/sh
# Halt the leader's machine, and show who takes over and that a service lives. After `vagrant up`,
# with the same variables. `vagrant up NAME` brings the machine back.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
number=1
set --
while [ "$number" -le "${MANAGERS:-3}" ]; do
    set -- "$@" "manager-$number"
    number=$((number + 1))
done
exec "$here/../deploy/demo-failover.sh" "$here/reach" "$@"
