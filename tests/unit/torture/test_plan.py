"""What is done to real managers follows from the seed, within its bounds."""

from __future__ import annotations

import pytest

from tests.torture.plan import CALM_S, STORM_S, Fault, Kind, at_once_max, draw

SEEDS = range(40)


@pytest.mark.parametrize("managers", [3, 5])
def test_the_same_seed_gives_the_same_plan(managers: int) -> None:
    assert draw(7, managers, 120, list(Kind)) == draw(7, managers, 120, list(Kind))
    assert draw(7, managers, 120, list(Kind)) != draw(8, managers, 120, list(Kind))


@pytest.mark.parametrize("managers", [3, 5])
def test_no_more_faults_at_once_than_allowed_and_some_calm_after_each_storm(managers: int) -> None:
    for seed in SEEDS:
        plan = draw(seed, managers, 100, list(Kind))
        assert len(plan) > 20
        for fault in plan:
            at_once = [f for f in plan if f.at_s <= fault.at_s < f.ends_s]
            assert len(at_once) <= at_once_max(managers)
            storm = fault.at_s % (STORM_S + CALM_S)
            assert storm + fault.lasts_s <= STORM_S + 1e-6
            assert fault.ends_s <= 100


def test_every_kind_is_drawn_and_no_other_than_asked_for() -> None:
    drawn = {fault.kind for seed in SEEDS for fault in draw(seed, 3, 60, list(Kind))}
    assert drawn == set(Kind)
    some = [Kind.KILL, Kind.PAUSE]
    assert {fault.kind for seed in SEEDS for fault in draw(seed, 5, 60, some)} == set(some)


def test_a_fault_at_the_leader_has_it_first_whoever_it_is() -> None:
    fault = Fault(Kind.PAUSE, 0, 1, (2, 3, 1), 1, at_leader=True, other_way=False)
    assert fault.aimed(1) == (1, 2, 3)
    assert fault.aimed(None) == (2, 3, 1)
