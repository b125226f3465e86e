"""Requests on their way to one effect, without a manager."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from swarm.api.v1.store_pb2 import (
    VERDICT_OK,
    VERDICT_VERSION,
    Change,
    LogPayload,
    Object,
    Transaction,
    Verdict,
)
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core import requests
from swarm.manager.core.requests import AskLeader, Here, NobodyLeads, RequestIds, Route
from swarm.manager.core.store import Store
from swarm.manager.core.validate import ErrorCode, InvalidRequest


def creation(task_id: str = "task") -> Transaction:
    return Transaction(changes=[Change(create=Object(task=Task(id=task_id)))])


def end_of(attempts: Generator[Transaction, Verdict, Verdict], verdict: Verdict) -> Verdict:
    with pytest.raises(StopIteration) as stopped:
        attempts.send(verdict)
    return stopped.value.value


def apply(store: Store, transaction: Transaction) -> Verdict:
    payload = LogPayload(proposed_at_ns=1, transactions=[transaction])
    (verdict,) = store.apply(2, 1, payload).verdicts
    return verdict


def test_the_same_request_makes_the_same_ids() -> None:
    first, again, other = RequestIds("a"), RequestIds("a"), RequestIds("b")
    made = [first.new(), first.new()]
    assert made == [again.new(), again.new()]
    assert len({*made, other.new()}) == 3


def test_an_attempt_is_proposed_under_an_id_of_its_own_until_one_takes_effect() -> None:
    store = Store()
    attempts = requests.commit("r", lambda: store, creation)
    assert next(attempts).request_id == "r#0"
    assert attempts.send(Verdict(code=VERDICT_VERSION)).request_id == "r#1"
    assert end_of(attempts, Verdict(code=VERDICT_OK, revision=7)).revision == 7


def test_what_was_done_already_is_answered_and_not_proposed() -> None:
    store = Store()
    verdict = apply(store, next(requests.commit("r", lambda: store, creation)))
    assert verdict.code == VERDICT_OK
    with pytest.raises(StopIteration) as stopped:
        next(requests.commit("r", lambda: store, creation))
    assert stopped.value.value == verdict
    assert requests.effect_of(store, "r") == verdict
    assert requests.effect_of(store, "other") is None
    assert requests.effect_of(store, "") is None


def missing() -> Transaction:
    raise InvalidRequest("service web not found", ErrorCode.NOT_FOUND)


def test_a_refusal_is_decided_by_the_log_and_no_copy_of_the_request_undoes_it() -> None:
    store = Store()
    refused = requests.commit("r", lambda: store, missing)
    late_copy = next(requests.commit("r", lambda: store, creation))
    verdict = apply(store, next(refused))
    with pytest.raises(InvalidRequest, match="web not found") as raised:
        refused.send(verdict)
    assert raised.value.code is ErrorCode.NOT_FOUND
    assert apply(store, late_copy) == verdict
    assert list(store.tasks()) == []
    with pytest.raises(InvalidRequest, match="web not found"):
        next(requests.commit("r", lambda: store, creation))


def test_what_took_effect_before_its_copy_was_refused_is_the_answer() -> None:
    store = Store()
    first = next(requests.commit("r", lambda: store, creation))
    copy = requests.commit("r", lambda: store, missing)
    refusal = next(copy)
    done = apply(store, first)
    assert end_of(copy, apply(store, refusal)) == done


def test_what_is_wrong_in_itself_is_refused_without_the_log() -> None:
    def build() -> Transaction:
        raise InvalidRequest("invalid name")

    with pytest.raises(InvalidRequest, match="invalid name"):
        next(requests.commit("r", Store, build))


def test_the_store_of_the_moment_is_asked() -> None:
    stores = [Store()]
    attempts = requests.commit("r", lambda: stores[-1], creation)
    next(attempts)
    stores.append(Store())
    done = creation()
    done.request_id = "r#1"
    verdict = apply(stores[-1], done)
    assert end_of(attempts, Verdict(code=VERDICT_VERSION)) == verdict


def test_too_many_conflicts_are_an_error_that_says_so() -> None:
    attempts = requests.commit("r", Store, creation)
    conflict = Verdict(code=VERDICT_VERSION, message="somebody else was faster")
    ids = [next(attempts).request_id]
    ids += [attempts.send(conflict).request_id for _ in range(4)]
    assert ids == [f"r#{number}" for number in range(5)]
    with pytest.raises(InvalidRequest, match="somebody else"):
        attempts.send(conflict)


def test_without_a_request_id_nothing_is_remembered() -> None:
    assert next(requests.commit("", Store, creation)).request_id == ""


def test_what_is_too_large_is_never_proposed() -> None:
    def build() -> Transaction:
        return Transaction(who="x" * (2 << 20))

    with pytest.raises(InvalidRequest):
        next(requests.commit("r", Store, build))


ROUTE = Route(forwarded=False, deadline=10.0)


def test_the_leader_performs_it() -> None:
    assert ROUTE.next(leads=True, leader=1, myself=1, now=0.0) == Here()


def test_a_follower_asks_the_leader_for_as_long_as_is_left() -> None:
    assert ROUTE.next(leads=False, leader=2, myself=1, now=0.0) == AskLeader(2, 5.0)
    assert ROUTE.next(leads=False, leader=2, myself=1, now=8.0) == AskLeader(2, 2.0)
    assert ROUTE.next(leads=False, leader=2, myself=1, now=11.0) == AskLeader(2, 0.1)


def test_nobody_is_asked_where_nobody_leads_or_a_new_leader_does_not_know_yet() -> None:
    assert ROUTE.next(leads=False, leader=0, myself=1, now=0.0) == NobodyLeads()
    assert ROUTE.next(leads=False, leader=1, myself=1, now=0.0) == NobodyLeads()


def test_what_was_passed_on_takes_no_second_hop_and_is_asked_again_by_its_sender() -> None:
    passed_on = Route(forwarded=True, deadline=10.0)
    assert passed_on.next(leads=False, leader=2, myself=1, now=0.0) == NobodyLeads()
    assert not passed_on.ask_again(0.0)


def test_the_unknown_is_asked_again_until_the_deadline() -> None:
    assert ROUTE.ask_again(10.0)
    assert not ROUTE.ask_again(10.1)


def test_who_waits_for_a_silent_leader_gives_up_when_another_leads() -> None:
    assert requests.is_given_up(asked=1, leader=2)
    assert not requests.is_given_up(asked=1, leader=1)
    assert not requests.is_given_up(asked=1, leader=0)
