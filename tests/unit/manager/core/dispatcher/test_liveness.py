"""Who is late, to the letter of DESIGN's "Who is alive"."""

import pytest

from swarm.api.v1.cluster_pb2 import Cluster, ClusterSpec
from swarm.api.v1.node_pb2 import (
    NODE_STATE_DOWN,
    NODE_STATE_READY,
    NODE_STATE_UNKNOWN,
    Node,
    NodeStatus,
)
from swarm.api.v1.store_pb2 import LogPayload
from swarm.manager.core.dispatcher.liveness import SAID_GOODBYE, SILENT, Liveness
from swarm.manager.core.store import Draft, Store

NAMES = "abcde"


class Leader:
    """A store with nodes, and the liveness that follows it."""

    def __init__(self, state=NODE_STATE_READY, names=NAMES):
        self.store = Store(check_mutation=True)
        self.liveness = Liveness()
        self.index = 0
        self.write(lambda d: d.create(Cluster(id="c", spec=ClusterSpec())), 0.0)
        for name in names:
            node = Node(id=name, status=NodeStatus(state=state))
            self.write(lambda d, node=node: d.create(node), 0.0)
        self.liveness.start(self.store, 100.0)

    def write(self, change, now):
        draft = Draft(self.store)
        change(draft)
        self.index += 1
        payload = LogPayload(transactions=draft.transactions())
        applied = self.store.apply(self.index, 1, payload)
        self.liveness.changed(applied.changes, self.store, now)

    def set_state(self, name, state, now):
        node = Node()
        node.CopyFrom(self.store.node(name))
        node.status.state = state
        self.write(lambda d: d.replace(node), now)

    def due(self, now):
        report = self.liveness.due(now)
        return {t.node_id: (t.state, t.message) for t in report.transitions}

    def hear(self, names, at):
        for name in names:
            self.liveness.heard(name, at)


@pytest.fixture
def leader():
    return Leader()


def test_down_after_four_and_a_half_seconds_of_silence_and_not_before(leader):
    leader.hear(NAMES, 101.0)
    leader.hear("abcd", 105.0)
    assert leader.due(105.4) == {}
    assert leader.due(105.5) == {"e": (NODE_STATE_DOWN, SILENT)}


def test_a_new_leader_gives_every_node_the_whole_time(leader):
    leader.hear("abc", 104.0)
    assert leader.due(104.4) == {}
    assert sorted(leader.due(104.5)) == ["d", "e"]


def test_said_again_until_the_store_has_it(leader):
    leader.hear("abcd", 104.0)
    assert "e" in leader.due(105.0)
    assert "e" in leader.due(105.1)
    leader.set_state("e", NODE_STATE_DOWN, 105.2)
    assert leader.due(105.2) == {}


def test_ready_as_soon_as_heard_again(leader):
    leader.hear("abcd", 104.0)
    leader.due(105.0)
    leader.set_state("e", NODE_STATE_DOWN, 105.1)
    leader.hear("e", 107.0)
    assert leader.due(107.0) == {"e": (NODE_STATE_READY, "")}
    leader.set_state("e", NODE_STATE_READY, 107.1)
    leader.hear("abcd", 111.0)
    assert leader.due(111.4) == {}
    assert leader.due(111.5) == {"e": (NODE_STATE_DOWN, SILENT)}


def test_heard_while_going_down_cancels_it(leader):
    leader.hear("abcd", 104.0)
    assert "e" in leader.due(105.0)
    leader.hear("e", 105.1)
    assert leader.due(105.2) == {}


def test_a_node_that_joined_is_ready_when_heard_of():
    leader = Leader(state=NODE_STATE_UNKNOWN)
    assert leader.due(100.1) == {}
    leader.hear("a", 100.2)
    assert leader.due(100.2) == {"a": (NODE_STATE_READY, "")}
    leader.write(lambda d: d.create(Node(id="new")), 101.0)
    leader.hear(["new"], 101.5)
    assert "new" in leader.due(101.5)


def test_goodbye_is_down_at_once_and_older_news_do_not_revive(leader):
    leader.hear("a", 101.0)
    leader.liveness.goodbye("a", 102.0)
    assert leader.due(102.0) == {"a": (NODE_STATE_DOWN, SAID_GOODBYE)}
    leader.hear("a", 101.5)
    assert leader.due(102.1) == {"a": (NODE_STATE_DOWN, SAID_GOODBYE)}
    leader.hear("a", 103.0)
    assert leader.due(103.0) == {}


def test_an_old_goodbye_that_comes_late_changes_nothing(leader):
    leader.hear("a", 103.0)
    leader.liveness.goodbye("a", 102.0)
    assert leader.due(103.0) == {}


def test_lateness_of_this_manager_moves_all_deadlines(leader):
    leader.hear("abcd", 104.0)
    leader.liveness.late(3.0)
    assert leader.due(107.4) == {}
    leader.hear("abcd", 107.4)
    assert sorted(leader.due(107.5)) == ["e"]
    leader.hear("abcd", 108.0)
    assert "a" not in leader.due(112.4), "what is heard later has no credit, and needs none"
    assert "a" in leader.due(112.5) or leader.due(114.5)


def test_most_nodes_at_once_are_given_two_periods_more(leader):
    leader.hear("ab", 104.0)
    leader.hear("cde", 100.5)
    report = leader.liveness.due(105.0)
    assert report.transitions == []
    (notice,) = report.notices
    assert notice.startswith("3 of 5 nodes fell silent at once: waiting 2 s more")
    leader.hear("c", 106.0)
    leader.hear("ab", 106.0)
    assert leader.due(106.9) == {}
    assert sorted(leader.due(107.0)) == ["d", "e"]


def test_half_of_the_nodes_is_not_most():
    leader = Leader(names="abcd")
    leader.hear("ab", 104.0)
    assert sorted(leader.due(105.0)) == ["c", "d"]


def test_nodes_that_fall_silent_a_moment_apart_count_together(leader):
    leader.hear("ab", 104.0)
    for name, at in (("c", 100.1), ("d", 100.5), ("e", 101.0)):
        leader.hear(name, at)
    assert leader.due(104.6) == {}
    assert leader.due(105.0) == {}
    assert leader.due(105.5) == {}
    leader.hear("ab", 106.0)
    assert sorted(leader.due(108.0)) == ["c", "d", "e"]


def test_the_period_is_the_clusters(leader):
    cluster = Cluster()
    cluster.CopyFrom(leader.store.cluster())
    cluster.spec.heartbeat_period_ns = 200_000_000
    leader.write(lambda d: d.replace(cluster), 100.0)
    leader.hear("abcd", 100.9)
    assert leader.due(100.89) == {}
    assert leader.due(100.9) == {"e": (NODE_STATE_DOWN, SILENT)}


def test_a_removed_node_is_forgotten(leader):
    leader.hear("abcd", 104.0)
    assert "e" in leader.due(105.0)
    leader.write(lambda d: d.delete(2, "e"), 105.1)
    assert leader.due(105.2) == {}
    leader.hear("e", 105.3)
    assert leader.due(105.3) == {}


def test_the_next_deadline_is_never_late(leader):
    leader.hear("abcd", 103.0)
    assert leader.liveness.next_deadline() <= 104.5
    leader.due(104.5)
    assert 104.5 < leader.liveness.next_deadline() <= 107.5
