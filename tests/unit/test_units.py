"""Durations, sizes, CPUs: the words and numbers of Go and docker/go-units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import units

SECOND = units.NS_PER_SECOND


@pytest.mark.parametrize(
    ("text", "duration_ns", "formatted"),
    [
        ("10s", 10 * SECOND, "10s"),
        ("1m30s", 90 * SECOND, "1m30s"),
        ("1h2m3.5s", 3_723_500_000_000, "1h2m3.5s"),
        ("-1.5h", -5400 * SECOND, "-1h30m0s"),
        (".5s", SECOND // 2, "500ms"),
        ("1.s", SECOND, "1s"),
        ("0", 0, "0s"),
        ("1ns", 1, "1ns"),
        ("1500us", 1_500_000, "1.5ms"),
        ("1µs", 1000, "1µs"),
        ("2m1m", 180 * SECOND, "3m0s"),
    ],
)
def test_durations(text: str, duration_ns: int, formatted: str) -> None:
    assert units.parse_duration(text) == duration_ns
    assert units.format_duration(duration_ns) == formatted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        (".s", 'time: invalid duration ".s"'),
        ("+", 'time: invalid duration "+"'),
        ("10", 'time: missing unit in duration "10"'),
        ("1s2", 'time: missing unit in duration "1s2"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("99999999h", 'time: invalid duration "99999999h"'),
        ("9" * 5000 + "h", f'time: invalid duration "{"9" * 5000}h"'),
    ],
)
def test_bad_durations(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        units.parse_duration(text)
    assert str(caught.value) == message


@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_a_formatted_duration_reads_back(duration_ns: int) -> None:
    assert units.parse_duration(units.format_duration(duration_ns)) == duration_ns


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_human_durations(seconds: float, words: str) -> None:
    assert units.human_duration(int(seconds * SECOND)) == words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512m", 512 << 20),
        ("1.5g", 3 << 29),
        ("64KiB", 64 << 10),
        ("64 kb", 64 << 10),
        ("100", 100),
        ("100B", 100),
        ("1T", 1 << 40),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "1ib", "1.2.3m", "-1m", "1m2", "m", "9" * 90, "9999999p"]
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        units.parse_bytes(text)
    assert str(caught.value) == f"invalid size: '{text}'"


def test_sizes_in_words() -> None:
    assert units.bytes_size(3 << 29) == "1.5GiB"
    assert units.bytes_size(1023) == "1023B"
    assert units.human_size(2_746_000) == "2.746MB"
    assert units.human_size(0) == "0B"
    assert units.parse_decimal_bytes("1kB") == 1000


@pytest.mark.parametrize(
    ("text", "nano", "formatted"),
    [
        ("0.5", 500_000_000, "0.5"),
        ("2", 2_000_000_000, "2"),
        ("1/4", 250_000_000, "0.25"),
        ("1e-3", 1_000_000, "0.001"),
        ("-1", -1_000_000_000, "-1"),
    ],
)
def test_cpus(text: str, nano: int, formatted: str) -> None:
    assert units.parse_cpus(text) == nano
    assert units.format_cpus(nano) == formatted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "failed to parse abc as a rational number"),
        ("1/0", "failed to parse 1/0 as a rational number"),
        ("0.0000000001", "value is too precise"),
        ("10000000000", "failed to parse 10000000000: value out of range"),
    ],
)
def test_bad_cpus(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        units.parse_cpus(text)
    assert str(caught.value) == message


def test_ids_and_ellipsis() -> None:
    assert units.truncate_id("abcdefghijklmnopqrstuvwxy") == "abcdefghijkl"
    assert units.truncate_id("sha256:0123456789abcdef") == "0123456789ab"
    assert units.ellipsis("hello", 5) == "hello"
    assert units.ellipsis("hello!", 5) == "hell…"
    assert units.ellipsis("日本語", 5) == "日本…"
    assert units.ellipsis("hello", 1) == "h"
    assert units.ellipsis("hello", 0) == ""


def test_quote() -> None:
    assert units.quote('a"b\\\n\x00é\u2028') == '"a\\"b\\\\\\n\\x00é\\u2028"'
