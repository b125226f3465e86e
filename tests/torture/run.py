"""One run: a cluster, its clients and faults; then all is healed, read once more, and judged."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import Cluster
from benchmarks.network import Network
from swarm.api.v1.daemon_pb2 import InitRequest
from swarm.cli.errors import CliError
from tests.torture import replicas
from tests.torture.clients import LAST_READER, Clients, History, Session
from tests.torture.disks import Disk
from tests.torture.managers import Managers
from tests.torture.nemesis import Nemesis
from tests.torture.plan import CALM_S, Kind, draw
from tests.torture.verdict import Verdict, judge

# So that a manager that was away needs a snapshot now and then.
_SNAPSHOT_INTERVAL = 1000
# A daemon that gRPC ends leaves word of it.
_SAY_WHY = {"GRPC_VERBOSITY": "ERROR"}
# With everything healed, the slowest manager answers again in this time.
_SERVES_WITHIN_S = 60.0
_ASK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Settings:
    """`folder` gets the plan, the history, and the daemons' logs."""

    managers: int
    seconds: float
    seed: int
    kinds: Sequence[Kind]
    folder: Path


async def torture(settings: Settings) -> Verdict:
    plan = draw(settings.seed, settings.managers, settings.seconds, settings.kinds)
    (settings.folder / "plan.txt").write_text("".join(f"{fault}\n" for fault in plan))
    with History(settings.folder / "history.jsonl") as history:
        async with _cluster(settings) as managers:
            nemesis = Nemesis(managers, settings.folder / "faults.log")
            violations: list[str] = []
            keeping = asyncio.create_task(managers.keep())
            try:
                with Clients(managers.sockets, history, settings.seed) as clients:
                    began = time.monotonic()
                    await nemesis.run(plan)
                    ended = time.monotonic()
                    await asyncio.sleep(CALM_S)
                    clients.check()
                violations += await _read_everywhere(managers, history)
            finally:
                keeping.cancel()
            managers.power_cut()
            violations += _compare(managers)
            violations += managers.wrongs()
            verdict = judge(history.operations, violations)
            verdict.figures |= {
                "seed": settings.seed,
                "managers": settings.managers,
                "seconds": round(ended - began),
                "faults": {str(kind): count for kind, count in sorted(nemesis.done.items())},
                "elections": managers.elections(),
                "restarts": managers.restarts,
                "refused_to_start": len(managers.endings),
            }
            return verdict


@asynccontextmanager
async def _cluster(settings: Settings) -> AsyncGenerator[Managers]:
    network = Network()
    try:
        cluster = Cluster(
            managers=settings.managers,
            network=network,
            init=InitRequest(snapshot_interval=_SNAPSHOT_INTERVAL),
            environment=_SAY_WHY,
        )
        try:
            disks = {node.number: Disk(node.folder / "state") for node in cluster.nodes}
            async with cluster:
                try:
                    yield Managers(cluster, network, disks)
                finally:
                    _keep_logs(cluster, settings.folder)
        finally:
            await cluster.close()
    finally:
        network.close()


async def _read_everywhere(managers: Managers, history: History) -> list[str]:
    """Every manager says once more what there is, for the history's end. What is wrong if one
    does not."""
    keys = sorted({operation.key for operation in history.operations})
    deadline = time.monotonic() + _SERVES_WITHIN_S
    silent: list[str] = []
    for number, socket in enumerate(managers.sockets, 1):
        with Session(f"{LAST_READER}-{number}", [socket], history) as session:
            while problem := await asyncio.to_thread(_read_all, session, keys):
                if time.monotonic() > deadline:
                    silent.append(
                        f"m{number} serves nobody {_SERVES_WITHIN_S:g} s after: {problem}"
                    )
                    break
                await asyncio.sleep(_ASK_AGAIN_S)
    return silent


def _read_all(session: Session, keys: Sequence[str]) -> str:
    """Why there is no answer, or nothing."""
    try:
        session.read_all(keys)
    except CliError as error:
        return str(error)
    return ""


def _compare(managers: Managers) -> list[str]:
    found = replicas.compare([node.folder / "state" for node in managers.cluster.nodes])
    return [f"the managers' tables differ: {found.difference}"] if found.difference else []


def _keep_logs(cluster: Cluster, folder: Path) -> None:
    for node in cluster.nodes:
        if node.log.exists():
            shutil.copyfile(node.log, folder / f"{node.name}.log")
