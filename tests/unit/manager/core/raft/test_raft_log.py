"""The log: storage, the unstable end, and what is asked of both together."""

import pytest

from swarm.manager.core.raft import (
    Compacted,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    RaftCorrupt,
    Snapshot,
    SnapshotOutOfDate,
    Unavailable,
)
from swarm.manager.core.raft.entries import NO_LIMIT, entry_size, fitting
from swarm.manager.core.raft.log import RaftLog
from swarm.manager.core.raft.unstable import Unstable


def entries(*terms: int, start: int = 1, size: int = 0) -> list[Entry]:
    """Entries of these terms from index `start` on."""
    return [
        Entry(term=term, index=start + offset, data=b"x" * size)
        for offset, term in enumerate(terms)
    ]


def terms(found) -> list[int]:
    return [entry.term for entry in found]


def stored(*of_terms: int, snapshot: int = 0) -> MemoryStorage:
    storage = MemoryStorage()
    if snapshot:
        storage.apply_snapshot(Snapshot(index=snapshot, term=1))
    storage.append(entries(*of_terms, start=snapshot + 1))
    return storage


class TestMemoryStorage:
    def test_an_empty_one_starts_at_one(self):
        storage = MemoryStorage()
        assert (storage.first_index(), storage.last_index(), storage.term(0)) == (1, 0, 0)
        assert storage.initial_state() == (HardState(), ConfState())

    def test_terms_reach_one_below_the_first_entry(self):
        storage = stored(4, 5, snapshot=3)
        assert [storage.term(index) for index in (3, 4, 5)] == [1, 4, 5]
        with pytest.raises(Compacted):
            storage.term(2)
        with pytest.raises(Unavailable):
            storage.term(6)

    def test_entries_are_cut_by_size_but_one_always_comes(self):
        storage = stored(1, 2, 3, snapshot=3)
        size = entry_size(storage.entries(4, 5, NO_LIMIT)[0])
        assert terms(storage.entries(4, 7, NO_LIMIT)) == [1, 2, 3]
        assert terms(storage.entries(4, 7, 2 * size)) == [1, 2]
        assert terms(storage.entries(4, 7, 0)) == [1]
        with pytest.raises(Compacted):
            storage.entries(3, 5, NO_LIMIT)
        with pytest.raises(Unavailable):
            storage.entries(4, 8, NO_LIMIT)

    def test_appending_replaces_the_tail_and_skips_what_is_compacted(self):
        storage = stored(1, 1, 1)
        storage.append(entries(2, start=2))
        assert terms(storage.entries(1, 3, NO_LIMIT)) == [1, 2]
        storage.compact(1)
        storage.append(entries(9, 3, 3, start=1))
        assert storage.last_index() == 3
        assert terms(storage.entries(2, 4, NO_LIMIT)) == [3, 3]

    def test_a_gap_is_refused(self):
        with pytest.raises(RaftCorrupt, match="leaves a gap"):
            stored(1).append(entries(1, start=3))

    def test_compacting_keeps_the_term_at_its_edge(self):
        storage = stored(1, 2, 3)
        storage.compact(2)
        assert (storage.first_index(), storage.term(2)) == (3, 2)
        with pytest.raises(Compacted):
            storage.compact(2)
        with pytest.raises(Unavailable):
            storage.compact(9)

    def test_snapshots_only_get_newer(self):
        storage = stored(1, 2, 3)
        made = storage.create_snapshot(2, ConfState(voters=[1]), b"state")
        assert (made.index, made.term, made.data) == (2, 2, b"state")
        assert storage.snapshot() == made
        assert storage.first_index() == 1
        with pytest.raises(SnapshotOutOfDate):
            storage.create_snapshot(2, ConfState())
        with pytest.raises(SnapshotOutOfDate):
            storage.apply_snapshot(Snapshot(index=1, term=1))
        storage.apply_snapshot(Snapshot(index=9, term=4))
        assert (storage.first_index(), storage.last_index(), storage.term(9)) == (10, 9, 4)


