"""A group of nodes in memory, driven by hand: what the tests of the core share."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from swarm.manager.core.raft import (
    ENTRY_CONF_CHANGE,
    ConfChange,
    Config,
    ConfState,
    Entry,
    MemoryStorage,
    Message,
    RawNode,
    Ready,
    Role,
    Snapshot,
)


class AppendingStorage(MemoryStorage):
    """Offers the state of its node's state machine as the newest snapshot."""

    latest: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        return self.latest if self.latest is not None else super().snapshot()


class Member:
    """A node with its storage and a state machine that appends what it is given."""

    def __init__(self, config: Config, storage: AppendingStorage) -> None:
        self.config = config
        self.storage = storage
        self.node = RawNode(config)
        self.applied: list[Entry] = []
        self.conf_state = storage.initial_state()[1]
        self.read_states = []

    @property
    def raft(self):
        return self.node.raft

    def save(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.storage.apply_snapshot(ready.snapshot)
        self.storage.append(ready.entries)
        if ready.hard_state is not None:
            self.storage.set_hard_state(ready.hard_state)

    def apply(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.storage.latest = ready.snapshot
            self.conf_state = ready.snapshot.conf_state
        for entry in ready.committed_entries:
            if entry.type == ENTRY_CONF_CHANGE:
                self.conf_state = self.node.apply_conf_change(ConfChange.FromString(entry.data))
            self.applied.append(entry)
            self.storage.latest = Snapshot(
                index=entry.index, term=entry.term, conf_state=self.conf_state
            )
        self.read_states += ready.read_states

    def work(self) -> list[Message]:
        """One Ready, from start to end. Returns what is to be sent."""
        ready = self.node.ready()
        self.save(ready)
        self.apply(ready)
        self.node.advance(ready)
        return [*ready.messages, *ready.messages_after_append]

    def data(self) -> list[bytes]:
        return [entry.data for entry in self.applied if entry.data]


class Group:
    """Nodes and the messages between them. `cut` holds (from, to) pairs that lose everything."""

    def __init__(
        self,
        voters: Iterable[int],
        *,
        learners: Iterable[int] = (),
        index: int = 1,
        **options,
    ) -> None:
        self.members: dict[int, Member] = {}
        self.messages: list[Message] = []
        self.lost: list[Message] = []
        self.cut: set[tuple[int, int]] = set()
        self.options = options
        state = ConfState(voters=voters, learners=learners)
        for id_ in [*state.voters, *state.learners]:
            self.add(id_, Snapshot(index=index, term=1, conf_state=state))

    def add(self, id_: int, snapshot: Snapshot | None = None, **options) -> Member:
        """A further node; without a snapshot it knows nothing."""
        storage = AppendingStorage()
        if snapshot is not None:
            storage.apply_snapshot(snapshot)
        config = Config(
            **{
                "id": id_,
                "storage": storage,
                "rng": random.Random(id_),
                "applied": snapshot.index if snapshot is not None else 0,
                **self.options,
                **options,
            }
        )
        self.members[id_] = Member(config, storage)
        return self.members[id_]

    def __getitem__(self, id_: int) -> Member:
        return self.members[id_]

    def isolate(self, *ids: int) -> None:
        for id_ in ids:
            for other in self.members:
                self.cut |= {(id_, other), (other, id_)}

    def heal(self) -> None:
        self.cut.clear()

    def work(self, *ids: int) -> None:
        for id_ in ids or list(self.members):
            while self.members[id_].node.has_ready():
                self.messages += self.members[id_].work()

    def deliver(self) -> None:
        batch, self.messages = self.messages, []
        for message in batch:
            if (message.from_, message.to) in self.cut or message.to not in self.members:
                self.lost.append(message)
                continue
            try:
                self.members[message.to].node.step(message)
            except Exception as error:
                if type(error).__name__ != "StepPeerNotFound":
                    raise

    def settle(self) -> None:
        """Work and deliver until nothing is left to do."""
        self.work()
        while self.messages:
            self.deliver()
            self.work()

    def tick(self, id_: int, count: int = 1) -> None:
        for _ in range(count):
            self.members[id_].node.tick()

    def elect(self, id_: int) -> Member:
        self.members[id_].node.campaign()
        self.settle()
        assert self.members[id_].raft.role is Role.LEADER
        return self.members[id_]

    def leaders(self) -> list[int]:
        return [id_ for id_, member in self.members.items() if member.raft.role is Role.LEADER]


@pytest.fixture
def make_group():
    """Makes a Group: make_group([1, 2, 3], pre_vote=True)."""
    return Group
