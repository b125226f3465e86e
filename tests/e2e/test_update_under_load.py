"""An HTTP service with a health check is updated, rolled back and moved off a node that drains,
under a client's load: not one request fails."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from local_clusters import Local, Locals, until

pytestmark = pytest.mark.timeout(300)

PORT = 8090
UPDATE = (
    "--update-order=start-first",
    "--update-monitor=1s",
    "--rollback-order=start-first",
    "--rollback-monitor=1s",
)
HEALTH = ("--health-cmd=true", "--health-interval=1s")


@pytest.fixture
def locals_() -> Iterator[Locals]:
    made = Locals()
    yield made
    made.close()


@dataclass
class Load:
    """What clients saw that ask again soon after they are answered, on a new connection."""

    answered_by: dict[str, int] = field(default_factory=dict[str, int])
    failures: list[str] = field(default_factory=list[str])


@contextmanager
def load(addresses: list[str]) -> Iterator[Load]:
    seen, over = Load(), threading.Event()

    def ask(address: str) -> None:
        while not over.wait(0.01):
            connection = http.client.HTTPConnection(address, PORT, timeout=30)
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                lines = dict(
                    line.split(": ", 1)
                    for line in answer.read().decode().split("\n\n")[0].split("\n")
                )
                seen.answered_by[lines["task"]] = seen.answered_by.get(lines["task"], 0) + 1
            except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
                seen.failures.append(f"{address}: {error!r}")
            finally:
                connection.close()

    threads = [threading.Thread(target=ask, args=(address,)) for address in addresses]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def state(local: Local) -> str:
    return local.do("service", "inspect", "--format", "{{.UpdateStatus.State}}", "web").strip()


def test_not_one_request_fails_in_an_update_a_rollback_and_a_drain(locals_: Locals) -> None:
    local = locals_.up(1, 1, "oci" if os.geteuid() == 0 else "process")
    words = ("--name=web", "--replicas=2", f"-p={PORT}:8000", *UPDATE, *HEALTH, "swarm/demo")
    local.do("service", "create", *words)
    addresses = [local.address(name) for name in local.nodes()]
    with load(addresses) as seen:
        first = set(local.running("web"))
        until(lambda: first <= set(seen.answered_by), saying="every task answers")
        local.do("service", "update", "--env-add=VERSION=2", "web")
        assert state(local) == "completed"
        second = set(local.running("web"))
        assert not first & second
        until(lambda: second <= set(seen.answered_by), saying="every new task answers")
        local.do("service", "rollback", "web")
        assert state(local) == "rollback_completed"
        third = set(local.running("web"))
        assert not second & third
        until(lambda: third <= set(seen.answered_by), saying="every task rolled back to answers")
        drain = ("--availability=drain", "--max-unavailable=1", "worker-1")
        local.do("node", "update", *drain)
        assert not local.do("node", "ps", "-q", "--filter=desired-state=running", "worker-1")
        fourth = set(local.running("web"))
        assert len(fourth) == 2
        assert third - fourth
        until(lambda: fourth <= set(seen.answered_by), saying="every task that moved answers")
    assert seen.failures == []


def test_an_update_that_fails_is_rolled_back_and_nobody_notices(locals_: Locals) -> None:
    local = locals_.up(1, 1)
    words = ("--name=web", "--replicas=2", f"-p={PORT}:8000", *UPDATE, "swarm/demo")
    local.do("service", "create", "--update-failure-action=rollback", *words)
    before = set(local.running("web"))
    with load([local.address("worker-1")]) as seen:
        update = local.run("service", "update", "--image=swarm/none", "web")
        until(lambda: before <= set(seen.answered_by), saying="every task answers")
    assert update.returncode == 1
    assert "service update rolled back: " in update.stderr
    assert set(local.running("web")) == before
    assert seen.failures == []
