"""The log as consensus sees it: what the storage has, with the unstable end on top."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from swarm.api.v1.raft_pb2 import Entry, Snapshot
from swarm.manager.core.raft.entries import NO_LIMIT, entry_size, fitting, payload_size
from swarm.manager.core.raft.errors import Compacted, RaftCorrupt, Unavailable
from swarm.manager.core.raft.storage import Storage
from swarm.manager.core.raft.unstable import Unstable


class RaftLog:
    """Entries with the three indexes that move over them.

    applied <= applying <= committed <= last index always: `committed` is what a quorum holds,
    `applying` what was given to the driver to apply, `applied` what it said it has applied.
    At most `max_applying_size` bytes are given out beyond `applied`, one batch at least.
    """

    def __init__(self, storage: Storage, max_applying_size: int = NO_LIMIT) -> None:
        self.storage = storage
        self.unstable = Unstable(storage.last_index() + 1)
        start = storage.first_index() - 1
        self.committed = start
        self.applying = start
        self.applied = start
        self._max_applying_size = max_applying_size
        self._applying_size = 0
        self._applying_paused = False
        # Where a restored snapshot ends: nothing behind it is given out before it is applied.
        self._restored = start
        # (last index, encoded bytes, payload bytes) of each batch given out and not applied.
        self._batches: deque[tuple[int, int, int]] = deque()

    def first_index(self) -> int:
        """Index of the first entry that can be read."""
        snapshot = self.unstable.snapshot
        return snapshot.index + 1 if snapshot is not None else self.storage.first_index()

    def last_index(self) -> int:
        """Index of the last entry, or of the snapshot when there is none after it."""
        index = self.unstable.last_index()
        return index if index is not None else self.storage.last_index()

    def last_term(self) -> int:
        """Term of the last entry."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """Term of the entry at `index`. Raises Compacted or Unavailable."""
        term = self.unstable.term(index)
        if term is not None:
            return term
        if index + 1 < self.first_index():
            raise Compacted(f"the term of entry {index} is compacted")
        if index > self.last_index():
            raise Unavailable(f"entry {index} is not there, the last one is {self.last_index()}")
        return self.storage.term(index)

    def known_term(self, index: int) -> int:
        """Term of the entry at `index`, 0 where the log does not know it."""
        try:
            return self.term(index)
        except (Compacted, Unavailable):
            return 0

    def matches(self, index: int, term: int) -> bool:
        """Whether the log holds an entry of that index and term."""
        try:
            return self.term(index) == term
        except (Compacted, Unavailable):
            return False

    def up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends so is at least as up to date as this one (Raft, 5.4.1)."""
        last_term = self.last_term()
        return term > last_term or (term == last_term and index >= self.last_index())

    def slice(self, lo: int, hi: int, max_size: int = NO_LIMIT) -> list[Entry]:
        """Entries of [lo, hi) that fit in `max_size`, one at least. Raises Compacted."""
        if lo >= hi:
            return []
        if lo < self.first_index():
            raise Compacted(f"entry {lo} is compacted")
        offset = self.unstable.offset
        if lo >= offset:
            chosen = self.unstable.entries[lo - offset : hi - offset]
            return chosen[: fitting(chosen, max_size)]
        wanted = min(hi, offset)
        stable = self.storage.entries(lo, wanted, max_size)
        if hi <= offset or len(stable) < wanted - lo:
            return stable
        combined = stable + self.unstable.entries[: hi - offset]
        return combined[: fitting(combined, max_size)]

    def entries_from(self, index: int, max_size: int) -> list[Entry]:
        """Entries from `index` on that fit in `max_size`. Raises Compacted."""
        return self.slice(index, self.last_index() + 1, max_size)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, replacing a conflicting tail. Nothing committed may be replaced."""
        if entries[0].index <= self.committed:
            raise RaftCorrupt(
                f"entry {entries[0].index} would replace a committed one (commit {self.committed})"
            )
        self.unstable.append(entries)

    def maybe_append(
        self, index: int, term: int, entries: Sequence[Entry], committed: int
    ) -> int | None:
        """Append what follows (index, term); the last index now known to match, None if it fails.

        Entries that are there already are left alone, however old the message is: only a real
        conflict of terms truncates (Raft, 5.3).
        """
        if not self.matches(index, term):
            return None
        last_new = index + len(entries)
        known = self._matching_prefix(entries)
        if known < len(entries):
            self.append(entries[known:])
        self.commit_to(min(committed, last_new))
        return last_new

    def _matching_prefix(self, entries: Sequence[Entry]) -> int:
        last = self.last_index()
        for position, entry in enumerate(entries):
            if entry.index > last or not self.matches(entry.index, entry.term):
                return position
        return len(entries)

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """Where this log may meet another one that has `term` at `index`.

        The largest index at or below that has a term no larger than `term`, and that term; the
        term is 0 where this log no longer or not yet knows it.
        """
        while index > 0:
            try:
                own_term = self.term(index)
            except (Compacted, Unavailable):
                return index, 0
            if own_term <= term:
                return index, own_term
            index -= 1
        return 0, 0

    def commit_to(self, index: int) -> None:
        """Raise the commit index; it never falls. RaftCorrupt beyond the last entry."""
        if index <= self.committed:
            return
        if index > self.last_index():
            raise RaftCorrupt(
                f"commit {index} is beyond the last entry {self.last_index()}: this node lost a "
                "part of its log; remove it and let it join under a new id"
            )
        self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit up to `index` if its entry is of `term`: older ones count only with it (5.4.2)."""
        if term and index > self.committed and self.known_term(index) == term:
            self.commit_to(index)
            return True
        return False

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot that is ahead of the commit index."""
        self.committed = self._restored = snapshot.index
        self.unstable.restore(snapshot)

    def has_next_committed(self, *, allow_unstable: bool) -> bool:
        """Whether `next_committed` has something."""
        if self._applying_paused or self.applied < self._restored:
            return False
        return self.applying < self._appliable_index(allow_unstable=allow_unstable)

    def next_committed(self, *, allow_unstable: bool) -> list[Entry]:
        """Committed entries not given out yet, as many as the limit allows.

        With `allow_unstable` also those whose own write here is not acknowledged yet. None until
        a restored snapshot is applied: it comes first.
        """
        if not self.has_next_committed(allow_unstable=allow_unstable):
            return []
        hi = self._appliable_index(allow_unstable=allow_unstable) + 1
        return self.slice(self.applying + 1, hi, self._max_applying_size - self._applying_size)

    def accept_applying(self, entries: Sequence[Entry], *, allow_unstable: bool) -> None:
        """The entries were given out. Pauses when the limit is reached or was cut into."""
        size = sum([entry_size(entry) for entry in entries])
        self.applying = entries[-1].index
        self._applying_size += size
        self._batches.append((self.applying, size, payload_size(entries)))
        self._applying_paused = (
            self._applying_size >= self._max_applying_size
            or self.applying < self._appliable_index(allow_unstable=allow_unstable)
        )

    def accept_snapshot(self, index: int) -> None:
        """A snapshot was given out: applying goes on behind it."""
        self.applying = max(self.applying, index)

    def applied_to(self, index: int) -> int:
        """The driver has applied up to `index`. Returns the payload bytes that this settles."""
        if index > self.applying:
            raise RaftCorrupt(f"applied {index} was never given out (only up to {self.applying})")
        self.applied = max(self.applied, index)
        settled = 0
        while self._batches and self._batches[0][0] <= index:
            _, size, payload = self._batches.popleft()
            self._applying_size -= size
            settled += payload
        self._applying_paused = self._applying_size >= self._max_applying_size
        return settled

    def _appliable_index(self, *, allow_unstable: bool) -> int:
        return self.committed if allow_unstable else min(self.committed, self.unstable.offset - 1)
