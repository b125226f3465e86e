"""Linearizable reads: many wait for one round, and none is answered too early."""

from swarm.manager.core.reads import Reads

NONCE = b"8 bytes."


def test_many_reads_share_a_round() -> None:
    reads = Reads(NONCE)
    for token in (1, 2, 3):
        reads.add(token)
    context = reads.next_context()
    assert context is not None
    assert reads.next_context() is None
    reads.confirmed(context, 7)
    assert reads.ready(6) == []
    assert reads.ready(7) == [1, 2, 3]
    assert reads.ready(8) == []


def test_a_read_that_comes_after_a_round_began_waits_for_the_next() -> None:
    reads = Reads(NONCE)
    reads.add(1)
    first = reads.next_context()
    reads.add(2)
    second = reads.next_context()
    assert first is not None
    assert second is not None
    assert first != second
    reads.confirmed(first, 3)
    assert reads.ready(10) == [1]
    reads.confirmed(second, 4)
    assert reads.ready(10) == [2]


def test_an_unanswered_round_is_asked_again_under_a_new_context() -> None:
    reads = Reads(NONCE)
    reads.add(1)
    lost = reads.next_context()
    for _ in range(11):
        reads.tick()
    again = reads.next_context()
    assert again is not None
    assert again != lost
    assert lost is not None
    reads.confirmed(lost, 2)
    assert reads.ready(10) == []
    reads.confirmed(again, 3)
    assert reads.ready(10) == [1]


def test_a_lost_leaders_rounds_are_asked_of_the_next() -> None:
    reads = Reads(NONCE)
    reads.add(1)
    old = reads.next_context()
    reads.lost_leader()
    assert old is not None
    reads.confirmed(old, 1)
    assert reads.ready(10) == []
    assert reads.next_context() is not None