class TestUnstable:
    def test_what_was_handed_out_is_not_handed_out_again(self):
        unstable = Unstable(5)
        unstable.append(entries(1, 1, start=5))
        assert terms(unstable.next_entries()) == [1, 1]
        unstable.hand_out(1)
        assert unstable.next_entries() == []
        unstable.append(entries(2, start=7))
        assert terms(unstable.next_entries()) == [2]

    def test_a_write_frees_what_it_wrote_and_all_before(self):
        unstable = Unstable(5)
        for number, start in ((1, 5), (2, 6), (3, 7)):
            unstable.append(entries(1, start=start))
            unstable.hand_out(number)
        unstable.written(2)
        assert (unstable.offset, len(unstable.entries)) == (7, 1)
        unstable.written(3)
        assert (unstable.offset, unstable.entries) == (8, [])
        unstable.written(3)
        assert unstable.offset == 8

    def test_a_late_write_of_a_replaced_tail_says_nothing(self):
        """The very same entries are back, and their own write is still under way (ABA)."""
        unstable = Unstable(5)
        unstable.append(entries(1, 1, start=5))
        unstable.hand_out(1)
        unstable.append(entries(2, start=5))
        unstable.hand_out(2)
        unstable.append(entries(1, 1, start=5))
        unstable.hand_out(3)
        unstable.written(1)
        assert unstable.offset == 5
        unstable.written(2)
        assert unstable.offset == 5
        assert unstable.term(5) == 1
        unstable.written(3)
        assert unstable.offset == 7

    def test_a_write_still_counts_below_what_was_replaced(self):
        unstable = Unstable(5)
        unstable.append(entries(1, 1, 1, start=5))
        unstable.hand_out(1)
        unstable.append(entries(2, start=7))
        assert terms(unstable.next_entries()) == [2]
        unstable.written(1)
        assert unstable.offset == 7
        assert terms(unstable.entries) == [2]

    def test_a_tail_replaced_below_goes_back_before_the_offset(self):
        unstable = Unstable(5)
        unstable.append(entries(3, 3, start=3))
        assert (unstable.offset, terms(unstable.next_entries())) == (3, [3, 3])

    def test_a_late_write_from_before_a_snapshot_says_nothing_of_what_came_after_it(self):
        unstable = Unstable(5)
        unstable.append(entries(1, 1, 1, 1, start=5))
        unstable.hand_out(1)
        unstable.restore(Snapshot(index=6, term=2))
        unstable.append(entries(2, start=7))
        unstable.written(1)
        assert (unstable.offset, terms(unstable.next_entries())) == (7, [2])

    def test_a_snapshot_replaces_all_and_is_written_once(self):
        unstable = Unstable(5)
        unstable.append(entries(1, start=5))
        unstable.hand_out(1)
        unstable.restore(Snapshot(index=9, term=2))
        assert (unstable.last_index(), unstable.term(9), unstable.offset) == (9, 2, 10)
        unstable.written(1)
        assert unstable.snapshot is not None
        assert unstable.offset == 10
        unstable.hand_out(2)
        assert unstable.next_snapshot() is None
        unstable.restore(Snapshot(index=12, term=2))
        unstable.written(2)
        assert unstable.next_snapshot() == Snapshot(index=12, term=2)
        unstable.hand_out(3)
        unstable.written(3)
        assert unstable.snapshot is None

    def test_a_gap_is_an_error(self):
        with pytest.raises(AssertionError):
            Unstable(5).append(entries(1, start=7))


