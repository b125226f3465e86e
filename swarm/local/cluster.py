"""A cluster on this machine, from `up` to `down`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from swarm.local import addresses, members, partition, processes, record, tasks
from swarm.local.errors import LocalError
from swarm.local.record import MANAGER, WORKER, LocalCluster, LocalNode
from swarm.worker.runtime import powercut
from swarm.worker.runtime.oci.root import unmount_below
from swarm.worker.runtime.port import Identity, RuntimeFailed
from swarm.worker.runtime.select import Choice, RuntimeConfig, choose

Say = Callable[[str], None]

_DAEMON_TIMEOUT_S = 30.0
_READY_TIMEOUT_S = 90.0
_SOCKET_BYTES_MAX = 100
_SOCKET = "swarmd.sock"
_PROBE = "probe"
_SHARED = (
    "This machine has no addresses in 127.0.0.0/8 to give to nodes, so they share 127.0.0.1 and "
    "differ in ports: a published port answers on one node only, and partition can't be had."
)


def default_folder() -> Path:
    """$SWARM_LOCAL_DIR, or in the user's state folder."""
    if folder := os.environ.get("SWARM_LOCAL_DIR"):
        return Path(os.path.abspath(folder))  # noqa: PTH100 - also without `..`
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "swarm" / "local"


def up(folder: Path, managers: int, workers: int, runtime: str, say: Say) -> LocalCluster:
    """Start a cluster; all its nodes are ready when this returns. What fails, or is interrupted,
    leaves nothing. LocalError, CliError, RuntimeFailed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with record.locked(folder):
        _remove_unfinished(folder)
        try:
            return _up(folder, managers, workers, runtime, say)
        except BaseException:
            _remove_everything(folder)
            raise


def clear(folder: Path) -> None:
    """Whatever is there goes; nothing there is no error. LocalError as of `down`."""
    if folder.is_dir():
        with record.locked(folder):
            _remove_everything(folder)


def _up(folder: Path, managers: int, workers: int, runtime: str, say: Say) -> LocalCluster:
    chosen = _chosen_runtime(folder, runtime, say)
    claim = addresses.claim(folder, managers + workers)
    try:
        cluster = _planned(folder, claim, managers, chosen)
        record.save(cluster)
        if claim.shared:
            say(_SHARED)
        say(f"Starting {_count(managers, MANAGER)} and {_count(workers, WORKER)} in {folder}")
        claim.free_ports()
        for node in cluster.nodes:
            processes.start(node, cluster)
        members.wait_for_daemons(cluster.nodes, _DAEMON_TIMEOUT_S)
        members.form(cluster)
    finally:
        claim.release()
    members.wait_ready(cluster, [node.name for node in cluster.nodes], _READY_TIMEOUT_S)
    cluster = replace(cluster, complete=True)
    record.save(cluster)
    return cluster


def works(folder: Path, runtime: str) -> bool:
    """Whether a container of this runtime just ran here."""
    try:
        _probe(folder, runtime)
    except RuntimeFailed:
        return False
    return True


def _chosen_runtime(folder: Path, runtime: str, say: Say) -> str:
    """One for all nodes, tried before anything is started. RuntimeFailed."""
    choice = _probe(folder, runtime)
    for reason in choice.reasons:
        say(f"Not used: {' '.join(reason.split())}")
    return choice.runtime.name


def _probe(folder: Path, runtime: str) -> Choice:
    async def probe() -> Choice:
        choice = await choose(runtime, RuntimeConfig(folder / _PROBE, _probe_identity(folder)))
        await choice.runtime.close()
        return choice

    try:
        return asyncio.run(probe())
    finally:
        shutil.rmtree(folder / _PROBE, ignore_errors=True)


def _probe_identity(folder: Path) -> Identity:
    """Follows from the folder, so that what a killed probe left can be found again."""
    return Identity("local", hashlib.sha256(bytes(folder)).hexdigest()[:16])


def _planned(folder: Path, claim: addresses.Claim, managers: int, runtime: str) -> LocalCluster:
    names = [
        (MANAGER, number) if number <= managers else (WORKER, number - managers)
        for number in range(1, len(claim.addresses) + 1)
    ]
    sockets = _socket_folder(folder)
    nodes: list[LocalNode] = []
    for (role, number), address in zip(names, claim.addresses, strict=True):
        name = f"{role}-{number}"
        socket = folder / name / _SOCKET if sockets is None else sockets / f"{name}.sock"
        group_id = 0 if claim.shared else partition.group_id(address.host)
        nodes.append(
            LocalNode(name, role, address.host, address.port, folder / name, socket, group_id)
        )
    return LocalCluster(
        folder,
        runtime,
        claim.block,
        tuple(nodes),
        sockets=str(sockets) if sockets else "",
        docker_host=os.environ.get("DOCKER_HOST", ""),
    )


def _socket_folder(folder: Path) -> Path | None:
    """A short one where the nodes' own would make a socket's name too long."""
    longest = folder / f"{MANAGER}-{addresses.NODES_MAX}" / _SOCKET
    if len(os.fsencode(longest)) <= _SOCKET_BYTES_MAX:
        return None
    return Path(tempfile.mkdtemp(prefix="swarm-local-"))


def _count(number: int, role: str) -> str:
    return f"{number} {role}{'' if number == 1 else 's'}"


# One node


def kill(cluster: LocalCluster, names: Sequence[str], *, daemon_only: bool) -> None:
    """A power cut: the nodes' daemons, agents and tasks die, all at once and unseen. With
    `daemon_only` the tasks go on. LocalError for one that does not run."""
    nodes = [cluster.node(name) for name in names]
    families = [_running_family(node) for node in nodes]
    processes.kill_all({process for family in families for process in family})
    if not daemon_only:
        for node in nodes:
            tasks.cut_power(node, cluster.docker_host)


def pause(cluster: LocalCluster, names: Sequence[str]) -> None:
    """Stop the nodes' daemons and agents where they are; their tasks go on. LocalError."""
    families = [_running_family(cluster.node(name)) for name in names]
    for family in families:
        processes.signal_all(family, signal.SIGSTOP)


