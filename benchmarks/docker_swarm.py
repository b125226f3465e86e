"""Three managers of Docker Swarm, each in namespaces of its own, and services created at their
leader."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from benchmarks.cluster import DEMO
from benchmarks.docker_api import EngineApi
from benchmarks.engines import Engine
from benchmarks.network import Network
from benchmarks.report import Report
from benchmarks.writes import CREATIONS, SWARM, UPDATES, Used, row_of

_READY_TIMEOUT_S = 60.0


@contextlib.contextmanager
def three_managers() -> Generator[list[Engine], None, None]:
    """The first one leads."""
    with contextlib.ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        engines: list[Engine] = []
        for number in (1, 2, 3):
            engine = Engine(f"m{number}", network.machine(number))
            stack.callback(engine.stop)
            engine.start()
            engines.append(engine)
        first = engines[0].api
        listen = "0.0.0.0:2377"
        own = {"ListenAddr": listen, "AdvertiseAddr": Network.address(1)}
        first.call("POST", "/swarm/init", own)
        token = first.call("GET", "/swarm")["JoinTokens"]["Manager"]
        for number in (2, 3):
            join = {
                "ListenAddr": listen,
                "AdvertiseAddr": Network.address(number),
                "RemoteAddrs": [f"{Network.address(1)}:2377"],
                "JoinToken": token,
            }
            engines[number - 1].api.call("POST", "/swarm/join", join)
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while _reachable(first) < len(engines):
            if time.monotonic() > deadline:
                raise TimeoutError("Docker Swarm's managers do not reach each other")
            time.sleep(0.1)
        yield engines


def _reachable(api: EngineApi) -> int:
    managers: list[dict[str, Any]] = [
        node.get("ManagerStatus") or {} for node in api.call("GET", "/nodes")
    ]
    return sum(manager.get("Reachability") == "reachable" for manager in managers)


def _service(name: str) -> dict[str, object]:
    container = {"Image": DEMO, "Command": ["sleep", "100000"], "StopGracePeriod": 0}
    return {
        "Name": name,
        "TaskTemplate": {"ContainerSpec": container, "RestartPolicy": {"Delay": 0}},
        "Mode": {"Replicated": {"Replicas": 0}},
    }


# Makes one write of a client, with a number of its own.
_Write = Callable[[EngineApi, int], None]


def _creations(client: int) -> _Write:
    run = f"{secrets.token_hex(4)}-{client}"

    def create(api: EngineApi, number: int) -> None:
        api.call("POST", "/services/create", _service(f"{run}-{number}"))

    return create


def _updates(client: int) -> _Write:
    """A label of a service of the client's own."""
    name = f"{secrets.token_hex(4)}-{client}"
    found: dict[str, Any] = {}

    def update(api: EngineApi, number: int) -> None:
        if not found:
            found.update(api.call("POST", "/services/create", _service(name)))
        current = api.call("GET", f"/services/{found['ID']}")
        version = current["Version"]["Index"]
        spec = {**current["Spec"], "Labels": {"x": str(number)}}
        api.call("POST", f"/services/{found['ID']}/update?version={version}", spec)

    return update


def _closed_loop(
    engine: Engine, kind: str, clients: int, seconds: float
) -> tuple[list[float], float]:
    """A thread and a connection a client."""
    latencies: list[float] = []
    started = time.perf_counter()

    def client(number: int) -> None:
        api = engine.api
        write = _creations(number) if kind == CREATIONS else _updates(number)
        count = 0
        while (begun := time.perf_counter()) < started + seconds:
            write(api, count)
            latencies.append(time.perf_counter() - begun)
            count += 1
        api.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, time.perf_counter() - started


async def writes(counts: list[int], seconds: float, rounds: int, report: Report) -> None:
    with three_managers() as engines:
        await asyncio.sleep(1)
        pids = [pid for engine in engines for pid in engine.pids()]
        for clients in counts:
            for kind in (CREATIONS, UPDATES):
                used = Used(pids)
                runs = [_closed_loop(engines[0], kind, clients, seconds) for _ in range(rounds)]
                report.add(row_of(kind, clients, SWARM, runs, used))
