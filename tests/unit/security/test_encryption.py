"""Encryption at rest: what was sealed opens with its key and its place, and nowhere else."""

from pathlib import Path

import pytest

from swarm.security import encryption
from swarm.security.encryption import Encrypter, generate_key, open_encrypter
from swarm.security.errors import SecurityError, WrongKeyError


def test_what_is_sealed_opens() -> None:
    encrypter = Encrypter(generate_key())
    for plaintext in (b"", b"x", b"y" * 100_000):
        sealed = encrypter.seal(plaintext, b"place")
        assert len(sealed) == len(plaintext) + Encrypter.overhead
        assert encrypter.open(sealed, b"place") == plaintext


def test_another_process_with_the_key_opens_it() -> None:
    key = generate_key()
    sealed = Encrypter(key).seal(b"text", b"place")
    assert Encrypter(key).open(sealed, b"place") == b"text"


def test_every_bit_and_the_place_are_authenticated() -> None:
    encrypter = Encrypter(generate_key())
    sealed = encrypter.seal(b"text", b"place")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x10
        with pytest.raises(SecurityError):
            encrypter.open(bytes(changed), b"place")
    with pytest.raises(SecurityError, match="changed or moved"):
        encrypter.open(sealed, b"elsewhere")
    for length in range(len(sealed)):
        with pytest.raises(SecurityError):
            encrypter.open(sealed[:length], b"place")


def test_another_key_is_told_from_damage() -> None:
    sealed = Encrypter(generate_key()).seal(b"text")
    with pytest.raises(WrongKeyError, match=r"encrypted with the key [0-9a-f]{8}, which"):
        Encrypter(generate_key()).open(sealed)
    with pytest.raises(WrongKeyError, match="format 2 is unknown: a newer swarmd"):
        Encrypter(generate_key()).open(b"\x02" + sealed[1:])


def test_an_older_key_still_opens() -> None:
    old, new = generate_key(), generate_key()
    sealed = Encrypter(old).seal(b"text")
    both = Encrypter(new, old)
    assert both.open(sealed) == b"text"
    assert Encrypter(new).open(both.seal(b"next")) == b"next"


def test_no_salt_and_nonce_are_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "_SEALS_PER_SALT", 10)
    key = generate_key()
    sealed = [Encrypter(key).seal(b"text") for _ in range(20)]
    encrypter = Encrypter(key)
    sealed += [encrypter.seal(b"text") for _ in range(95)]
    prefixes = [text[:33] for text in sealed]
    assert len(set(prefixes)) == len(prefixes)
    # A process takes a new salt in time, not only at its start.
    assert len({text[:21] for text in sealed}) == 20 + 10
    assert all(encrypter.open(text) == b"text" for text in sealed)


def test_the_key_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "raft"
    sealed = open_encrypter(folder).seal(b"text")
    assert open_encrypter(folder).open(sealed) == b"text"
    assert (folder / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["wal/1.wal", "snapshots/1.snap"])
def test_no_key_is_made_beside_a_log(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    with pytest.raises(SecurityError, match=r"key is missing.*put the key back"):
        open_encrypter(tmp_path)
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(
    "text", ["", "nonsense", "swarm-key-1 00ff", "swarm-key-1 " + "0" * 63 + "g", "0" * 64, "\xff"]
)
def test_a_damaged_key_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text, "latin-1")
    with pytest.raises(SecurityError, match="restore it from a backup"):
        open_encrypter(tmp_path)


def test_a_key_file_may_hold_older_keys(tmp_path: Path) -> None:
    new, old = generate_key(), generate_key()
    (tmp_path / "key").write_text(f"swarm-key-1 {new.hex()}\nswarm-key-1 {old.hex()}\n")
    encrypter = open_encrypter(tmp_path)
    assert encrypter.open(Encrypter(old).seal(b"text")) == b"text"
    assert Encrypter(new).open(encrypter.seal(b"text")) == b"text"
