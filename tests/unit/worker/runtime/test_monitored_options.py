"""Log options and stop signals as Docker spells them."""

from __future__ import annotations

import pytest

from swarm.worker.runtime.monitored import (
    LOG_BYTES_MAX,
    LOG_FILES_MAX,
    log_limits,
    signal_number,
)
from swarm.worker.runtime.port import RuntimeRefused


def test_log_limits():
    assert log_limits("", {}) == (LOG_BYTES_MAX, LOG_FILES_MAX)
    assert log_limits("json-file", {"max-size": "5k", "max-file": "2"}) == (5120, 2)
    assert log_limits("local", {"max-size": "2MB"})[0] == 2 * 1024 * 1024
    assert log_limits("", {"max-size": "100"})[0] == 100


@pytest.mark.parametrize(
    ("driver", "options", "field"),
    [
        ("syslog", {}, "log_driver"),
        ("", {"tag": "x"}, "log_options"),
        ("", {"max-size": "ten"}, "log_options"),
        ("", {"max-size": "0"}, "log_options"),
        ("", {"max-file": "0"}, "log_options"),
    ],
)
def test_log_options_that_are_refused(driver: str, options: dict[str, str], field: str):
    with pytest.raises(RuntimeRefused) as refused:
        log_limits(driver, options)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("int", 2), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)],
)
def test_signals(text: str, number: int):
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "SIGNOPE", "0", "65", "TERM+x"])
def test_signals_that_are_refused(text: str):
    with pytest.raises(RuntimeRefused):
        signal_number(text)
