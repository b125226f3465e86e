#!/bin/sh
# Take swarm off this machine. The node leaves its cluster first, where it can; its state stays
# unless --purge is given. Run twice, it changes nothing.
set -eu

usage() {
    cat <<'END'
Usage:  deploy/uninstall.sh [OPTIONS]

Options:
      --force      Also a manager, and one whose cluster does not answer
      --purge      Remove state, certificates and configuration, too, and the user
      --root DIR   What was installed with --root DIR
  -h, --help       This text
END
}

fail() { printf 'uninstall.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

force="" purge=no root="${DESTDIR:-}"
while [ $# -gt 0 ]; do
    case $1 in
        --force) force=--force ;;
        --purge) purge=yes ;;
        --root) [ $# -gt 1 ] || fail "--root takes DIR; see --help" 125; root=$2; shift ;;
        -h | --help) usage; exit 0 ;;
        *) fail "unknown option $1; see --help" 125 ;;
    esac
    shift
done
root=${root%/}
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "needs root"

leave() {
    state=$(swarmctl info --format '{{.Swarm.LocalNodeState}}' 2>/dev/null) || return 0
    [ "$state" = inactive ] && return
    swarmctl swarm leave $force
}

# Of a swarmd that `install.sh --without-systemd` has started.
stop_in_background() {
    pid=$(swarmctl info --format '{{.Pid}}' 2>/dev/null) || return 0
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}

if [ -z "$root" ] && [ -x /usr/local/bin/swarmctl ]; then
    swarmctl() { /usr/local/bin/swarmctl "$@"; }
    leave || fail "this node can't leave its cluster, see above; --force takes it off all the same"
    if [ -d /run/systemd/system ]; then
        systemctl disable -q --now swarmd 2>/dev/null || true
    fi
    stop_in_background
fi

rm -f "$root/usr/local/bin/swarmd" "$root/usr/local/bin/swarmctl" \
    "$root/usr/local/lib/systemd/system/swarmd.service" "$root/usr/local/lib/sysusers.d/swarm.conf" \
    "$root/usr/local/share/bash-completion/completions/swarmctl" \
    "$root/usr/local/share/zsh/site-functions/_swarmctl" \
    "$root/usr/local/share/fish/vendor_completions.d/swarmctl.fish"
rm -rf "$root/opt/swarm"
if [ $purge = yes ]; then
    rm -rf "$root/etc/swarm" "$root/run/swarm" "$root/var/log/swarmd.log"
    # It may be a disk of its own.
    if [ -d "$root/var/lib/swarm" ]; then
        find "$root/var/lib/swarm" -mindepth 1 -delete
        rmdir "$root/var/lib/swarm" 2>/dev/null || true
    fi
    if [ -z "$root" ] && id swarm >/dev/null 2>&1; then
        userdel swarm
    fi
fi
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
