"""When a health check runs and what its results mean."""

from __future__ import annotations

from swarm.worker.runtime.healthcheck import HealthState, command, merged
from swarm.worker.runtime.port import Healthcheck, HealthStatus

S = 1_000_000_000
IMAGE = Healthcheck(("CMD", "probe"), interval_ns=7 * S, retries=9)


def test_the_spec_goes_before_the_image_value_by_value():
    spec = Healthcheck(interval_ns=2 * S)
    assert merged(spec, IMAGE) == Healthcheck(("CMD", "probe"), interval_ns=2 * S, retries=9)
    assert merged(None, IMAGE) == IMAGE
    own = Healthcheck(("CMD-SHELL", "x"))
    assert merged(own, None) == own


def test_no_check():
    assert merged(None, None) is None
    assert merged(Healthcheck(("NONE",)), IMAGE) is None
    assert merged(None, Healthcheck(("NONE",))) is None
    assert merged(Healthcheck(interval_ns=S), None) is None


def test_commands():
    assert command(Healthcheck(("CMD", "a", "b"))) == ("a", "b")
    assert command(Healthcheck(("CMD-SHELL", "a b"))) == ("/bin/sh", "-c", "a b")


def test_retries_in_a_row_make_it_unhealthy_and_one_success_heals():
    state = HealthState(Healthcheck(("CMD", "x"), retries=2), 0)
    state.note(1, S)
    assert state.status is HealthStatus.STARTING
    state.note(0, 2 * S)
    assert (state.status, state.failing_streak) == (HealthStatus.HEALTHY, 0)
    state.note(1, 3 * S)
    assert state.status is HealthStatus.HEALTHY
    state.note(1, 4 * S)
    assert (state.status, state.failing_streak) == (HealthStatus.UNHEALTHY, 2)
    state.note(0, 5 * S)
    assert state.status is HealthStatus.HEALTHY


def test_failures_in_the_start_period_do_not_count_until_a_first_success():
    check = Healthcheck(("CMD", "x"), retries=1, start_period_ns=10 * S, start_interval_ns=S)
    state = HealthState(check, 0)
    assert state.pause_ns(0) == S
    state.note(1, 5 * S)
    assert state.status is HealthStatus.STARTING
    state.note(0, 6 * S)
    assert state.pause_ns(6 * S) == 30 * S
    state.note(1, 7 * S)
    assert state.status is HealthStatus.UNHEALTHY


def test_after_the_start_period_failures_count():
    state = HealthState(Healthcheck(("CMD", "x"), retries=1, start_period_ns=10 * S), 0)
    state.note(1, 10 * S)
    assert state.status is HealthStatus.UNHEALTHY
