#!/bin/sh
# Take the leader's machine away, and show who takes over, after how long, and that a service lives.
#
#   deploy/demo-failover.sh REACH MANAGER MANAGER MANAGER...
#
# REACH is a program that knows how to get at the machines: `REACH on HOST COMMAND...` runs a command
# there as root, with this stdin and stdout; `REACH halt HOST` cuts its power. vagrant/reach is one.
set -eu

fail() { printf 'demo-failover: %s\n' "$1" >&2; exit 1; }
say() { printf '\n%s\n' "$*"; }

[ $# -ge 4 ] || fail "takes REACH and three managers or more; see the head of this file"
reach=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
watcher=""
trap 'rm -rf "$folder"; [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true' EXIT

on() { "$reach" on "$@"; }
show() {
    host=$1
    shift
    printf '\n%s# %s\n' "$host" "$*"
    on "$host" "$@"
}

# Until a command's output is what is wanted.
until_so() {
    wanted=$1
    shift
    tries=0
    until [ "$("$@" 2>/dev/null)" = "$wanted" ]; do
        tries=$((tries + 1))
        [ $tries -lt 150 ] || fail "waited in vain for '$wanted' from: $*"
        sleep 0.2
    done
}

answer() {
    # The service says itself on which node the task is that answers.
    on "$1" sh -c 'curl -fsS --max-time 5 http://127.0.0.1:8080/ || wget -qO- -T 5 http://127.0.0.1:8080/'
}

asked=$1
# A manager that still catches up has no vote.
voting() { on "$asked" swarmctl node ls --format '{{.ManagerStatus}}' | grep -c -e Reachable -e Leader; }
until_so $# voting
show "$asked" swarmctl node ls
on "$asked" swarmctl service inspect web >/dev/null 2>&1 ||
    show "$asked" swarmctl service create --quiet --name web --replicas 3 -p 8080:8000 swarm/demo
until_so 3/3 on "$asked" swarmctl service ls --filter name=web --format '{{.Replicas}}'
show "$asked" swarmctl service ps --filter desired-state=running web

leader=$(on "$asked" swarmctl node ls --format '{{.Hostname}} {{.ManagerStatus}}' | sed -n 's/ Leader$//p')
[ -n "$leader" ] || fail "nobody leads"
stays=""
for manager in "$@"; do
    [ "$manager" = "$leader" ] || stays=$manager
done
say "$leader leads. Its machine is switched off now; $stays watches."

on "$stays" sh -c 'cat >/tmp/watch_leader.py' <"$here/watch_leader.py"
mkfifo "$folder/in" "$folder/out"
# The environment's Python, beside swarmctl: found there, not here.
# shellcheck disable=SC2016
on "$stays" sh -c \
    'exec "$(dirname "$(readlink -f "$(command -v swarmctl)")")"/python -P /tmp/watch_leader.py' \
    <"$folder/in" >"$folder/out" &
watcher=$!
exec 3>"$folder/in" 4<"$folder/out"
read -r _ <&4 || fail "the watcher on $stays has ended"
echo now >&3
"$reach" halt "$leader"
read -r successor took_ms <&4 || fail "nobody took over"
exec 3>&- 4<&-
wait "$watcher" || true
watcher=""
say "$successor leads, $took_ms ms after the word to switch $leader off."

until_so Down on "$stays" swarmctl node ls --filter "name=$leader" --format '{{.Status}}'
until_so 3/3 on "$stays" swarmctl service ls --filter name=web --format '{{.Replicas}}'
show "$stays" swarmctl node ls
show "$stays" swarmctl service ps --filter desired-state=running web
printf '\n%s# curl http://127.0.0.1:8080/\n' "$stays"
answer "$stays" | head -n 5
say "web lives, with 3 of 3 tasks on the machines that are left."
