"""Moments as --since and --until give them, and as lines begin with them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from swarm.cli.errors import CliError
from swarm.units import NS_PER_SECOND, parse_duration

_FRACTION = re.compile(r"\.([0-9]+)")


def parse_moment(flag: str, text: str | None, now_ns: int) -> int:
    """Unix nanoseconds of "42m" ago, a number of seconds, or an RFC 3339 time; 0 for none.

    Raises CliError.
    """
    if not text:
        return 0
    try:
        return now_ns - parse_duration(text)
    except ValueError:
        pass
    try:
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            return int(float(text) * NS_PER_SECOND)
        return _timestamp_ns(text)
    except ValueError:
        raise CliError(
            f'invalid value for "{flag}": failed to parse value as time or duration: "{text}"'
        ) from None


def _timestamp_ns(text: str) -> int:
    fraction = _FRACTION.search(text)
    ns = int(fraction[1].ljust(9, "0")[:9]) if fraction else 0
    moment = datetime.fromisoformat(_FRACTION.sub("", text))
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return int(moment.timestamp()) * NS_PER_SECOND + ns


def fixed_nano(unix_ns: int) -> str:
    """A time with all nine digits, so that columns align."""
    seconds, ns = divmod(unix_ns, NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"
