"""Users' requests, as `swarm.manager.api.requests` and `forwarding` handle them: built on the
leader from its store, committed under an id that follows from the request's, and asked again
while the outcome is not known."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from swarm.api.v1.node_pb2 import NodeSpec
from swarm.api.v1.store_pb2 import VERDICT_OK, Transaction, Verdict
from swarm.manager.core import events as ev
from swarm.manager.core.store import Ids, View, check_size
from swarm.manager.core.store.ids import id_from_number
from swarm.manager.core.validate import InvalidRequest, refusal
from swarm.simulation.loop import Loop, Signal, Wait
from swarm.simulation.manager_host import ManagerHost

_ATTEMPTS = 5
_ATTEMPT_S = 5.0
DEADLINE_S = 15.0
_READ_S = 5.0

Steps = Generator["float | Wait", Any, Any]
Look = Callable[[View], Any]
ChangeSpec = Callable[[NodeSpec], None]
Build = Callable[[View, Ids, int], Transaction]


class RequestIds:
    """As in `swarm.manager.api.requests`, which needs gRPC: the same request makes the same ids."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._count = 0

    def new(self) -> str:
        self._count += 1
        text = f"{self._request_id}:{self._count}"
        return id_from_number(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


class Unavailable(Exception):  # noqa: N818
    """Not done, or not known to be done."""


@dataclass(frozen=True, slots=True)
class Done:
    """`verdict` is of the attempt that took effect; `answer` is what a read found."""

    revision: int
    answer: Any = None


@dataclass(frozen=True, slots=True)
class Refused:
    message: str


@dataclass(frozen=True, slots=True)
class NotKnown:
    message: str


Outcome = Done | Refused | NotKnown


@dataclass(frozen=True, slots=True)
class Change:
    """`already`: asked again, is it known to be done before it can be built? (a removal)"""

    request_id: str
    build: Build
    removes: bool = False


def change(host: ManagerHost, request: Change, *, forwarded: bool) -> Steps:
    """Forwarding.on_leader, for changes."""
    loop = host.cluster.loop
    deadline = loop.now + (_ATTEMPT_S if forwarded else DEADLINE_S)
    while True:
        try:
            assert host.core is not None, "its processes end with it"
            if host.core.leads_and_knows:
                return (yield from _commit(host, request))
            if forwarded:
                raise Unavailable("no leader here")
            return (yield from _forward(host, request, deadline))
        except InvalidRequest as invalid:
            return Refused(invalid.message)
        except Unavailable as unavailable:
            if forwarded or loop.now + 0.2 > deadline:
                return NotKnown(str(unavailable))
        yield Wait(host.role_change, 0.1)


def read(host: ManagerHost, look: Look) -> Steps:
    """ControlRequests.read, then what the caller wants of the store."""
    answer = yield Wait(host.promise(ev.Read), _READ_S)
    if answer is None:
        return NotKnown("no leader")
    return Done(host.store.revision, look(host.store))


def _commit(host: ManagerHost, request: Change) -> Steps:
    """ControlRequests.commit."""
    if request.removes and (found := _is_done(host, request.request_id)) is not None:
        return Done(found.revision)
    verdict = Verdict()
    for attempt in range(_ATTEMPTS):
        attempt_id = f"{request.request_id}#{attempt}"
        known = host.store.verdict(attempt_id)
        if known is None:
            ids = RequestIds(request.request_id)
            transaction = request.build(host.store, ids, host.now_ns())
            if too_large := check_size(transaction):
                raise InvalidRequest(too_large)
            transaction.request_id = attempt_id
            known = yield from _propose(host, transaction)
        verdict = known
        if verdict.code == VERDICT_OK:
            return Done(verdict.revision)
    raise refusal(verdict)


def _is_done(host: ManagerHost, request_id: str) -> Verdict | None:
    for attempt in range(_ATTEMPTS):
        verdict = host.store.verdict(f"{request_id}#{attempt}")
        if verdict is not None and verdict.code == VERDICT_OK:
            return verdict
    return None


def _propose(host: ManagerHost, transaction: Transaction) -> Steps:
    answer = yield Wait(host.promise(lambda token: ev.Propose(token, transaction)))
    if answer.verdict is None:
        raise Unavailable(answer.refused or "leadership changed while it was under way")
    return answer.verdict


def _forward(host: ManagerHost, request: Change, deadline: float) -> Steps:
    assert host.core is not None, "its processes end with it"
    name = host.peers.get(host.core.leader)
    if name is None:
        raise Unavailable("no leader")
    patience = max(0.1, min(_ATTEMPT_S, deadline - host.cluster.loop.now))
    answer = call(host, name, lambda leader: change(leader, request, forwarded=True))
    outcome = yield Wait(answer, patience)
    if outcome is None or isinstance(outcome, NotKnown):
        raise Unavailable(outcome.message if outcome is not None else "no answer")
    return outcome


def call(host: ManagerHost, target: str, method: Callable[[ManagerHost], Steps]) -> Signal:
    return call_from(host.cluster, host.name, target, method)


def call_from(
    cluster: Any, source: str, target: str, method: Callable[[ManagerHost], Steps]
) -> Signal:
    """A call to the manager on another machine. The signal may stay silent for ever."""
    loop: Loop = cluster.loop
    network = cluster.network
    answered = Signal(loop)

    def arrive() -> None:
        manager = cluster.machines[target].manager
        if manager is None or not manager.running:
            reply(NotKnown("connection refused"))
        else:
            running = manager.run(method(manager))
            running.done.when_set(lambda: reply(running.done.value))

    def reply(outcome: Outcome) -> None:
        network.datagram(target, source, lambda: answered.set(outcome))

    network.datagram(source, target, arrive)
    return answered


def ask(
    cluster: Any,
    source: str,
    rng: random.Random,
    method: Callable[[ManagerHost], Steps],
    patience_s: float,
) -> Steps:
    """A client: tries one manager after another until somebody knows, or patience ends."""
    loop: Loop = cluster.loop
    deadline = loop.now + patience_s
    while loop.now < deadline:
        names = cluster.manager_names()
        target = names[rng.randrange(len(names))]
        outcome = yield Wait(
            call_from(cluster, source, target, method), min(6.0, deadline - loop.now)
        )
        if outcome is not None and not isinstance(outcome, NotKnown):
            return outcome
        yield rng.uniform(0.05, 0.3)
    return NotKnown("out of patience")
