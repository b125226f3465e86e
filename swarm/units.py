"""Durations, sizes and CPU shares as Docker's users write and read them. Pure.

Parsers raise `ValueError` with the words that Docker's client prints for the same mistake (Go's
`time.ParseDuration`, docker/go-units, docker/cli `opts.NanoCPUs`), so that a command line or a
compose file answers as a Docker user expects.
"""

from __future__ import annotations

import re
from fractions import Fraction
from unicodedata import east_asian_width

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_SECOND = 1_000_000_000
NS_PER_MINUTE = 60 * NS_PER_SECOND
NS_PER_HOUR = 60 * NS_PER_MINUTE

NANO_CPUS = 1_000_000_000
"""Nano-CPUs in one whole CPU."""

SHORT_ID_LENGTH = 12

_INT64_MAX = 2**63 - 1
_DURATION_UNITS = {
    "ns": 1,
    "us": NS_PER_US,
    "µs": NS_PER_US,  # micro sign
    "μs": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_SECOND,
    "m": NS_PER_MINUTE,
    "h": NS_PER_HOUR,
}
_DURATION_PART = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)
_SIZE_PREFIXES = "kmgtp"
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_RATIONAL = re.compile(r"[+-]?([0-9]+/[0-9]+|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?)")
_LONGEST_NUMBER = 64


def quote(text: str) -> str:
    """`text` in double quotes with Go's escapes, as `strconv.Quote` gives."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    escapes |= {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
    return '"' + "".join(escapes.get(c) or _escape(c) for c in text) + '"'


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as "10s", "1m30s", "-1.5h" or "0".

    Raises ValueError with Go's words: `time: invalid duration "x"`, `time: missing unit in
    duration "10"`, `time: unknown unit "d" in duration "1d"`.
    """
    invalid = f"time: invalid duration {quote(text)}"
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(invalid)
    total = 0
    while rest:
        part = _DURATION_PART.match(rest)
        assert part is not None, "the pattern matches the empty text"
        whole, fraction, unit = part[1], part[2] or "", part[3]
        if (not whole and not fraction[1:]) or len(whole) > _LONGEST_NUMBER:
            raise ValueError(invalid)
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _DURATION_UNITS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        scale = _DURATION_UNITS[unit]
        digits = fraction[1:_LONGEST_NUMBER]
        total += int(whole or "0") * scale
        total += int(digits or "0") * scale // 10 ** len(digits)
        if total > _INT64_MAX:
            raise ValueError(invalid)
        rest = rest[part.end() :]
    return sign * total


def format_duration(duration_ns: int) -> str:
    """A duration as Go prints it: "0s", "1.5ms", "10s", "1m30s", "1h2m3.5s"."""
    if duration_ns == 0:
        return "0s"
    sign, ns = ("-", -duration_ns) if duration_ns < 0 else ("", duration_ns)
    if ns < NS_PER_US:
        return f"{sign}{ns}ns"
    if ns < NS_PER_MS:
        return f"{sign}{_with_fraction(ns, NS_PER_US)}µs"
    if ns < NS_PER_SECOND:
        return f"{sign}{_with_fraction(ns, NS_PER_MS)}ms"
    minutes, rest = divmod(ns, NS_PER_MINUTE)
    hours, minutes = divmod(minutes, 60)
    text = f"{_with_fraction(rest, NS_PER_SECOND)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def human_duration(duration_ns: int) -> str:
    """A rough duration in words: "Less than a second", "About a minute", "3 weeks" (go-units)."""
    seconds = duration_ns // NS_PER_SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = (duration_ns + NS_PER_HOUR // 2) // NS_PER_HOUR
    if hours == 1:
        return "About an hour"
    for limit_hours, unit_hours, unit in (
        (48, 1, "hours"),
        (24 * 7 * 2, 24, "days"),
        (24 * 30 * 2, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit_hours:
            return f"{hours // unit_hours} {unit}"
    return f"{duration_ns // NS_PER_HOUR // 24 // 365} years"


def parse_bytes(text: str) -> int:
    """Bytes of a size with binary units: "512m", "1.5g", "64KiB", "100" (go-units RAMInBytes)."""
    return _parse_size(text, 1024)


def parse_decimal_bytes(text: str) -> int:
    """Bytes of a size with decimal units: "1kB" is 1000 (go-units FromHumanSize)."""
    return _parse_size(text, 1000)


def bytes_size(size: float) -> str:
    """A size with binary units and four digits: "1.5GiB" (go-units BytesSize)."""
    return _scaled(size, 1024, _BINARY_UNITS)


def human_size(size: float, digits: int = 4) -> str:
    """A size with decimal units: "1.5GB" (go-units HumanSizeWithPrecision)."""
    return _scaled(size, 1000, _DECIMAL_UNITS, digits)


def parse_cpus(text: str) -> int:
    """Nano-CPUs of a number of CPUs: "0.5", "2", "1/4" (docker/cli opts.ParseCPUs)."""
    if len(text) > _LONGEST_NUMBER or not _RATIONAL.fullmatch(text):
        raise ValueError(f"failed to parse {text} as a rational number")
    try:
        nano = Fraction(text) * NANO_CPUS
    except ZeroDivisionError as error:
        raise ValueError(f"failed to parse {text} as a rational number") from error
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    if abs(nano.numerator) > _INT64_MAX:
        raise ValueError(f"failed to parse {text}: value out of range")
    return nano.numerator


def format_cpus(nano_cpus: int) -> str:
    """A number of CPUs without needless zeros: "0.5", "2"."""
    sign, nano = ("-", -nano_cpus) if nano_cpus < 0 else ("", nano_cpus)
    return f"{sign}{_with_fraction(nano, NANO_CPUS)}"


def truncate_id(identifier: str) -> str:
    """The first 12 characters of an id, without the "sha256:" that image ids start with."""
    return identifier.rpartition(":")[2][:SHORT_ID_LENGTH]


def display_width(text: str) -> int:
    """Columns that `text` takes on a terminal; East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def ellipsis(text: str, width: int) -> str:
    """`text` cut to `width` columns, with "…" as the last where something was cut."""
    if width <= 0:
        return ""
    if display_width(text) <= width:
        return text
    if width == 1:
        return text[:1]
    kept, used = 0, 0
    for char in text:
        used += display_width(char)
        if used > width - 1:
            break
        kept += 1
    return text[:kept] + "…"


def general(value: float, digits: int) -> str:
    """`value` as C's and Go's %.Ng: `digits` significant digits, an exponent where it is large."""
    return f"{value:.{digits}g}"


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _with_fraction(value: int, scale: int) -> str:
    """`value / scale` exactly, without trailing zeros; scale is a power of ten."""
    whole, fraction = divmod(value, scale)
    if not fraction:
        return str(whole)
    digits = len(str(scale)) - 1
    return f"{whole}.{fraction:0{digits}d}".rstrip("0")


def _parse_size(text: str, base: int) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > _LONGEST_NUMBER:
        raise ValueError(f"invalid size: '{text}'")
    number, prefix = match[1], (match[2] or "").lower()
    scale = base ** (_SIZE_PREFIXES.index(prefix) + 1) if prefix else 1
    size = int(Fraction(number) * scale)
    if size > _INT64_MAX:
        raise ValueError(f"invalid size: '{text}'")
    return size


def _scaled(size: float, base: int, units: tuple[str, ...], digits: int = 4) -> str:
    exponent = 0
    while size >= base and exponent < len(units) - 1:
        size /= base
        exponent += 1
    return general(size, digits) + units[exponent]
