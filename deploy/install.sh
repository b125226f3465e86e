#!/bin/sh
# Make this machine a node: swarmd in an environment of its own, a user and a group, folders, a
# systemd unit. Debian, Ubuntu and Fedora; as root. Run twice, it changes nothing; run from a newer
# checkout, it upgrades, and tasks go on.
#
#   deploy/install.sh --init                         the first manager of a new cluster
#   deploy/install.sh --join TOKEN HOST[:PORT]       a node of a cluster; TOKEN - reads it from stdin
#   deploy/install.sh                                installed and started, in no cluster yet
set -eu

usage() {
    cat <<'END'
Usage:  deploy/install.sh [OPTIONS]

Options:
      --init                  Make a new cluster with this node as its first manager
      --join TOKEN HOST[:PORT]
                              Join a cluster; TOKEN may be -, then it is read from stdin
      --advertise-addr ADDR   Address or interface at which other nodes reach this one
      --wheelhouse DIR        Take packages from a folder of wheels, and ask no index
      --venv DIR              Use an environment that is there (made by deploy/environment.py)
      --root DIR              Install below DIR (for packages and images; DESTDIR is the same).
                              Nothing is started
      --no-start              Start nothing, enable nothing
      --without-systemd       Start swarmd in the background, its log in /var/log/swarmd.log;
                              so it is done, too, where systemd does not run
      --no-packages           Install no system packages
  -h, --help                  This text
END
}

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$1" >&2; exit "${2:-1}"; }
operand() { [ "$2" -gt "$3" ] || fail "$1 takes $4; see --help" 125; }

here=$(cd "$(dirname "$0")" && pwd)
mode="" token="" remote="" advertise="" wheelhouse="" venv="" root="${DESTDIR:-}"
start=yes systemd=yes packages=yes
while [ $# -gt 0 ]; do
    case $1 in
        --init) mode=init ;;
        --join) operand --join $# 2 "TOKEN HOST[:PORT]"; mode=join token=$2 remote=$3; shift 2 ;;
        --advertise-addr) operand "$1" $# 1 ADDR; advertise=$2; shift ;;
        --wheelhouse) operand "$1" $# 1 DIR; wheelhouse=$2; shift ;;
        --venv) operand "$1" $# 1 DIR; venv=$2; shift ;;
        --root) operand "$1" $# 1 DIR; root=$2; shift ;;
        --no-start) start=no ;;
        --without-systemd) systemd=no ;;
        --no-packages) packages=no ;;
        -h | --help) usage; exit 0 ;;
        *) fail "unknown option $1; see --help" 125 ;;
    esac
    shift
done
root=${root%/}
if [ -n "$root" ]; then
    start=no packages=no
elif [ "$(id -u)" != 0 ]; then
    fail "needs root: it makes a user, a service and folders in /etc and /var (or give --root DIR)"
fi
[ -z "$mode" ] || [ $start = yes ] || fail "--$mode needs a running swarmd: not with --no-start or --root" 125
[ -d "${venv:-/}" ] || fail "there is no environment in $venv: deploy/environment.py --venv $venv makes it"
if [ -n "$root" ]; then
    mkdir -p "$root"
    root=$(cd "$root" && pwd)
fi

changed=no
# Write stdin to a file, where it differs from what is there.
put() {
    path=$root$1 mode_of_file=$2
    mkdir -p "$(dirname "$path")"
    cat >"$path.new"
    if cmp -s "$path.new" "$path"; then
        rm "$path.new"
    else
        chmod "$mode_of_file" "$path.new"
        mv "$path.new" "$path"
        changed=yes
        say "Wrote $1"
    fi
}

link() {
    path=$root$2
    [ "$(readlink "$path" 2>/dev/null)" = "$1" ] && return
    mkdir -p "$(dirname "$path")"
    ln -sfn "$1" "$path"
    changed=yes
    say "Linked $2 to $1"
}

folder() {
    [ "$(stat -c %a "$root$1" 2>/dev/null)" = "$2" ] && return
    mkdir -p "$root$1"
    chmod "$2" "$root$1"
    changed=yes
    say "Made $1, mode $2"
}

# What runs containers where no Docker does: an OCI runtime, iproute2, a static busybox (demo image).
install_packages() {
    [ $packages = yes ] || return 0
    wanted=""
    if ! command -v docker >/dev/null && ! command -v podman >/dev/null; then
        command -v runc >/dev/null || command -v crun >/dev/null || wanted="$wanted runc"
        command -v ip >/dev/null || wanted="$wanted iproute"
        command -v busybox >/dev/null || wanted="$wanted busybox"
    fi
    if command -v apt-get >/dev/null; then
        [ -n "$venv" ] || "$here/python" >/dev/null 2>&1 || wanted="$wanted python3-venv"
        wanted=$(printf %s "$wanted" | sed 's/iproute/iproute2/; s/busybox/busybox-static/')
        [ -z "$wanted" ] && return
        say "Installing$wanted with apt-get"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086
        apt-get install -y -qq --no-install-recommends $wanted >/dev/null 2>&1 ||
            { apt-get update -qq && apt-get install -y -qq --no-install-recommends $wanted >/dev/null; }
    elif command -v dnf >/dev/null; then
        [ -n "$venv" ] || "$here/python" >/dev/null 2>&1 || wanted="$wanted python3"
        [ -z "$wanted" ] && return
        say "Installing$wanted with dnf"
        # shellcheck disable=SC2086
        dnf install -y -q $wanted
    elif [ -n "$wanted" ]; then
        say "Install these, under whatever names they have here:$wanted"
    fi
}

