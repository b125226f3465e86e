"""How large entries are, and how many fit."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.raft_pb2 import Entry

NO_LIMIT = 2**64 - 1


def entry_size(entry: Entry) -> int:
    """Bytes of an entry on the wire: exact for the payload, and a little generous for the rest.

    Computed rather than asked of protobuf, which would encode the entry to know.
    """
    varints = (entry.term.bit_length() + 6) // 7 + (entry.index.bit_length() + 6) // 7
    length = len(entry.data)
    return length + varints + 4 + ((length.bit_length() + 6) // 7 + 1 if length else 0)


def payload_size(entries: Sequence[Entry]) -> int:
    """Bytes of data in the entries."""
    return sum([len(entry.data) for entry in entries])


def fitting(entries: Sequence[Entry], max_size: int) -> int:
    """How many of the first entries fit in `max_size` bytes; one always does."""
    size = 0
    for count, entry in enumerate(entries):
        size += entry_size(entry)
        if size > max_size and count:
            return count
    return len(entries)
