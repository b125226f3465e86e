"""Backups: the whole store or one clear line, whatever happened to the file."""

import random
import re

import pytest

from swarm.api.v1.cluster_pb2 import Cluster, ClusterSecrets
from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.store_pb2 import Change, LogPayload, SnapshotHeader, SnapshotPiece, Transaction
from swarm.manager import backup
from swarm.manager.backup import BackupError, BackupReader, check_passphrase, write_backup
from swarm.manager.core.store import Store, wrap
from swarm.manager.core.store.objects import TABLES

PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost is in the file; here it is the least that scrypt takes."""
    monkeypatch.setattr(backup, "_SCRYPT", (4, 1, 1))


@pytest.fixture
def store() -> Store:
    secrets = ClusterSecrets(root_key_pem=b"-----BEGIN PRIVATE KEY", worker_token="SWMTKN-1-x")
    store = Store()
    rows = [Cluster(id="c", secrets=secrets), *(Node(id=f"n{i:06}") for i in range(20_000))]
    changes = [Change(create=wrap(row)) for row in rows]
    store.apply(7, 2, LogPayload(transactions=[Transaction(request_id="r", changes=changes)]))
    return store


def written(store: Store) -> bytes:
    image = store.snapshot(7, 2, ConfState(voters=[1]))
    return b"".join(write_backup(image.serialised(), PASSPHRASE))


def read(data: bytes, passphrase: str = PASSPHRASE, portion: int = 1 << 16) -> backup.Backup:
    reader = BackupReader(passphrase)
    for start in range(0, len(data), portion):
        reader.feed(data[start : start + portion])
    return reader.finish()


def test_what_was_written_is_read_in_whatever_portions(store: Store) -> None:
    data = written(store)
    for portion in (len(data), 65_536, 1_000):
        found = read(data, portion=portion)
        assert [found.store.digest(t) for t in TABLES] == [store.digest(t) for t in TABLES]
        assert found.store.verdict("r") == store.verdict("r")
        assert (found.header.index, found.header.term) == (7, 2)
        assert found.header.revision == store.revision


def test_nothing_of_it_can_be_read_without_the_passphrase(store: Store) -> None:
    data = written(store)
    assert b"PRIVATE KEY" not in data
    assert b"SWMTKN" not in data
    with pytest.raises(BackupError, match="passphrase is not the one"):
        read(data, PASSPHRASE + " ")


def test_two_backups_share_no_key(store: Store) -> None:
    assert written(store)[:48] != written(store)[:48]


def test_each_wrong_byte_is_found(store: Store) -> None:
    data = written(store)
    rng = random.Random(5)
    # Few: each is a password's key derived anew.
    anywhere = (rng.randrange(len(data)) for _ in range(15))
    places = {*range(20), *range(20, 60, 5), len(data) - 1, *anywhere}
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        with pytest.raises(BackupError) as caught:
            read(bytes(changed))
        said = str(caught.value)
        assert "\n" not in said
        assert re.search(r"damaged at byte \d+|no backup|format is", said), said


def test_each_cut_is_found(store: Store) -> None:
    data = written(store)
    for end in (0, 7, 20, 48, 60, len(data) // 2, len(data) - 1):
        with pytest.raises(BackupError, match="cut short"):
            read(data[:end])
    with pytest.raises(BackupError, match="after its end"):
        read(data + b"\0")


def test_frames_can_be_neither_left_out_nor_exchanged(store: Store) -> None:
    image = store.snapshot(7, 2, ConfState())
    header, *frames = write_backup(image.serialised(), PASSPHRASE)
    assert len(frames) > 3
    for wrong in (
        [frames[0], *frames[2:]],
        [frames[0], frames[2], frames[1], *frames[3:]],
        [*frames[:-2], frames[-1]],
    ):
        with pytest.raises(BackupError, match="changed or moved"):
            read(header + b"".join(wrong))


def test_newer_formats_say_what_to_do(store: Store) -> None:
    data = bytearray(written(store))
    data[8] = 2
    with pytest.raises(BackupError, match="newer swarmd"):
        read(bytes(data))
    later = [SnapshotPiece(header=SnapshotHeader(format=9)).SerializeToString()]
    with pytest.raises(BackupError, match=r"format 9.*update swarmd"):
        read(b"".join(write_backup(later, PASSPHRASE)))


def test_a_header_that_asks_for_all_memory_is_refused(store: Store) -> None:
    import struct
    import zlib

    data = bytearray(written(store))
    data[9] = 40
    data[32:36] = struct.pack("<I", zlib.crc32(data[:32]))
    with pytest.raises(BackupError, match="more than any swarmd"):
        read(bytes(data))


def test_a_short_passphrase_is_refused() -> None:
    check_passphrase("x" * 12)
    with pytest.raises(BackupError, match="12 or more"):
        check_passphrase("x" * 11)
