"""A follower in the leader's eyes."""

import pytest

from swarm.manager.core.raft import Inflights, Progress, ProgressState


def test_a_window_is_full_by_count_and_freed_in_order():
    window = Inflights(2)
    window.add(3, 10)
    assert not window.full()
    window.add(5, 10)
    assert window.full()
    window.free_le(4)
    assert (window.full(), window.count()) == (False, 1)
    window.free_le(5)
    assert window.count() == 0
    window.free_le(9)


def test_a_window_is_full_by_bytes_after_the_message_that_crosses_the_limit():
    window = Inflights(10, max_bytes=100)
    window.add(1, 99)
    assert not window.full()
    window.add(2, 500)
    assert window.full()
    window.free_le(1)
    assert window.full()
    window.free_le(2)
    assert not window.full()
    window.add(3, 100)
    assert window.full()


def test_nothing_goes_into_a_full_window():
    window = Inflights(1)
    window.add(1, 1)
    with pytest.raises(AssertionError):
        window.add(2, 1)
    window.reset()
    window.add(2, 1)


def test_a_probe_pauses_until_answered():
    progress = Progress(match=3, next=5)
    progress.sent_entries(0, 0)
    assert not progress.is_paused()
    progress.sent_entries(2, 20)
    assert progress.is_paused()
    assert progress.next == 5
    assert progress.maybe_update(4)
    assert not progress.is_paused()


def test_replicating_moves_on_at_once_until_the_window_is_full():
    progress = Progress(match=3, next=4, inflights=Inflights(2))
    progress.become_replicate()
    progress.sent_entries(2, 20)
    assert (progress.next, progress.is_paused()) == (6, False)
    progress.sent_entries(1, 10)
    assert (progress.next, progress.is_paused()) == (7, True)


def test_acknowledgements_never_go_back():
    progress = Progress(match=3, next=5)
    assert not progress.maybe_update(3)
    assert not progress.maybe_update(2)
    assert progress.maybe_update(6)
    assert (progress.match, progress.next) == (6, 7)


@pytest.mark.parametrize(
    ("state", "match", "following", "rejected", "hint", "taken", "new_next"),
    [
        (ProgressState.REPLICATE, 5, 10, 5, 5, False, 10),
        (ProgressState.REPLICATE, 5, 10, 4, 4, False, 10),
        (ProgressState.REPLICATE, 5, 10, 9, 9, True, 6),
        (ProgressState.PROBE, 0, 0, 0, 0, False, 0),
        (ProgressState.PROBE, 0, 10, 5, 5, False, 10),
        (ProgressState.PROBE, 0, 10, 9, 9, True, 9),
        (ProgressState.PROBE, 0, 2, 1, 1, True, 1),
        (ProgressState.PROBE, 0, 1, 0, 0, True, 1),
        (ProgressState.PROBE, 0, 10, 9, 2, True, 3),
        (ProgressState.PROBE, 0, 10, 9, 0, True, 1),
        (ProgressState.PROBE, 5, 10, 9, 2, True, 6),
    ],
)
def test_a_rejection_goes_back_once_and_never_below_the_match(
    state, match, following, rejected, hint, taken, new_next
):
    progress = Progress(match=match, next=following, state=state, paused=True)
    assert progress.maybe_decrease(rejected, hint) is taken
    assert progress.next == new_next


def test_after_a_snapshot_it_probes_behind_it():
    progress = Progress(match=1, next=2, recent_active=True)
    progress.become_snapshot(10)
    assert progress.is_paused()
    assert "pending_snapshot=10" in str(progress)
    progress.become_probe()
    assert (progress.next, progress.pending_snapshot) == (11, 0)


def test_a_snapshot_that_failed_is_as_if_it_had_not_been_sent():
    progress = Progress(match=1, next=2)
    progress.become_snapshot(10)
    progress.pending_snapshot = 0
    progress.become_probe()
    assert progress.next == 2


def test_a_new_commit_is_told_once():
    progress = Progress(match=5, next=6)
    assert progress.can_bump_commit(4)
    progress.sent_commit = 4
    assert not progress.can_bump_commit(4)
    assert progress.can_bump_commit(5)
    progress.sent_commit = 5
    assert not progress.can_bump_commit(9)


def test_a_copy_has_its_own_fields():
    progress = Progress(match=5, next=6)
    copy = progress.clone()
    copy.is_learner = True
    assert not progress.is_learner