def unpause(cluster: LocalCluster, names: Sequence[str]) -> None:
    families = [_running_family(cluster.node(name)) for name in names]
    for family in families:
        processes.signal_all(family, signal.SIGCONT)


def start(cluster: LocalCluster, names: Sequence[str]) -> list[str]:
    """Start the daemons of these nodes and wait until they are ready, where enough managers run
    to say so. Those that run already are left alone; the names of the others. LocalError."""
    nodes = [cluster.node(name) for name in names]
    stopped = [node for node in nodes if processes.daemon(node) is None]
    for node in stopped:
        processes.start(node, cluster)
    members.wait_for_daemons(stopped, _DAEMON_TIMEOUT_S)
    running = [node for node in cluster.managers if processes.daemon(node) is not None]
    if stopped and 2 * len(running) > len(cluster.managers):
        members.wait_ready(cluster, [node.name for node in stopped], _READY_TIMEOUT_S)
    return [node.name for node in stopped]


def _running_family(node: LocalNode) -> set[processes.ProcessId]:
    found = processes.family(node)
    if not found:
        raise LocalError(f"{node.name} does not run: `swarmctl local start {node.name}` starts it")
    return found


# All of it


@dataclass(frozen=True, slots=True)
class NodeState:
    """A line of `swarmctl local ps`. `pid` is 0 where the daemon does not run."""

    node: LocalNode
    pid: int
    state: str
    leader: bool


def states(cluster: LocalCluster) -> list[NodeState]:
    """How the nodes are, managers first, as their processes and they themselves say."""
    return [_state(node) for node in cluster.nodes]


def _state(node: LocalNode) -> NodeState:
    daemon = processes.daemon(node)
    if daemon is None:
        return NodeState(node, 0, "stopped", leader=False)
    if processes.is_paused(daemon):
        return NodeState(node, daemon.pid, "paused", leader=False)
    said = members.info(node) if node.role == MANAGER else None
    leads = said is not None and bool(said.raft_id) and said.leader_raft_id == said.raft_id
    return NodeState(node, daemon.pid, "running", leader=leads)


def down(folder: Path) -> None:
    """Nothing of the cluster is left. LocalError where there is none, or where something could
    not be removed; then its folder stays, so that `down` can be repeated."""
    if not folder.is_dir():
        record.load(folder)
    with record.locked(folder):
        known = record.exists(folder)
        _remove_everything(folder)
    if not known:
        record.load(folder)


def _remove_unfinished(folder: Path) -> None:
    if record.exists(folder) and record.load(folder).complete:
        raise LocalError(
            f"there is a local cluster in {folder} already: `swarmctl local down --dir {folder}` "
            "removes it, or give this one another --dir"
        )
    _remove_everything(folder)


def _remove_everything(folder: Path) -> None:
    cluster = record.load(folder) if record.exists(folder) else None
    nodes = cluster.nodes if cluster else ()
    places: dict[Path, Identity | None] = {folder / _PROBE: _probe_identity(folder)}
    with _undisturbed():
        if cluster:
            _end_daemons(cluster)
            partition.heal(cluster)
        for node in nodes:
            places[node.runtime_dir] = tasks.identity_of(node)
            powercut.kill_node(node.runtime_dir)
        problems = tasks.remove_all(places, cluster.docker_host if cluster else "")
    if problems:
        raise LocalError(
            f"not all tasks could be removed: {'; '.join(problems)}: repair that, and repeat "
            f"`swarmctl local down --dir {folder}`"
        )
    if cluster and cluster.sockets:
        shutil.rmtree(cluster.sockets, ignore_errors=True)
    _remove_folder(folder, [folder / _PROBE, *(node.state_dir for node in nodes)])


def _end_daemons(cluster: LocalCluster) -> None:
    doomed = {process for node in cluster.nodes for process in processes.family(node)}
    processes.kill_all(doomed | processes.strays(cluster.folder))


def _remove_folder(folder: Path, made: Sequence[Path]) -> None:
    """What we made; the folder itself goes when nothing else is in it."""
    for path in made:
        # A build that was killed leaves its containers' roots.
        unmount_below(path)
        shutil.rmtree(path, ignore_errors=True)
    (folder / record.FILE).unlink(missing_ok=True)
    (folder / record.LOCK).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


class _undisturbed:  # noqa: N801 - reads as a statement where it is used
    """A second Ctrl-C does not leave half of a cluster behind."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)
