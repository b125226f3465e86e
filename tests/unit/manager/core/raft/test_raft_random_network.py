"""Five nodes, a network that loses, doubles and reorders, disks that finish late, crashes.

Small and fast; the simulator does the same to whole clusters. A failing seed replays exactly.
"""

from __future__ import annotations

import random
from collections import deque

import pytest

from swarm.manager.core.raft import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ENTRY_CONF_CHANGE,
    ConfChange,
    ConfChangeSingle,
    Config,
    ConfState,
    Entry,
    MemoryStorage,
    Message,
    MessageType,
    ProposalDropped,
    RawNode,
    Ready,
    Role,
    Snapshot,
    StepPeerNotFound,
)

IDS = (1, 2, 3, 4, 5)
FIRST = Snapshot(index=1, term=1, conf_state=ConfState(voters=IDS))


class Disk(MemoryStorage):
    """What is durable. The state machine's newest snapshot is part of it."""

    saved: Snapshot = FIRST

    def snapshot(self) -> Snapshot:
        return self.saved

    def initial_state(self):
        return super().initial_state()[0], self.saved.conf_state


class Machine:
    """A node with a disk that lags behind and a state machine that lags behind the disk."""

    def __init__(self, id_: int, disk: Disk, rng: random.Random) -> None:
        self.id, self.disk, self.rng = id_, disk, rng
        self.writes: deque[Ready] = deque()
        self.applies: deque[Ready] = deque()
        self.conf_state = disk.saved.conf_state
        self.reads: list = []
        self.node = RawNode(
            Config(
                id=id_,
                storage=disk,
                rng=rng,
                applied=disk.saved.index,
                election_tick=5,
                check_quorum=True,
                pre_vote=True,
                async_storage_writes=True,
                step_down_on_removal=True,
                max_inflight_msgs=4,
                max_size_per_msg=200,
            )
        )

    def take(self) -> list[Message]:
        if not self.node.has_ready():
            return []
        ready = self.node.ready()
        self.writes.append(ready)
        self.reads += ready.read_states
        if ready.committed_entries or ready.snapshot is not None:
            self.applies.append(ready)
        return ready.messages

    def write(self) -> list[Message]:
        """One or several Readys become durable at once."""
        sent: list[Message] = []
        count = min(self.rng.randrange(1, 4), len(self.writes))
        if not count:
            return sent
        for _ in range(count):
            ready = self.writes.popleft()
            if ready.snapshot is not None:
                self.disk.saved = ready.snapshot
                self.disk.apply_snapshot(ready.snapshot)
            self.disk.append(ready.entries)
            if ready.hard_state is not None:
                self.disk.set_hard_state(ready.hard_state)
            sent += ready.messages_after_append
        self.node.persisted(ready)
        return sent

    def apply(self, world: World) -> None:
        # A snapshot is restored from the disk, so it is applied only once it is there.
        if not self.applies or (self.applies[0].snapshot is not None and self._unwritten()):
            return
        ready = self.applies.popleft()
        if ready.snapshot is not None:
            self.conf_state = ready.snapshot.conf_state
        for entry in ready.committed_entries:
            world.saw_applied(self.id, entry)
            if entry.type == ENTRY_CONF_CHANGE:
                self.conf_state = self.node.apply_conf_change(ConfChange.FromString(entry.data))
        index = ready.last_applied_index()
        self.node.applied(index)
        if self.rng.random() < 0.05 and index > self.disk.first_index():
            term = self.disk.term(index)
            self.disk.saved = Snapshot(index=index, term=term, conf_state=self.conf_state)
            self.disk.compact(index - self.rng.randrange(2))

    def _unwritten(self) -> bool:
        return any(write.snapshot is not None for write in self.writes)