class TestRaftLog:
    def log(self, *stable: int, then: tuple[int, ...] = (), snapshot: int = 0) -> RaftLog:
        log = RaftLog(stored(*stable, snapshot=snapshot))
        if then:
            log.append(entries(*then, start=log.last_index() + 1))
        return log

    def test_it_reads_over_the_border_of_storage_and_memory(self):
        log = self.log(1, 1, then=(2, 2))
        assert terms(log.slice(1, 5)) == [1, 1, 2, 2]
        assert terms(log.slice(2, 4)) == [1, 2]
        assert terms(log.slice(3, 5)) == [2, 2]
        assert log.slice(3, 3) == []
        size = entry_size(log.slice(1, 2)[0])
        assert terms(log.slice(1, 5, 3 * size)) == [1, 1, 2]
        assert terms(log.slice(1, 5, size)) == [1]

    def test_it_knows_terms_from_the_snapshot_on(self):
        log = self.log(2, snapshot=4)
        assert [log.known_term(index) for index in (3, 4, 5, 6)] == [0, 1, 2, 0]
        with pytest.raises(Compacted):
            log.term(3)
        with pytest.raises(Unavailable):
            log.term(6)
        with pytest.raises(Compacted):
            log.slice(4, 6)

    @pytest.mark.parametrize(
        ("index", "term", "expected"),
        [(1, 4, True), (9, 2, False), (3, 3, True), (2, 3, False), (4, 3, True)],
    )
    def test_up_to_date_is_the_higher_term_then_the_longer_log(self, index, term, expected):
        assert self.log(1, 2, 3).up_to_date(index, term) is expected

    def test_an_append_that_does_not_fit_is_refused(self):
        log = self.log(1, 2, 3)
        assert log.maybe_append(3, 2, entries(4, start=4), 3) is None
        assert log.maybe_append(4, 4, entries(4, start=5), 3) is None
        assert (log.last_index(), log.committed) == (3, 0)

    def test_an_append_commits_only_what_it_showed_to_match(self):
        log = self.log(1, 2, 3)
        assert log.maybe_append(1, 1, entries(2, start=2), 3) == 2
        assert log.committed == 2
        assert log.maybe_append(3, 3, [], 9) == 3
        assert log.committed == 3

    def test_an_old_append_truncates_no_match(self):
        """Delayed, doubled or reordered: entries after its own stay (Raft, 5.3)."""
        log = self.log(1, 2, 3)
        assert log.maybe_append(0, 0, entries(1, 2), 0) == 2
        assert log.last_index() == 3
        assert log.unstable.entries == []

    def test_a_conflict_replaces_from_there_on(self):
        log = self.log(1, 1, 1)
        assert log.maybe_append(1, 1, entries(1, 2, 2, start=2), 0) == 4
        assert terms(log.slice(1, 5)) == [1, 1, 2, 2]
        assert log.unstable.offset == 3

    def test_a_conflict_below_the_commit_index_is_corruption(self):
        log = self.log(1, 1, 1)
        log.commit_to(2)
        with pytest.raises(RaftCorrupt, match="would replace a committed one"):
            log.maybe_append(1, 1, entries(2, start=2), 0)

    def test_committing_beyond_the_end_is_corruption(self):
        with pytest.raises(RaftCorrupt, match="lost a part of its log"):
            self.log(1).commit_to(2)

    def test_the_commit_index_never_falls(self):
        log = self.log(1, 1)
        log.commit_to(2)
        log.commit_to(1)
        assert log.committed == 2

    def test_only_the_own_term_is_committed(self):
        log = self.log(1, 2, 2)
        assert not log.maybe_commit(2, 3)
        assert not log.maybe_commit(9, 0)
        assert log.maybe_commit(2, 2)
        assert not log.maybe_commit(2, 2)
        assert log.committed == 2

    @pytest.mark.parametrize(
        ("index", "term", "expected"),
        [
            (9, 2, (1, 1)),
            (9, 3, (4, 3)),
            (9, 5, (9, 5)),
            (9, 1, (1, 1)),
            (6, 4, (4, 3)),
            (9, 0, (0, 0)),
            (12, 5, (12, 0)),
        ],
    )
    def test_where_logs_may_meet(self, index, term, expected):
        log = self.log(1, 3, 3, 3, 5, 5, 5, then=(5, 5))
        assert log.find_conflict_by_term(index, term) == expected

    def test_where_logs_may_meet_below_a_snapshot_is_unknown(self):
        assert self.log(3, 3, snapshot=4).find_conflict_by_term(6, 0) == (3, 0)

    def test_what_is_applied_comes_in_order_and_once(self):
        log = self.log(1, 1, then=(1, 1))
        log.commit_to(4)
        found = log.next_committed(allow_unstable=False)
        assert [entry.index for entry in found] == [1, 2]
        log.accept_applying(found, allow_unstable=False)
        assert not log.has_next_committed(allow_unstable=False)
        assert log.has_next_committed(allow_unstable=True)
        log.applied_to(2)
        log.unstable.hand_out(1)
        log.unstable.written(1)
        log.storage.append(entries(1, 1, start=3))
        assert [e.index for e in log.next_committed(allow_unstable=False)] == [3, 4]

    def test_what_is_given_out_is_limited_until_some_is_applied(self):
        storage = MemoryStorage()
        storage.append(entries(1, 1, 1, 1, size=100))
        size = entry_size(storage.entries(1, 2, NO_LIMIT)[0])
        log = RaftLog(storage, max_applying_size=2 * size)
        log.commit_to(4)
        found = log.next_committed(allow_unstable=True)
        assert len(found) == 2
        log.accept_applying(found, allow_unstable=True)
        assert log.next_committed(allow_unstable=True) == []
        assert log.applied_to(1) == 0
        assert not log.has_next_committed(allow_unstable=True)
        assert log.applied_to(2) == 200
        assert len(log.next_committed(allow_unstable=True)) == 2

    def test_what_the_limit_cut_off_waits_until_some_is_applied(self):
        storage = MemoryStorage()
        storage.append(entries(1, 1, size=100))
        log = RaftLog(storage, max_applying_size=150)
        log.commit_to(2)
        found = log.next_committed(allow_unstable=True)
        log.accept_applying(found, allow_unstable=True)
        assert [entry.index for entry in found] == [1]
        assert not log.has_next_committed(allow_unstable=True)
        log.applied_to(1)
        assert log.has_next_committed(allow_unstable=True)

    def test_what_was_never_given_out_was_not_applied(self):
        log = self.log(1, 1)
        log.commit_to(2)
        with pytest.raises(RaftCorrupt, match="never given out"):
            log.applied_to(1)

    def test_nothing_is_given_out_before_a_snapshot_is_applied(self):
        log = self.log(1)
        log.restore(Snapshot(index=7, term=3))
        log.append(entries(3, start=8))
        log.commit_to(8)
        assert not log.has_next_committed(allow_unstable=True)
        log.accept_snapshot(7)
        log.unstable.hand_out(1)
        log.unstable.written(1)
        log.storage.apply_snapshot(Snapshot(index=7, term=3))
        log.storage.append(entries(3, start=8))
        assert not log.has_next_committed(allow_unstable=True)
        log.applied_to(7)
        assert [e.index for e in log.next_committed(allow_unstable=False)] == [8]


def test_the_size_of_an_entry_is_at_most_a_little_generous():
    for size in (0, 1, 127, 128, 20_000):
        entry = Entry(term=300, index=2**40, data=b"x" * size)
        assert 0 <= entry_size(entry) - entry.ByteSize() <= 4


def test_one_entry_always_fits():
    assert fitting(entries(1, 1, size=500), 10) == 1
    assert fitting([], 10) == 0
