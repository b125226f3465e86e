"""The records of a log segment, and how a torn end is told from damage.

A record is a header of 24 bytes, the sealed payload, and 8 to 15 bytes of 0xA5 that round the
whole to a multiple of 8. Segments are preallocated with zeros, and the log writes and syncs one
record at a time. Hence:

- zeros where a header should be, up to the end of the file: the log ends here;
- a record that was acknowledged is whole. One that a crash has torn is the last, and at least
  one of its sectors still is what it was before: zeros. Because records are aligned to 8 bytes
  and hold no long run of zeros (ciphertext, filler), a missing sector shows in every piece of it;
- everything else is damage. It is refused, because cutting it off could drop what this manager
  has promised to keep (Protocol-Aware Recovery, Alagappan et al., FAST 2018).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from swarm.disk import CorruptFileError

_HEADER = struct.Struct("<3sBIQI")
_HEADER_CHECK = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _HEADER_CHECK.size
# The third byte is the format's version; "\xd7W" because no text and no zeros begin so.
_MAGIC = b"\xd7W"
_VERSION = b"\x01"
_ALIGNMENT = 8
_TRAILER = b"\xa5" * _ALIGNMENT
_SECTOR = 512
_ZEROS = bytes(1 << 20)


class RecordType(IntEnum):
    """What a record holds."""

    SEGMENT = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was found: still sealed."""

    type: int
    number: int
    offset: int
    payload: bytes


@dataclass(slots=True)
class Scan:
    """The outcome of reading a segment: where it ends, and whether a torn record follows."""

    end: int = 0
    torn: bool = False


def encode(record_type: RecordType, number: int, payload: bytes) -> bytes:
    """The bytes of a record, a multiple of 8."""
    header = _HEADER.pack(_MAGIC + _VERSION, record_type, len(payload), number, zlib.crc32(payload))
    return b"".join((header, _HEADER_CHECK.pack(zlib.crc32(header)), payload, _filler(payload)))


def encoded_size(payload_bytes: int) -> int:
    """How many bytes a record with such a payload takes."""
    return _HEADER_BYTES + payload_bytes + _filler_bytes(payload_bytes)


def scan(
    path: Path, data: bytes, scan_result: Scan, *, last: bool, way_out: str
) -> Iterator[Record]:
    """Yield the intact records of a segment, then say in ``scan_result`` where they end.

    Args:
        path: the segment, for messages.
        data: all of it.
        scan_result: filled in as records are yielded.
        last: whether it is the newest segment, the only one that may end in a torn record.
        way_out: what to tell somebody whose segment is damaged.

    Raises:
        CorruptFileError: it is damaged, with the place.
    """
    offset, number = 0, None
    while offset < len(data):
        record, end = _intact_record(data, offset)
        if record is None:
            break
        if number is not None and record.number != number + 1:
            problem = f"record {record.number} follows record {number}"
            raise CorruptFileError(path, offset, problem, way_out)
        yield record
        offset, number = end, record.number
        scan_result.end = end
    if _is_zero(data, offset, len(data)):
        return
    _refuse_newer_format(path, data, offset)
    if not (last and _is_torn(data, offset)):
        raise CorruptFileError(
            path, offset, "a record is damaged, and not by being written half", way_out
        )
    scan_result.torn = True


def end_of_data(data: bytes) -> int:
    """The offset behind the last byte that is not zero."""
    return len(data.rstrip(b"\0"))


def _intact_record(data: bytes, offset: int) -> tuple[Record | None, int]:
    header = _header(data, offset)
    if header is None:
        return None, offset
    record_type, length, number, check = header
    start = offset + _HEADER_BYTES
    payload = data[start : start + length]
    end = start + length + _filler_bytes(length)
    if len(payload) != length or zlib.crc32(payload) != check:
        return None, offset
    if data[start + length : end] != _filler(payload):
        return None, offset
    return Record(record_type, number, offset, payload), end


def _header(data: bytes, offset: int) -> tuple[int, int, int, int] | None:
    """Type, payload length, number and payload check of an intact header."""
    if offset + _HEADER_BYTES > len(data):
        return None
    magic, record_type, length, number, check = _HEADER.unpack_from(data, offset)
    (header_check,) = _HEADER_CHECK.unpack_from(data, offset + _HEADER.size)
    if magic != _MAGIC + _VERSION:
        return None
    if zlib.crc32(data[offset : offset + _HEADER.size]) != header_check:
        return None
    return record_type, length, number, check


def _is_torn(data: bytes, offset: int) -> bool:
    """Whether what begins at ``offset`` is one record that a crash cut short, the last one."""
    header_end = offset + _HEADER_BYTES
    if header_end > len(data):
        return True
    header = _header(data, offset)
    if header is None:
        if _is_zero(data, header_end, len(data)):
            return True
        # The header's sector is missing, while some of what follows it was written.
        return _misses_a_sector(data, offset, header_end) and not _has_header(data, header_end)
    length = header[1]
    end = header_end + length + _filler_bytes(length)
    if end > len(data):
        return True
    if not _is_zero(data, end, len(data)):
        # Something was written after it, so it had been synced: it was whole once.
        return False
    return _misses_a_sector(data, offset, end) or _is_cut_trailer(data[end - _ALIGNMENT : end])


def _misses_a_sector(data: bytes, start: int, end: int) -> bool:
    """Whether all that the range has in one of its sectors is zeros, as before it was written."""
    while start < end:
        sector_end = min(end, (start // _SECTOR + 1) * _SECTOR)
        if _is_zero(data, start, sector_end):
            return True
        start = sector_end
    return False


def _is_cut_trailer(trailer: bytes) -> bool:
    written = trailer.rstrip(b"\0")
    return written != trailer and _TRAILER.startswith(written)


def _has_header(data: bytes, start: int) -> bool:
    """Whether any intact header follows, at whatever place records may begin."""
    position = data.find(_MAGIC + _VERSION, start)
    while position >= 0:
        if position % _ALIGNMENT == 0 and _header(data, position) is not None:
            return True
        position = data.find(_MAGIC + _VERSION, position + 1)
    return False


def _refuse_newer_format(path: Path, data: bytes, offset: int) -> None:
    start = data[offset : offset + _HEADER_BYTES]
    if len(start) < _HEADER_BYTES or not start.startswith(_MAGIC) or start[2:3] == _VERSION:
        return
    (check,) = _HEADER_CHECK.unpack_from(start, _HEADER.size)
    if zlib.crc32(start[: _HEADER.size]) == check:
        raise CorruptFileError(
            path,
            offset,
            f"its format is {start[2]}, and this swarmd knows {_VERSION[0]}",
            "Start the newer swarmd that has written it.",
        )


def _is_zero(data: bytes, start: int, end: int) -> bool:
    while start < end:
        piece = data[start : min(end, start + len(_ZEROS))]
        if piece != _ZEROS[: len(piece)]:
            return False
        start += len(piece)
    return True


def _filler_bytes(payload_bytes: int) -> int:
    return _ALIGNMENT + -payload_bytes % _ALIGNMENT


def _filler(payload: bytes) -> bytes:
    return b"\xa5" * _filler_bytes(len(payload))
