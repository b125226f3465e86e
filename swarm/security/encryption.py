"""Encryption at rest of the log, snapshots and backups.

AES-256-GCM breaks if a nonce is ever used twice with one key, and a manager seals millions of
records over years and restarts. A random 96-bit nonce under one key is safe for 2^32 messages
only (NIST SP 800-38D, 8.3), a counter must survive every crash and must not run twice in a copied
machine. So each process, and within it every 2^24 messages, draws a random 128-bit salt and seals
under a key of its own, HKDF(key, salt), with random nonces: the chance of one repeated nonce is
2^-49 per salt. Nothing has to be remembered, and a fork or a cloned machine does no harm.

A sealed text is: version (1 byte), key id (4), salt (16), nonce (12), ciphertext, tag (16). All
before the ciphertext is authenticated with it.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swarm.disk import make_folder, write_durably
from swarm.security.errors import SecurityError, WrongKeyError

_VERSION = 1
_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_SALT_BYTES = 16
_NONCE_BYTES = 12
_TAG_BYTES = 16
_PREFIX_BYTES = 1 + _KEY_ID_BYTES + _SALT_BYTES
_HEADER_BYTES = _PREFIX_BYTES + _NONCE_BYTES
_SEALS_PER_SALT = 1 << 24
_KEY_FILE = "key"
_KEY_FILE_LINE = "swarm-key-1 "


def generate_key() -> bytes:
    """A random 256-bit key."""
    return os.urandom(_KEY_BYTES)


class Encrypter:
    """Seals with one key, opens what that key or an older one has sealed. Thread-safe."""

    overhead = _HEADER_BYTES + _TAG_BYTES

    def __init__(
        self, key: bytes, *older: bytes, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._key = key
        self._random_bytes = random_bytes
        self._keys = {key_id_of(each): each for each in (key, *older)}
        self._cipher_of = lru_cache(maxsize=64)(self._derive)
        self._renew_salt()

    def seal(self, plaintext: bytes, aad: bytes = b"") -> bytes:
        """Encrypt; ``aad`` is not stored, but has to be the same for :meth:`open`.

        Use it to say what the text is and where it belongs, so that nobody can move it.
        """
        # Several threads may pass the limit together; it has room for that.
        self._seals_left -= 1
        if self._seals_left <= 0:
            self._renew_salt()
        prefix, cipher = self._current
        nonce = self._random_bytes(_NONCE_BYTES)
        return b"".join((prefix, nonce, cipher.encrypt(nonce, plaintext, prefix + aad)))

    def open(self, sealed: bytes, aad: bytes = b"") -> bytes:
        """Decrypt and authenticate.

        Raises:
            WrongKeyError: another key or a newer version sealed it.
            SecurityError: it was changed, moved or cut short.
        """
        if len(sealed) < self.overhead:
            raise SecurityError("the encrypted text is cut short")
        if sealed[0] != _VERSION:
            raise WrongKeyError(
                f"the encryption format {sealed[0]} is unknown: a newer swarmd has written it"
            )
        prefix = bytes(sealed[:_PREFIX_BYTES])
        cipher = self._cipher_of(prefix)
        try:
            return cipher.decrypt(
                bytes(sealed[_PREFIX_BYTES:_HEADER_BYTES]),
                memoryview(sealed)[_HEADER_BYTES:],
                prefix + aad,
            )
        except InvalidTag:
            raise SecurityError("the encrypted text was changed or moved") from None

    def _renew_salt(self) -> None:
        prefix = bytes((_VERSION,)) + key_id_of(self._key) + self._random_bytes(_SALT_BYTES)
        self._current = (prefix, self._cipher_of(prefix))
        self._seals_left = _SEALS_PER_SALT

    def _derive(self, prefix: bytes) -> AESGCM:
        key_id = prefix[1 : 1 + _KEY_ID_BYTES]
        key = self._keys.get(key_id)
        if key is None:
            raise WrongKeyError(
                f"this was encrypted with the key {key_id.hex()}, which this manager does not "
                f"have (it has {', '.join(sorted(each.hex() for each in self._keys))}): restore "
                "the key file that belongs to it"
            )
        return AESGCM(_hkdf(key, prefix[1 + _KEY_ID_BYTES :], b"swarm seal", _KEY_BYTES))


def open_encrypter(raft_folder: Path) -> Encrypter:
    """The encrypter with this manager's key, ``raft_folder/key``.

    The key is created where there is nothing yet that one could have encrypted.

    Raises:
        SecurityError: the key is missing beside a log, or the file is damaged.
    """
    path = raft_folder / _KEY_FILE
    if path.exists():
        return Encrypter(*_read_keys(path))
    if any(path for name in ("wal", "snapshots") for path in (raft_folder / name).glob("*")):
        raise SecurityError(
            f"{path} is missing, and without it the log beside it can't be read: put the key back, "
            f"or move {raft_folder} away, start swarmd again, and on another manager `swarmctl "
            "node demote` and `swarmctl node promote` this node"
        )
    make_folder(raft_folder)
    key = generate_key()
    write_durably(path, f"{_KEY_FILE_LINE}{key.hex()}\n".encode(), 0o600)
    return Encrypter(key)


def _read_keys(path: Path) -> list[bytes]:
    """One key a line, the one to seal with first."""
    keys: list[bytes] = []
    for line in path.read_text("ascii", errors="replace").splitlines():
        try:
            key = bytes.fromhex(line.removeprefix(_KEY_FILE_LINE))
        except ValueError:
            key = b""
        if not line.startswith(_KEY_FILE_LINE) or len(key) != _KEY_BYTES:
            raise SecurityError(f"{path} is damaged: restore it from a backup")
        keys.append(key)
    if not keys:
        raise SecurityError(f"{path} is empty: restore it from a backup")
    return keys


def key_id_of(key: bytes) -> bytes:
    """What names a key without telling it: 4 bytes."""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"an encryption key has {_KEY_BYTES} bytes, not {len(key)}")
    return _hkdf(key, None, b"swarm key id", _KEY_ID_BYTES)


def _hkdf(key: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(key)
