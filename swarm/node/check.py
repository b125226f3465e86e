"""`swarmd check`: what this machine lacks for its part in a swarm, before it is put to work.

Findings are what a person can act on: what is so, why it matters, what to do. A warning costs
something; a problem keeps swarmd from its work.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from swarm.node import machine
from swarm.node.addresses import AddressError, resolve
from swarm.node.config import NodeConfig
from swarm.node.listeners import ListenError, check_free
from swarm.node.local_socket import answers
from swarm.worker.runtime.port import Identity, RuntimeFailed
from swarm.worker.runtime.select import AUTO, RuntimeConfig, choose

_GIB = 1 << 30
_SPACE_LEAST, _SPACE_COMFORTABLE = _GIB // 2, 4 * _GIB
# A follower's vote waits for its disk: near the election timeout (0.7 s) nobody could lead.
_FSYNC_SLOW_MS, _FSYNC_TOO_SLOW_MS = 10.0, 300.0


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    about: str
    text: str


def report(config: NodeConfig) -> tuple[str, bool]:
    """Lines for a person, and whether this machine has all that it needs. Takes some seconds."""
    found = list(findings(config))
    width = max(len(finding.about) for finding in found)
    lines = [f"{f.verdict:<8} {f.about:<{width}}  {f.text}" for f in found]
    problems = sum(f.verdict is Verdict.PROBLEM for f in found)
    warnings = sum(f.verdict is Verdict.WARNING for f in found)
    lines.append(f"\n{_count(problems, 'problem')}, {_count(warnings, 'warning')}")
    return "\n".join(lines), not problems


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number or 'no'} {noun}s"


def findings(config: NodeConfig) -> Iterator[Finding]:
    yield _user()
    yield from _kernel()
    yield _cgroups()
    yield _clock(datetime.now(UTC), machine.is_clock_synchronised())
    yield from _disk(config.state_dir)
    yield _address(config)
    yield _ports(config)
    yield from _runtimes(config.runtime)


def _user() -> Finding:
    if os.geteuid() == 0:
        return Finding(Verdict.OK, "user", "root")
    return Finding(
        Verdict.WARNING,
        "user",
        "not root: tasks can only be plain processes with no isolation, unless this user may use "
        "Docker or Podman; run swarmd (and this check) as root",
    )


def _kernel() -> Iterator[Finding]:
    if machine.has_module("overlay"):
        yield Finding(Verdict.OK, "kernel", "overlay file systems")
    else:
        yield _lacks_module("overlay", "images can't be layered")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return
    for kind in ("veth", "bridge"):
        if machine.has_link_type(kind):
            yield Finding(Verdict.OK, "kernel", f"network links of type {kind}")
        else:
            yield _lacks_module(kind, "containers have no network of their own")


def _lacks_module(name: str, why: str) -> Finding:
    return Finding(
        Verdict.WARNING,
        "kernel",
        f"no {name}: {why}; try `modprobe {name}`, and if there is none, the distribution's "
        "full kernel (linux-modules-extra, kernel-modules)",
    )


def _cgroups() -> Finding:
    version, controllers = machine.cgroup_controllers()
    if not version:
        return Finding(
            Verdict.WARNING,
            "cgroups",
            "none: no limits of CPU and memory, no containers by runc; mount them "
            "(`mount -t cgroup2 none /sys/fs/cgroup`)",
        )
    missing = sorted({"cpu", "memory", "pids"} - controllers)
    if missing:
        return Finding(
            Verdict.WARNING,
            "cgroups",
            f"version {version} without {', '.join(missing)}: limits of it are not kept; boot "
            "with `cgroup_enable=memory` where that is what is missing",
        )
    return Finding(Verdict.OK, "cgroups", f"version {version}, with cpu, memory and pids")


def _clock(now: datetime, synchronised: bool | None) -> Finding:
    installed = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    if now < installed:
        return Finding(
            Verdict.PROBLEM,
            "clock",
            f"{now:%Y-%m-%d %H:%M} UTC is before swarm was installed here, so certificates are "
            "not valid yet: set the clock (`timedatectl set-ntp true`)",
        )
    if synchronised is None:
        return Finding(
            Verdict.WARNING, "clock", "can't tell whether it is synchronised: `timedatectl` may"
        )
    if not synchronised:
        return Finding(
            Verdict.WARNING,
            "clock",
            "not synchronised: certificates and what logs say depend on it; install chrony or "
            "systemd-timesyncd (`timedatectl set-ntp true`)",
        )
    return Finding(Verdict.OK, "clock", "synchronised")


def _disk(state_dir: Path) -> Iterator[Finding]:
    folder = machine.existing(state_dir)
    free = shutil.disk_usage(folder).free
    yield _space(folder, free)
    try:
        median_ms, slowest_ms = machine.fsync_ms(folder)
    except OSError as error:
        yield Finding(
            Verdict.PROBLEM,
            "disk",
            f"{folder} can't be written to: {error.strerror}; run this as the user that swarmd "
            "runs as, or choose another --state-dir",
        )
    else:
        yield _fsync(folder, median_ms, slowest_ms)


def _space(folder: Path, free: int) -> Finding:
    text = f"{free / _GIB:.1f} GiB free in {folder}"
    if free < _SPACE_LEAST:
        return Finding(
            Verdict.PROBLEM,
            "space",
            f"{text}: a manager refuses writes below that; make room, or choose another "
            "--state-dir",
        )
    if free < _SPACE_COMFORTABLE:
        return Finding(Verdict.WARNING, "space", f"{text}: few images have room in that")
    return Finding(Verdict.OK, "space", text)


def _fsync(folder: Path, median_ms: float, slowest_ms: float) -> Finding:
    text = f"fsync in {folder} takes {median_ms:.1f} ms, {slowest_ms:.1f} ms at worst"
    if median_ms > _FSYNC_TOO_SLOW_MS:
        return Finding(
            Verdict.PROBLEM,
            "disk",
            f"{text}: a manager on it would lose its elections; choose a local disk for "
            "--state-dir, or make this node a worker",
        )
    if median_ms > _FSYNC_SLOW_MS:
        return Finding(
            Verdict.WARNING,
            "disk",
            f"{text}: each change of the swarm waits for that on a manager; an SSD takes 1 ms",
        )
    return Finding(Verdict.OK, "disk", text)


def _address(config: NodeConfig) -> Finding:
    try:
        addresses = resolve(config.listen_addr, config.advertise_addr)
    except AddressError as error:
        return Finding(Verdict.PROBLEM, "address", str(error))
    if addresses.advertise_host.startswith("127."):
        return Finding(
            Verdict.WARNING,
            "address",
            f"{addresses.advertise_host} would be told to others, who can't reach it: give "
            "--advertise-addr",
        )
    return Finding(Verdict.OK, "address", f"{addresses.advertise_host} is told to other nodes")


def _ports(config: NodeConfig) -> Finding:
    if answers(config.socket):
        return Finding(Verdict.OK, "ports", f"swarmd runs here already, on {config.socket}")
    try:
        addresses = resolve(config.listen_addr, config.advertise_addr)
        check_free(addresses)
    except AddressError:
        return Finding(Verdict.WARNING, "ports", "not looked at: see the address")
    except ListenError as error:
        return Finding(Verdict.PROBLEM, "ports", f"{error}; a worker needs neither port")
    ports = f"{addresses.join_port} and {addresses.node_port}"
    return Finding(Verdict.OK, "ports", f"{ports} are free; a manager's firewall lets them in")


def _runtimes(wanted: str) -> Iterator[Finding]:
    """ "Works" means that a container was just run and removed."""
    works: list[str] = []
    for name in AUTO if wanted == "auto" else (wanted,):
        version, reason = asyncio.run(_probe(name))
        if reason:
            yield Finding(Verdict.OK, "runtime", f"{name} is not used: {reason}")
        else:
            works.append(name)
            text = f"{name} works{f', {version}' if version else ''}"
            yield Finding(Verdict.OK, "runtime", text)
    if not works:
        yield Finding(
            Verdict.PROBLEM,
            "runtime",
            f"none that --runtime {wanted} allows works: install Docker, Podman or runc",
        )
    elif works == ["process"]:
        yield Finding(
            Verdict.WARNING,
            "runtime",
            "tasks would be plain processes with no isolation: install Docker, Podman or runc",
        )


async def _probe(name: str) -> tuple[str, str]:
    """Its version, and why it does not work."""
    with tempfile.TemporaryDirectory(prefix="swarm-check-", ignore_cleanup_errors=True) as folder:
        identity = Identity(f"check{os.getpid()}", f"check{os.getpid()}")
        try:
            choice = await choose(name, RuntimeConfig(Path(folder), identity))
        except RuntimeFailed as error:
            return "", str(error).removeprefix("no runtime works on this node: ").removeprefix(
                f"{name}: "
            )
        try:
            return choice.version, ""
        finally:
            await choice.runtime.close()
