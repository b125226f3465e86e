"""Group commit: what waits goes together, each transaction gets its own verdict."""

from swarm.api.v1.store_pb2 import VERDICT_NAME_TAKEN, VERDICT_OK, Change, Transaction, Verdict
from swarm.manager.core.effects import Answer
from swarm.manager.core.proposer import NOBODY, Proposer
from swarm.manager.core.store.grouping import BATCH_CHANGES_MAX


def a_transaction(name: str, changes: int = 1) -> Transaction:
    return Transaction(request_id=name, changes=[Change(expected_version=1)] * changes)


def test_what_waits_goes_into_one_entry_and_each_gets_its_verdict() -> None:
    proposer = Proposer()
    for token in (1, 2, 3):
        assert proposer.add(token, a_transaction(str(token)))
    payload, tokens = proposer.next_batch(7)
    assert payload.proposed_at_ns == 7
    assert [t.request_id for t in payload.transactions] == ["1", "2", "3"]
    proposer.proposed(10, tokens)
    taken = Verdict(code=VERDICT_NAME_TAKEN)
    answers = proposer.applied(10, [Verdict(), taken, Verdict()])
    assert [(a.token, a.verdict.code if a.verdict else None) for a in answers] == [
        (1, VERDICT_OK),
        (2, VERDICT_NAME_TAKEN),
        (3, VERDICT_OK),
    ]


def test_while_an_entry_is_under_way_what_comes_in_collects_for_the_next() -> None:
    proposer = Proposer()
    proposer.add(1, a_transaction("a"))
    proposer.proposed(5, proposer.next_batch(0)[1])
    proposer.add(2, a_transaction("b"))
    proposer.add(3, a_transaction("c"))
    assert not proposer.wants_to_propose
    proposer.applied(5, [Verdict()])
    assert proposer.wants_to_propose
    assert proposer.next_batch(0)[1] == [2, 3]


def test_where_much_waits_a_few_entries_are_under_way_at_once() -> None:
    proposer = Proposer()
    entries = 0
    while not entries or proposer.wants_to_propose:
        for token in range(100):
            proposer.add(token, a_transaction("a"))
        entries += 1
        proposer.proposed(entries, proposer.next_batch(0)[1])
        proposer.add(1, a_transaction("b"))
        assert not proposer.wants_to_propose
        for token in range(100):
            proposer.add(token, a_transaction("c"))
    assert 1 < entries < 10


def test_a_batch_is_bounded_and_a_large_transaction_goes_alone() -> None:
    proposer = Proposer()
    proposer.add(1, a_transaction("large", BATCH_CHANGES_MAX + 1))
    proposer.add(2, a_transaction("small"))
    assert proposer.next_batch(0)[1] == [1]
    assert proposer.next_batch(0)[1] == [2]


def test_a_batch_that_raft_refuses_keeps_its_order() -> None:
    proposer = Proposer()
    proposer.add(1, a_transaction("a"))
    proposer.add(2, a_transaction("b"))
    proposer.put_back(*proposer.next_batch(0))
    proposer.add(3, a_transaction("c"))
    assert proposer.next_batch(0)[1] == [1, 2, 3]


def test_lost_leadership_leaves_what_was_under_way_unknown_and_refuses_the_rest() -> None:
    proposer = Proposer()
    proposer.add(1, a_transaction("under way"))
    proposer.proposed(4, proposer.next_batch(0)[1])
    proposer.add(2, a_transaction("waiting"))
    proposer.add(NOBODY, a_transaction("a status"))
    unknown, refused = proposer.lost_leadership()
    assert unknown == Answer(1, None)
    assert refused.token == 2
    assert refused.refused
    assert not proposer.wants_to_propose
    assert proposer.applied(4, [Verdict()]) == []


def test_an_entry_of_somebody_else_answers_nobody() -> None:
    proposer = Proposer()
    proposer.add(1, a_transaction("a"))
    proposer.proposed(4, proposer.next_batch(0)[1])
    assert proposer.applied(3, [Verdict()]) == []
    assert len(proposer.applied(4, [Verdict()])) == 1