make_environment() {
    [ -z "$venv" ] || return 0
    venv=/opt/swarm
    python=$("$here/python")
    before=$(cat "$root$venv/swarm-stamp" 2>/dev/null || true)
    set -- --venv "$venv"
    [ -z "$root" ] || set -- "$@" --root "$root"
    [ -z "$wheelhouse" ] || set -- "$@" --wheelhouse "$wheelhouse"
    "$python" "$here/environment.py" "$@"
    [ "$before" = "$(cat "$root$venv/swarm-stamp")" ] || changed=yes
}

make_user() {
    put /usr/local/lib/sysusers.d/swarm.conf 0644 <"$here/systemd/swarm.sysusers"
    grep -qs '^swarm:' "$root/etc/group" && return
    say "Making the user and group swarm"
    if command -v systemd-sysusers >/dev/null; then
        mkdir -p "$root/etc"
        systemd-sysusers --root="${root:-/}" "$root/usr/local/lib/sysusers.d/swarm.conf"
    else
        useradd ${root:+--prefix "$root"} --system --user-group --no-create-home --home-dir / \
            --shell /usr/sbin/nologin --comment "swarm, for jobs on a node" swarm
    fi
    changed=yes
}

write_files() {
    folder /etc/swarm 755
    folder /var/lib/swarm 700
    # The administrator's own from then on.
    [ -e "$root/etc/swarm/swarmd.toml" ] || put /etc/swarm/swarmd.toml 0644 <"$here/swarmd.toml"
    link "$venv/bin/swarmd" /usr/local/bin/swarmd
    link "$venv/bin/swarmctl" /usr/local/bin/swarmctl
    sed "s|/opt/swarm/|$venv/|" "$here/systemd/swarmd.service" |
        put /usr/local/lib/systemd/system/swarmd.service 0644
    completion bash | put /usr/local/share/bash-completion/completions/swarmctl 0644
    completion zsh | put /usr/local/share/zsh/site-functions/_swarmctl 0644
    completion fish | put /usr/local/share/fish/vendor_completions.d/swarmctl.fish 0644
}

completion() { "$([ -d "$root$venv" ] && printf %s "$root")$venv/bin/python" -P -m swarm.cli completion "$1"; }

start_with_systemd() {
    if [ $changed = yes ]; then
        systemctl daemon-reload
        # Tasks go on: see KillMode in the unit.
        systemctl try-restart swarmd
    fi
    systemctl is-enabled -q swarmd 2>/dev/null || systemctl enable -q swarmd
    systemctl is-active -q swarmd || systemctl start swarmd
}

# What the unit's ExecStart says, for a machine or a namespace with no systemd.
start_in_background() {
    swarmctl info >/dev/null 2>&1 && return
    say "Starting swarmd in the background; its log is /var/log/swarmd.log"
    command_line=$(sed -n 's/^ExecStart=//p' /usr/local/lib/systemd/system/swarmd.service)
    # shellcheck disable=SC2086
    setsid $command_line </dev/null >>/var/log/swarmd.log 2>&1 &
    tries=0
    until swarmctl info >/dev/null 2>&1; do
        tries=$((tries + 1))
        kill -0 $! 2>/dev/null || fail "swarmd has ended: $(tail -n 1 /var/log/swarmd.log)"
        [ $tries -lt 300 ] || fail "swarmd does not answer; its log is /var/log/swarmd.log"
        sleep 0.1
    done
}

enter_cluster() {
    [ -n "$mode" ] || return 0
    state=$(swarmctl info --format '{{.Swarm.LocalNodeState}}')
    if [ "$state" != inactive ]; then
        say "This node is in a swarm already ($state)"
        return
    fi
    set -- ${advertise:+--advertise-addr "$advertise"}
    if [ "$mode" = init ]; then
        swarmctl swarm init "$@"
    elif [ "$token" = - ]; then
        swarmctl swarm join "$@" --token - "$remote"
    else
        # Not in the list of processes, where everybody reads it.
        printf '%s\n' "$token" | swarmctl swarm join "$@" --token - "$remote"
    fi
}

swarmctl() { "$venv/bin/swarmctl" "$@"; }

install_packages
make_environment
make_user
write_files
[ $changed = yes ] || say "Nothing to change: this is what is installed"
[ $start = yes ] || exit 0
if [ $systemd = yes ] && [ -d /run/systemd/system ]; then
    start_with_systemd
else
    start_in_background
fi
enter_cluster
