"""The log against a model: random appends, crashes, snapshots and compactions, from a seed."""

import random
import shutil
from pathlib import Path

import pytest

from swarm.api.v1.raft_pb2 import Entry, HardState
from swarm.manager.wal import Wal
from swarm.security.encryption import Encrypter

SEGMENT = 8 << 10


class Model:
    """What a log has to hold, and the moves a Raft node makes."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.encrypter = Encrypter(self.random.randbytes(32))
        self.term = 1
        self.snapshot = (0, 0)
        self.kept_snapshot = (0, 0)
        # Entries after the snapshot that is kept besides the newest.
        self.log: list[Entry] = []
        self.hard_state = HardState()
        self.synced: tuple[list[Entry], HardState] = ([], HardState())
        self.crashes = 0
        self.wal, _, _ = self.open()

    def open(self) -> tuple[Wal, HardState, list[Entry]]:
        index, term = self.snapshot
        return Wal.open(
            self.folder,
            self.encrypter,
            snapshot_index=index,
            snapshot_term=term,
            segment_bytes=SEGMENT,
        )

    @property
    def last(self) -> int:
        return self.kept_snapshot[0] + len(self.log)

    def append(self) -> None:
        count = self.random.randrange(5)
        first = self.last + 1
        if count and self.random.random() < 0.2:
            self.term += 1
            first = self.random.randint(
                max(self.hard_state.commit, self.snapshot[0]) + 1, self.last + 1
            )
            del self.log[first - self.kept_snapshot[0] - 1 :]
        size = self.random.choice((0, 20, 500, 3000))
        new = [
            Entry(term=self.term, index=first + n, data=self.random.randbytes(size))
            for n in range(count)
        ]
        self.log += new
        commit = self.random.randint(max(self.hard_state.commit, self.snapshot[0]), self.last)
        self.hard_state = HardState(term=self.term, vote=self.random.randrange(4), commit=commit)
        self.wal.append(self.hard_state, new)

    def sync(self) -> None:
        self.wal.sync()
        self.synced = (list(self.log), self.hard_state)

    def take_snapshot(self) -> None:
        self.sync()
        index = self.hard_state.commit
        if index <= self.snapshot[0]:
            return
        term = self.log[index - self.kept_snapshot[0] - 1].term
        del self.log[: self.snapshot[0] - self.kept_snapshot[0]]
        self.kept_snapshot, self.snapshot = self.snapshot, (index, term)
        self.synced = (list(self.log), self.hard_state)
        self.wal.compact(self.kept_snapshot[0])

    def receive_snapshot(self) -> None:
        self.sync()
        self.term += 1
        index = self.last + self.random.randrange(1, 50)
        self.snapshot = self.kept_snapshot = (index, self.term)
        self.log = []
        if self.random.random() < 0.5:
            self.wal.restart(index, self.term)
        else:
            self.wal.close()
            self.wal, _, _ = self.open()
        self.hard_state = HardState(
            term=self.hard_state.term, vote=self.hard_state.vote, commit=index
        )
        self.wal.append(self.hard_state, [])
        self.sync()
        self.wal.compact(index)

    def crash(self) -> None:
        """Lose what was not synced, or a part of it: the record may be torn at any sector."""
        path, synced_end = self.wal._open.path, self.wal._open.offset
        before = path.read_bytes()
        shutil.rmtree(self.folder.with_name("crashed"), ignore_errors=True)
        shutil.copytree(self.folder, self.folder.with_name("crashed"))
        self.wal.sync()
        after = path.read_bytes()
        self.wal.close()
        shutil.rmtree(self.folder)
        self.folder.with_name("crashed").rename(self.folder)
        image = bytearray(before)
        missing = 0
        for start in range(0, len(after), 512):
            if after[start : start + 512] == before[start : start + 512]:
                continue
            if self.random.random() < 0.5:
                image[start : start + 512] = after[start : start + 512]
            else:
                missing += 1
        path.write_bytes(image)
        grown = path.stat().st_size == len(after) and after[synced_end:].strip(b"\0")
        if not missing and grown:
            self.synced = (list(self.log), self.hard_state)
        self.log, self.hard_state = list(self.synced[0]), self.synced[1]
        self.crashes += 1
        self.wal, _, _ = self.open()

    def check(self) -> None:
        self.sync()
        self.wal.close()
        self.wal, hard_state, found = self.open()
        assert found == self.log[self.snapshot[0] - self.kept_snapshot[0] :]
        assert (hard_state.term, hard_state.vote) == (self.hard_state.term, self.hard_state.vote)
        assert hard_state.commit == max(self.hard_state.commit, self.snapshot[0])
        assert self.wal.last_index == self.last


@pytest.mark.parametrize("seed", range(25))
def test_the_log_holds_what_the_model_holds(tmp_path: Path, seed: int) -> None:
    model = Model(seed, tmp_path / "wal")
    moves = [model.append] * 8 + [model.sync] * 6 + [model.crash, model.check, model.take_snapshot]
    for _ in range(120):
        model.random.choice(moves)()
        if model.random.random() < 0.02:
            model.receive_snapshot()
    model.check()
    assert model.crashes > 0
    model.wal.close()
