"""The store at one index, to be written in pieces between other work, and read back."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from swarm.api.v1.store_pb2 import Object, RememberedVerdict, SnapshotHeader, SnapshotPiece
from swarm.manager.core.store.objects import TABLES, StoreObject, kind_of

FORMAT = 1
# What this version knows; a cluster at a higher level needs a newer swarmd.
FEATURE_LEVEL = 1
# What is read back in one go, between other work: some hundred rows.
PIECE_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class StoreImage:
    """A shallow copy: rows are never mutated, so it stays as it was."""

    header: SnapshotHeader
    rows: Sequence[Sequence[StoreObject]]
    verdicts: Sequence[RememberedVerdict]

    def pieces(self) -> Iterator[SnapshotPiece]:
        """The header, then objects, then verdicts; each piece is at most 64 KiB unless one
        object alone is larger."""
        return (SnapshotPiece.FromString(piece) for piece in self.serialised())

    def serialised(self) -> Iterator[bytes]:
        """The pieces as they are written and sent."""
        yield SnapshotPiece(header=self.header).SerializeToString()
        yield from _packed(self._framed_rows())
        yield from _packed(
            _framed(_VERDICTS, verdict.SerializeToString()) for verdict in self.verdicts
        )

    def _framed_rows(self) -> Iterator[bytes]:
        """Each row as an element of SnapshotPiece.objects.

        Put together by hand, as protobuf's wire format is: a message is its fields one after the
        other, a field its number, its length and its bytes. Rows that are copied into an Object
        and a SnapshotPiece first take three times as long.
        """
        for table, rows in zip(TABLES, self.rows, strict=True):
            kind = _tag(Object, kind_of(table))
            for obj in rows:
                yield _framed(_OBJECTS, _framed(kind, obj.SerializeToString()))


def _packed(elements: Iterable[bytes]) -> Iterator[bytes]:
    """Elements together in pieces."""
    piece: list[bytes] = []
    size = 0
    for element in elements:
        if size and size + len(element) > PIECE_BYTES_MAX:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(element)
        size += len(element)
    if size:
        yield b"".join(piece)


def _framed(tag: bytes, content: bytes) -> bytes:
    return b"".join((tag, _varint(len(content)), content))


def _tag(message: type[Message], field: str) -> bytes:
    """Of a field that has a length."""
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _HAS_LENGTH)


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)


_HAS_LENGTH = 2
_OBJECTS = _tag(SnapshotPiece, "objects")
_VERDICTS = _tag(SnapshotPiece, "verdicts")
