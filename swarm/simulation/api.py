"""Users' requests in virtual time, as `swarm.manager.api` has them over gRPC: what is decided is
`swarm.manager.core.requests`."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from swarm.api.v1.node_pb2 import NodeSpec
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.core import events as ev
from swarm.manager.core import requests
from swarm.manager.core.requests import LOOK_AGAIN_S, AskLeader, Here, Route
from swarm.manager.core.store import Ids, View
from swarm.manager.core.validate import InvalidRequest
from swarm.simulation.loop import Loop, Signal, Wait, either
from swarm.simulation.manager_host import ManagerHost

# As of callers without a deadline of their own.
DEADLINE_S = 15.0
_READ_S = 5.0

Steps = Generator["float | Wait", Any, Any]
Look = Callable[[View], Any]
ChangeSpec = Callable[[NodeSpec], None]
Build = Callable[[View, Ids, int], Transaction]


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
    """`removes`: asked again, it is known to be done before it can be built."""

    request_id: str
    build: Build
    removes: bool = False


def change(host: ManagerHost, request: Change, *, forwarded: bool) -> Steps:
    """Forwarding.on_leader, for changes."""
    loop = host.cluster.loop
    route = Route(forwarded, loop.now + DEADLINE_S)
    while True:
        try:
            assert host.core is not None, "its processes end with it"
            step = route.next(
                leads=host.core.leads_and_knows,
                leader=host.core.leader,
                myself=host.raft_id,
                now=loop.now,
            )
            if isinstance(step, Here):
                return (yield from _commit(host, request))
            if isinstance(step, AskLeader):
                return (yield from _forward(host, request, step))
            raise Unavailable("no leader here")
        except InvalidRequest as invalid:
            return Refused(invalid.message)
        except Unavailable as unavailable:
            if not route.ask_again(loop.now):
                return NotKnown(str(unavailable))
        yield Wait(host.role_change, LOOK_AGAIN_S)


def read(host: ManagerHost, look: Look) -> Steps:
    """ControlRequests.read, then what the caller wants of the store."""
    answer = yield Wait(host.promise(ev.Read), _READ_S)
    if answer is None:
        return NotKnown("no leader")
    return Done(host.store.revision, look(host.store))


def _commit(host: ManagerHost, request: Change) -> Steps:
    """ControlRequests.commit."""
    done = requests.effect_of(host.store, request.request_id) if request.removes else None
    if done is not None:
        return Done(done.revision)

    def build() -> Transaction:
        ids = requests.RequestIds(request.request_id)
        return request.build(host.store, ids, host.now_ns())

    attempts = requests.commit(request.request_id, lambda: host.store, build)
    try:
        transaction = next(attempts)
        while True:
            transaction = attempts.send((yield from _propose(host, transaction)))
    except StopIteration as done:
        return Done(done.value.revision)


def _propose(host: ManagerHost, transaction: Transaction) -> Steps:
    answer = yield Wait(host.promise(lambda token: ev.Propose(token, transaction)))
    if answer.verdict is None:
        raise Unavailable(answer.refused or "leadership changed while it was under way")
    return answer.verdict


def _forward(host: ManagerHost, request: Change, leader: AskLeader) -> Steps:
    name = host.peers.get(leader.raft_id)
    if name is None:
        raise Unavailable("no leader")
    loop = host.cluster.loop
    deadline = loop.now + leader.timeout_s
    answer = call(host, name, lambda other: change(other, request, forwarded=True))
    while not answer.is_set and loop.now < deadline:
        yield Wait(either(loop, answer, host.role_change), deadline - loop.now)
        assert host.core is not None, "its processes end with it"
        if requests.is_given_up(leader.raft_id, host.core.leader):
            break
    outcome = answer.value
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
