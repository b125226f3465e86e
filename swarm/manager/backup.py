"""Backups: the store at one index, encrypted with a key that a passphrase gives.

The manager's own key stays on its machine, and a backup is for the day that machine is gone. So
its key is scrypt(passphrase, salt), and whoever has file and passphrase can restore it anywhere;
docs/decisions says why a passphrase.

A backup is a header of 48 bytes (magic with the format's version, scrypt's parameters and salt,
the key's id, a crc32), then frames: kind, length, sealed text. Each frame is sealed together with
the header and its place, and the last one says that it is the last: no chunk can be missing,
exchanged, or from another backup. Blocking; memory is bounded by a chunk.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.message import DecodeError

from swarm.api.v1.store_pb2 import SnapshotHeader, SnapshotPiece
from swarm.manager.core.store import Restoration, Store, UnknownOperation
from swarm.security.encryption import Encrypter, key_id_of
from swarm.security.errors import SecurityError

PASSPHRASE_CHARACTERS_MIN = 12
_MAGIC = b"SWARMBAK"
_VERSION = 1
# Magic, version, scrypt's log2(n), r, p, key id, salt.
_HEADER = struct.Struct("<8sBBBB4s16s")
_CHECK = struct.Struct("<I")
_HEADER_BYTES = 48
_FRAME = struct.Struct("<BI")
_PLACE = struct.Struct("<BQ")
_CHUNK_BYTES_MAX = 4 << 20
# 128 MiB and about half a second for each guess (OWASP's choice for scrypt).
_SCRYPT = (17, 8, 1)
_SCRYPT_MAX = (19, 8, 4)
_WAY_OUT = "nothing was changed; take another backup"


class BackupError(Exception):
    """It can't be made or read: one line, with what to do."""


class _Kind(IntEnum):
    CHUNK = 1
    END = 2


@dataclass(frozen=True, slots=True)
class Backup:
    """What was read: a store, and the place in the log that it was taken at."""

    store: Store
    header: SnapshotHeader


def check_passphrase(passphrase: str) -> None:
    """BackupError for one that is too easily guessed."""
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise BackupError(
            f"the passphrase has {len(passphrase)} characters, and a backup holds the swarm's root "
            f"key: use {PASSPHRASE_CHARACTERS_MIN} or more"
        )


def write_backup(pieces: Iterable[bytes], passphrase: str) -> Iterator[bytes]:
    """The backup's bytes, for each of a `StoreImage.serialised` some."""
    salt = os.urandom(16)
    key = _key(passphrase, salt, *_SCRYPT)
    fields = _HEADER.pack(_MAGIC, _VERSION, *_SCRYPT, key_id_of(key), salt)
    header = (fields + _CHECK.pack(zlib.crc32(fields))).ljust(_HEADER_BYTES, b"\0")
    encrypter = Encrypter(key)
    yield header
    number = 0
    for number, piece in enumerate(pieces, 1):
        yield _frame(encrypter, header, _Kind.CHUNK, number, piece)
    yield _frame(encrypter, header, _Kind.END, number + 1, b"")


def _frame(
    encrypter: Encrypter, header: bytes, kind: _Kind, number: int, plaintext: bytes
) -> bytes:
    sealed = encrypter.seal(plaintext, header + _PLACE.pack(kind, number))
    return _FRAME.pack(kind, len(sealed)) + sealed


class BackupReader:
    """Takes a backup's bytes in whatever portions they come, and checks all of them."""

    def __init__(self, passphrase: str) -> None:
        self._passphrase = passphrase
        self._buffer = bytearray()
        self._offset = 0
        self._header = b""
        self._encrypter: Encrypter | None = None
        self._number = 0
        self._ended = False
        self._restoration = Restoration()

    def feed(self, data: bytes) -> None:
        """BackupError."""
        self._buffer += data
        if self._encrypter is None:
            # Enough to say that it is something else.
            if not _MAGIC.startswith(self._buffer[: len(_MAGIC)]):
                raise BackupError("this is no backup of a swarm: it does not begin as one")
            if len(self._buffer) < _HEADER_BYTES:
                return
            self._encrypter = self._read_header(self._take(_HEADER_BYTES))
        while self._read_frame(self._encrypter):
            pass

    def finish(self) -> Backup:
        """All of it was fed. BackupError."""
        if not self._ended:
            raise self._damaged("it is cut short", self._offset + len(self._buffer))
        store = self._restoration.finish()
        assert self._restoration.header is not None
        return Backup(store, self._restoration.header)

    def _read_header(self, header: bytes) -> Encrypter:
        if header[8] != _VERSION:
            raise BackupError(
                f"the backup's format is {header[8]}, and this swarmd knows {_VERSION}: restore it "
                "with the newer swarmd that has written it"
            )
        fields = header[: _HEADER.size]
        (check,) = _CHECK.unpack_from(header, _HEADER.size)
        _, _, *cost, key_id, salt = _HEADER.unpack(fields)
        if check != zlib.crc32(fields) or any(header[_HEADER.size + _CHECK.size :]):
            raise self._damaged("its header is wrong", 0)
        if any(have > most for have, most in zip(cost, _SCRYPT_MAX, strict=True)):
            raise self._damaged("its header asks for more than any swarmd does", 0)
        key = _key(self._passphrase, salt, *cost)
        if key_id_of(key) != key_id:
            raise BackupError(
                "the passphrase is not the one that the backup was made with: nothing was changed"
            )
        self._header = header
        return Encrypter(key)

    def _read_frame(self, encrypter: Encrypter) -> bool:
        """Whether there was a whole one."""
        if self._ended:
            if self._buffer:
                raise self._damaged("there is something after its end")
            return False
        if len(self._buffer) < _FRAME.size:
            return False
        kind, length = _FRAME.unpack_from(self._buffer)
        if kind not in tuple(_Kind) or length > _CHUNK_BYTES_MAX + Encrypter.overhead:
            raise self._damaged("a chunk's header is wrong")
        if len(self._buffer) < _FRAME.size + length:
            return False
        sealed = bytes(memoryview(self._buffer)[_FRAME.size : _FRAME.size + length])
        self._number += 1
        try:
            plaintext = encrypter.open(sealed, self._header + _PLACE.pack(kind, self._number))
        except SecurityError as error:
            raise self._damaged(str(error)) from None
        if kind == _Kind.END:
            self._ended = True
        else:
            self._add(plaintext)
        self._take(_FRAME.size + length)
        return True

    def _add(self, plaintext: bytes) -> None:
        try:
            self._restoration.add(SnapshotPiece.FromString(plaintext))
        except UnknownOperation as error:
            raise BackupError(f"the backup holds {error}; nothing was changed") from None
        except (DecodeError, ValueError) as error:
            raise self._damaged(str(error)) from None

    def _take(self, size: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        self._offset += size
        return taken

    def _damaged(self, problem: str, offset: int | None = None) -> BackupError:
        place = self._offset if offset is None else offset
        return BackupError(f"the backup is damaged at byte {place}: {problem}; {_WAY_OUT}")


def _key(passphrase: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        passphrase.encode(), salt=salt, n=1 << log2_n, r=r, p=p, maxmem=1 << 30, dklen=32
    )
