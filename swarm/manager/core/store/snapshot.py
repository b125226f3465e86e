"""The store at one index, to be written in pieces between other work, and read back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swarm.api.v1.store_pb2 import RememberedVerdict, SnapshotHeader, SnapshotPiece
from swarm.manager.core.store.objects import StoreObject, wrap

FORMAT = 1
# What this version knows; a cluster at a higher level needs a newer swarmd.
FEATURE_LEVEL = 1
PIECE_BYTES_MAX = 256 << 10


@dataclass(frozen=True, slots=True)
class StoreImage:
    """A shallow copy: rows are never mutated, so it stays as it was."""

    header: SnapshotHeader
    rows: Sequence[Sequence[StoreObject]]
    verdicts: Sequence[RememberedVerdict]

    def pieces(self) -> Iterator[SnapshotPiece]:
        """The header, then objects, then verdicts; each piece is at most 256 KiB unless one
        object alone is larger."""
        yield SnapshotPiece(header=self.header)
        yield from self._object_pieces()
        yield from self._verdict_pieces()

    def _object_pieces(self) -> Iterator[SnapshotPiece]:
        piece, size = SnapshotPiece(), 0
        for rows in self.rows:
            for obj in rows:
                wrapped = wrap(obj)
                added = wrapped.ByteSize() + _FRAMING_BYTES
                if size and size + added > PIECE_BYTES_MAX:
                    yield piece
                    piece, size = SnapshotPiece(), 0
                piece.objects.append(wrapped)
                size += added
        if size:
            yield piece

    def _verdict_pieces(self) -> Iterator[SnapshotPiece]:
        piece, size = SnapshotPiece(), 0
        for verdict in self.verdicts:
            added = verdict.ByteSize() + _FRAMING_BYTES
            if size and size + added > PIECE_BYTES_MAX:
                yield piece
                piece, size = SnapshotPiece(), 0
            piece.verdicts.append(verdict)
            size += added
        if size:
            yield piece


# Tag and length of an element in a piece.
_FRAMING_BYTES = 6
