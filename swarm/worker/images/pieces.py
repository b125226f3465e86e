"""Blobs in pieces of a MiB, each with its own digest: what nodes give each other."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from swarm.worker.core.fetch import PIECE_BYTES

DIGEST_BYTES = 32


def piece_list(blob: Path) -> bytes:
    """The digests of its pieces, one after another. Raises OSError."""
    digests: list[bytes] = []
    with blob.open("rb") as file:
        while data := file.read(PIECE_BYTES):
            digests.append(hashlib.sha256(data).digest())
    return b"".join(digests) or hashlib.sha256(b"").digest()


def list_digest(pieces: bytes) -> str:
    return f"sha256:{hashlib.sha256(pieces).hexdigest()}"


def read_piece(path: Path, number: int) -> bytes:
    """Raises OSError."""
    with path.open("rb") as file:
        return os.pread(file.fileno(), PIECE_BYTES, number * PIECE_BYTES)


class PartialBlob:
    """A blob of which some pieces are here. The file says itself which: each is checked anew when
    it is taken up again, so nothing has to be written down beside it."""

    def __init__(self, path: Path, size_bytes: int, pieces: bytes) -> None:
        self.path = path
        self.pieces = pieces
        self._size = size_bytes
        self.here: set[int] = set()

    def open(self) -> None:
        """Makes the file, or looks what an earlier attempt left in it. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            with self.path.open("wb") as file:
                file.truncate(self._size)
            return
        with self.path.open("rb+") as file:
            file.truncate(self._size)
        for number in range(len(self.pieces) // DIGEST_BYTES):
            if self.is_right(number, read_piece(self.path, number)):
                self.here.add(number)

    def is_right(self, number: int, data: bytes) -> bool:
        place = number * DIGEST_BYTES
        return hashlib.sha256(data).digest() == self.pieces[place : place + DIGEST_BYTES]

    def write(self, number: int, data: bytes) -> None:
        """Raises OSError."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, data, number * PIECE_BYTES)
        finally:
            os.close(descriptor)
        self.here.add(number)
