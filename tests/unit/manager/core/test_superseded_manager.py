"""A manager of a cluster that was made anew elsewhere, and the agents that know of it."""

import random

import pytest

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.dispatcher_pb2 import AgentMessage, SessionHello
from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.raft_pb2 import ConfState, HardState, Snapshot
from swarm.api.v1.store_pb2 import Change, LogPayload, Transaction
from swarm.manager.core import effects as fx
from swarm.manager.core import events as ev
from swarm.manager.core.consensus import storage_from
from swarm.manager.core.manager import ManagerCore
from swarm.manager.core.store import RandomIds, Store, wrap


@pytest.fixture
def core() -> ManagerCore:
    store = Store()
    rows = (Cluster(id="c", incarnation=4), Node(id="n1"))
    changes = [Change(create=wrap(row)) for row in rows]
    store.apply(1, 1, LogPayload(transactions=[Transaction(changes=changes)]))
    snapshot = Snapshot(index=1, term=1, conf_state=ConfState(voters=[1, 2]))
    rng = random.Random(1)
    return ManagerCore(
        raft_id=1,
        storage=storage_from(snapshot, HardState(term=1, commit=1), []),
        store=store,
        rng=rng,
        ids=RandomIds(rng.getrandbits),
        nonce=b"12345678",
    )


def hello(core: ManagerCore, session: str, incarnation: int) -> list[fx.Effect]:
    message = AgentMessage(hello=SessionHello(incarnation=incarnation))
    events = [ev.SessionOpened(session, "n1"), ev.SessionMessage(session, message)]
    return core.handle_all(events, 1.0, 10**18)


def test_an_agent_that_has_seen_a_later_incarnation_is_sent_on_and_it_is_said_once(
    core: ManagerCore,
) -> None:
    first, second = hello(core, "s1", 5), hello(core, "s2", 5)
    assert [e.session_id for e in first if isinstance(e, fx.SessionClose)] == ["s1"]
    assert [e.session_id for e in second if isinstance(e, fx.SessionClose)] == ["s2"]
    (notice,) = (e for e in first + second if isinstance(e, fx.Notice))
    assert "leave --force" in notice.text
    assert core.sessions.session_of("n1") is None


def test_agents_of_this_incarnation_or_an_earlier_one_are_served(core: ManagerCore) -> None:
    for session, incarnation in (("s1", 4), ("s2", 3)):
        effects = hello(core, session, incarnation)
        assert not any(isinstance(e, fx.SessionClose) and e.session_id == session for e in effects)
        assert core.sessions.session_of("n1") == session