class World:
    """The machines, the network, and what must always hold."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.network: list[Message] = []
        self.cut: set[tuple[int, int]] = set()
        self.machines: dict[int, Machine] = {}
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        self.proposals = 0
        self.acknowledged: set[bytes] = set()
        self.asked: dict[bytes, int] = {}
        for id_ in IDS:
            disk = Disk()
            disk.apply_snapshot(FIRST)
            self.start(id_, disk)

    def start(self, id_: int, disk: Disk) -> None:
        self.machines[id_] = Machine(id_, disk, random.Random(self.rng.randrange(2**32)))

    def saw_applied(self, id_: int, entry: Entry) -> None:
        """State machine safety: the same entry at the same place everywhere (Raft, 5.4.3)."""
        known = self.committed.setdefault(entry.index, (entry.term, entry.data))
        assert known == (entry.term, entry.data), f"{id_} applied something else at {entry.index}"
        self.acknowledged.add(entry.data)

    def check(self) -> None:
        for machine in self.machines.values():
            raft = machine.node.raft
            log = raft.log
            assert log.applied <= log.applying <= log.committed <= log.last_index()
            if raft.role is Role.LEADER:
                first = self.leaders.setdefault(raft.term, machine.id)
                assert first == machine.id, f"two leaders in term {raft.term}"
                assert machine.disk.initial_state()[0].term >= raft.term
            for read in machine.reads:
                assert read.index >= self.asked[read.request_ctx], "a read missed a write"
            machine.reads.clear()

    def check_leader_is_complete(self) -> None:
        """Leader completeness: the newest leader has everything that was committed (5.4)."""
        newest = max(self.leaders, default=0)
        for machine in self.machines.values():
            raft = machine.node.raft
            if raft.role is Role.LEADER and raft.term == newest:
                for index, (term, _) in self.committed.items():
                    if index >= raft.log.first_index():
                        assert raft.log.known_term(index) == term

    def step(self) -> None:
        rng = self.rng
        machine = self.machines[rng.choice(IDS)]
        dice = rng.random()
        if dice < 0.36:
            self.deliver()
        elif dice < 0.58:
            self.network += machine.take()
        elif dice < 0.72:
            self.network += machine.write()
        elif dice < 0.83:
            machine.apply(self)
        elif dice < 0.89:
            machine.node.tick()
        elif dice < 0.96:
            self.propose(machine)
        elif dice < 0.98:
            self.read(machine)
        elif dice < 0.984:
            self.start(machine.id, machine.disk)  # crash: what is not written is gone
        elif dice < 0.99:
            self.change(machine)
        elif dice < 0.993:
            machine.node.transfer_leader(rng.choice(IDS))
        elif dice < 0.996:
            self.cut = {(rng.choice(IDS), rng.choice(IDS)) for _ in range(rng.randrange(0, 12))}
        else:
            peer = rng.choice(IDS)
            machine.node.report_unreachable(peer)
            machine.node.report_snapshot(peer, ok=False)
        self.check()

    def deliver(self) -> None:
        if not self.network:
            return
        rng = self.rng
        position = 0 if rng.random() < 0.7 else rng.randrange(len(self.network))
        message = self.network.pop(position)
        if rng.random() < 0.05:
            self.network.insert(rng.randrange(len(self.network) + 1), message)
        if (message.from_, message.to) in self.cut or rng.random() < 0.03:
            return
        # What is on the wire is bytes: nobody shares memory with anybody.
        copy = Message.FromString(message.SerializeToString())
        try:
            self.machines[message.to].node.step(copy)
        except (ProposalDropped, StepPeerNotFound):
            return

    def propose(self, machine: Machine) -> None:
        self.proposals += 1
        try:
            machine.node.propose(b"%d" % self.proposals)
        except ProposalDropped:
            return

    def read(self, machine: Machine) -> None:
        context = b"read %d" % len(self.asked)
        self.asked[context] = max(self.committed, default=0)
        machine.node.read_index(context)

    def change(self, machine: Machine) -> None:
        kinds = (CONF_CHANGE_ADD_NODE, CONF_CHANGE_REMOVE_NODE, CONF_CHANGE_ADD_LEARNER_NODE)
        singles = [
            ConfChangeSingle(type=self.rng.choice(kinds), node_id=self.rng.choice(IDS))
            for _ in range(self.rng.randrange(1, 4))
        ]
        try:
            machine.node.propose_conf_change(ConfChange(changes=singles))
        except ProposalDropped:
            return

    def heal(self) -> int:
        """No more faults: how many rounds until somebody leads and commits anew."""
        self.cut.clear()
        for machine in self.machines.values():
            for peer in IDS:
                machine.node.report_snapshot(peer, ok=False)
        before = max(self.committed, default=0)
        proposed = False
        for rounds in range(400):
            for machine in self.machines.values():
                machine.node.tick()
            for _ in range(4):
                for machine in self.machines.values():
                    self.network += machine.take()
                    self.network += machine.write()
                    machine.apply(self)
                batch, self.network = self.network, []
                for message in batch:
                    self.hand_over(message)
                self.check()
            for machine in self.machines.values():
                if machine.node.raft.role is Role.LEADER and not proposed:
                    try:
                        proposed = machine.node.propose(b"healed") > 0
                    except ProposalDropped:
                        pass
            if b"healed" in self.acknowledged and max(self.committed) > before:
                return rounds
            proposed = proposed and rounds % 50 != 0
        raise AssertionError("nobody led and committed after the faults were over")

    def hand_over(self, message: Message) -> None:
        try:
            self.machines[message.to].node.step(message)
        except (ProposalDropped, StepPeerNotFound):
            pass
        if message.type == MessageType.MSG_SNAP:
            self.machines[message.from_].node.report_snapshot(message.to, ok=True)


@pytest.mark.parametrize("seed", range(10))
def test_nothing_committed_is_lost_or_changed(seed):
    world = World(seed)
    for number in range(10_000):
        world.step()
        if number % 500 == 0:
            world.check_leader_is_complete()
    world.heal()
    world.check_leader_is_complete()
    assert len(world.committed) > 20


def test_a_seed_replays_exactly():
    def run() -> list[tuple[int, bytes]]:
        world = World(99)
        for _ in range(3000):
            world.step()
        return sorted(world.committed.values())

    assert run() == run()
