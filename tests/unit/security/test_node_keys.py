"""A node's keys on disk: a set that fits together, at every moment."""

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from swarm.disk import Disk, FatalDiskError, NoSpaceError
from swarm.security import certificates
from swarm.security.errors import SecurityError
from swarm.security.node_keys import NodeBundle, NodeKeys
from swarm.security.roles import Role

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module")
def root() -> certificates.KeyPair:
    return certificates.create_root("c1", now=NOW)


def bundle(root: certificates.KeyPair, request: certificates.Request | None = None) -> NodeBundle:
    request = request or certificates.create_request()
    certificate = certificates.issue_node_certificate(
        root, request.csr_pem, node_id="n1", cluster_id="c1", role=Role.MANAGER, now=NOW
    )
    return NodeBundle(request.key_pem, certificate, root.certificate_pem)


def test_there_are_none_at_first(tmp_path: Path) -> None:
    keys = NodeKeys(tmp_path)
    assert not keys.exists()
    with pytest.raises(SecurityError, match="run swarmctl swarm init or join"):
        keys.load()
    keys.remove()


def test_what_is_saved_is_loaded_and_replaced(tmp_path: Path, root: certificates.KeyPair) -> None:
    keys = NodeKeys(tmp_path / "state")
    for _ in range(3):
        saved = bundle(root)
        keys.save(saved, now=NOW)
        assert keys.exists()
        assert NodeKeys(tmp_path / "state").load() == saved
    assert saved.identity.node_id == "n1"
    folder = tmp_path / "state" / "certificates"
    # The names that people and other programs know.
    assert (folder / "node.key").read_bytes() == saved.key_pem
    assert (folder / "node.crt").read_bytes() == saved.certificate_pem
    assert (folder / "root.crt").read_bytes() == root.certificate_pem
    assert (folder / "node.key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    # No old key is left.
    assert len(list(folder.rglob("*.key"))) == 2
    keys.remove()
    assert not keys.exists()
    assert not folder.exists()


def test_a_request_is_the_same_until_it_is_answered(
    tmp_path: Path, root: certificates.KeyPair
) -> None:
    first = NodeKeys(tmp_path).request()
    again = NodeKeys(tmp_path).request()
    assert again.key_pem == first.key_pem
    assert certificates.node_id_of(again.csr_pem) == certificates.node_id_of(first.csr_pem)
    pending = tmp_path / "certificates" / "pending.key"
    assert pending.stat().st_mode & 0o777 == 0o600
    assert not NodeKeys(tmp_path).exists()
    NodeKeys(tmp_path).save(bundle(root, again), now=NOW)
    assert not pending.exists()
    assert NodeKeys(tmp_path).request().key_pem != first.key_pem


def test_what_does_not_fit_together_is_not_saved(
    tmp_path: Path, root: certificates.KeyPair
) -> None:
    keys = NodeKeys(tmp_path)
    good = bundle(root)
    keys.save(good, now=NOW)
    other_root = certificates.create_root("c1", now=NOW).certificate_pem
    other_key = certificates.create_request().key_pem
    with pytest.raises(SecurityError, match="does not belong"):
        keys.save(NodeBundle(other_key, good.certificate_pem, good.root_pem), now=NOW)
    with pytest.raises(SecurityError, match="not of this cluster"):
        keys.save(NodeBundle(good.key_pem, good.certificate_pem, other_root), now=NOW)
    with pytest.raises(SecurityError, match="expired"):
        keys.save(good, now=NOW + timedelta(days=91))
    assert keys.load() == good


def test_after_a_crash_at_any_step_a_whole_set_is_there(
    tmp_path: Path, root: certificates.KeyPair
) -> None:
    """The disk stops working after 1, 2, 3 … calls; then the process starts again."""
    old = bundle(root)
    outcomes: list[bool] = []
    for calls in range(40):
        folder = tmp_path / str(calls)
        NodeKeys(folder).save(old, now=NOW)
        new = bundle(root)
        disk = Disk(fsync=_stops_after(calls, os.fsync))
        try:
            NodeKeys(folder, disk).save(new, now=NOW)
            outcomes.append(True)
        except FatalDiskError:
            outcomes.append(False)
        found = NodeKeys(folder).load()
        assert found in (old, new)
        # And the next renewal works.
        NodeKeys(folder).save(new, now=NOW)
        assert NodeKeys(folder).load() == new
        if outcomes[-1]:
            break
    assert outcomes.count(False) >= 6
    assert outcomes[-1]


def _stops_after(calls: int, call: Callable[[int], None]) -> Callable[[int], None]:
    left = calls

    def stopping(fd: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        call(fd)

    return stopping


def test_a_full_disk_leaves_the_set_before(tmp_path: Path, root: certificates.KeyPair) -> None:
    old = bundle(root)
    NodeKeys(tmp_path).save(old, now=NOW)

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NoSpaceError, match="free some"):
        NodeKeys(tmp_path, Disk(pwrite=pwrite)).save(bundle(root), now=NOW)
    assert NodeKeys(tmp_path).load() == old
    NodeKeys(tmp_path).save(bundle(root), now=NOW)


def test_a_lost_file_is_named(tmp_path: Path, root: certificates.KeyPair) -> None:
    NodeKeys(tmp_path).save(bundle(root), now=NOW)
    (tmp_path / "certificates" / "current" / "node.crt").unlink()
    with pytest.raises(SecurityError, match=r"node.crt can't be read .*restore the folder"):
        NodeKeys(tmp_path).load()


def test_keys_do_not_show(root: certificates.KeyPair) -> None:
    assert "PRIVATE" not in repr(bundle(root))
