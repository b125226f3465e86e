"""Machines, as far as namespaces make them: each with a root, a network address, processes, a name
and an init of its own, on one switch. Cutting the power of one ends all of it at once.

Linux, as root. A host's / is this machine's, with what the host writes in a layer of its own.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_NEEDED = shlex.join(
    sorted({str(Path(__file__).resolve().parents[1]), sys.prefix, sys.base_prefix})
)
# Nothing is left of a host without its init; and init goes with whoever made it.
_UNSHARE = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--net", "--uts", "--pid")
_INIT = """
set -e
mount -t tmpfs none {upper}
mkdir {upper}/files {upper}/work
mount -t overlay -o lowerdir=/,upperdir={upper}/files,workdir={upper}/work host {root}
mkdir {root}/var/lib/swarm
mount --bind {state} {root}/var/lib/swarm
# What lies on a file system of its own is not in /'s layer.
number=0
for path in {needed}; do
    [ "$(stat -c %m "$path")" != / ] || continue
    number=$((number + 1))
    mkdir -p {root}$path {upper}/more$number/files {upper}/more$number/work
    layers=lowerdir=$path,upperdir={upper}/more$number/files,workdir={upper}/more$number/work
    mount -t overlay -o $layers more {root}$path
done
mount -t proc proc {root}/proc
mount --rbind /sys {root}/sys
mount --rbind /dev {root}/dev
mount -t tmpfs -o mode=755 run {root}/run
echo {name} >{root}/etc/hostname
hostname {name}
ip link set lo up
cd {root}
mkdir -p mnt
pivot_root . mnt
umount -l mnt
echo up
exec </dev/null
# Its children's children come to it when they are orphans: bash takes all of them off the table.
sleep infinity &
wait
"""


class Host:
    def __init__(self, folder: Path, name: str, address: str) -> None:
        self.name, self.address = name, address
        self._folder = folder / name
        for part in ("upper", "root", "state"):
            (self._folder / part).mkdir(parents=True)
        script = _INIT.format(
            name=name,
            needed=_NEEDED,
            **{part: self._folder / part for part in ("upper", "root", "state")},
        )
        self._errors = (self._folder / "errors").open("w+")
        self._unshare = subprocess.Popen(
            [*_UNSHARE, "--fork", "--kill-child", "--propagation", "private", "bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != "up\n":
            self._errors.seek(0)
            raise AssertionError(f"{name} does not come up: {self._errors.read()}")
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self.init = int(children.read_text().split()[0])

    def command(self, *words: str) -> list[str]:
        """What runs a command there."""
        names = ("--mount", "--net", "--uts", "--pid")
        return ["nsenter", "--target", str(self.init), *names, "--root", "--wd", "--", *words]

    def run(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{self.name}# {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def cut_power(self) -> None:
        os.kill(self.init, signal.SIGKILL)
        self._unshare.wait()

    def close(self) -> None:
        if self._unshare.poll() is None:
            self.cut_power()
        assert self._unshare.stdout is not None
        self._unshare.stdout.close()
        self._errors.close()


class Hosts:
    """Hosts on a switch, 10.77.0.1 and so on; the switch is in a network namespace, too."""

    def __init__(self, names: Sequence[str]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="swarm-hosts-", dir="/var/tmp")
        self.folder = Path(self._scratch.name)
        switch = "ip link add br0 type bridge && ip link set br0 up && echo up && exec sleep inf"
        self._switch = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--net", "sh", "-c", switch],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._switch.stdout is not None
        assert self._switch.stdout.readline() == "up\n"
        self.all: dict[str, Host] = {}
        try:
            for number, name in enumerate(names, 1):
                self.all[name] = Host(self.folder, name, f"10.77.0.{number}")
                self._plug_in(self.all[name], number)
            known = "".join(f"{host.address} {host.name}\n" for host in self.all.values())
            for host in self.all.values():
                host.run("tee", "-a", "/etc/hosts", stdin=known)
        except BaseException:
            self.close()
            raise

    def _plug_in(self, host: Host, number: int) -> None:
        here = f"swh{secrets.token_hex(4)}"
        switch = self._switch.pid
        commands = [
            f"ip link add {here} netns {switch} type veth peer name eth0 netns {host.init}",
            f"nsenter -t {switch} -n ip link set {here} master br0 up",
            f"nsenter -t {host.init} -n ip addr add 10.77.0.{number}/24 dev eth0",
            f"nsenter -t {host.init} -n ip link set eth0 up",
        ]
        for command in commands:
            subprocess.run(shlex.split(command), check=True)

    def reach(self) -> Path:
        """A program for deploy/demo-failover.sh."""
        cases = "".join(
            f'    on:{host.name}) shift 2; exec {shlex.join(host.command())} "$@" ;;\n'
            f"    halt:{host.name}) exec kill -KILL {host.init} ;;\n"
            for host in self.all.values()
        )
        path = self.folder / "reach"
        path.write_text(f'#!/bin/sh\ncase "$1:$2" in\n{cases}esac\nexit 1\n')
        path.chmod(0o755)
        return path

    def close(self) -> None:
        for host in self.all.values():
            host.close()
        self._switch.kill()
        self._switch.wait()
        assert self._switch.stdout is not None
        self._switch.stdout.close()
        self._scratch.cleanup()
