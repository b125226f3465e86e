"""Bugs in what is written, and in what a start makes of it."""

from __future__ import annotations

from typing import Any

from swarm.manager import wal_records
from swarm.manager.wal import Wal
from swarm.simulation.disk import Disk
from swarm.simulation.manager_host import ManagerHost
from swarm.simulation.mutants.patches import Maker, Patch


def _dropped_snapshot_chunk() -> list[Patch]:
    """The last piece of a snapshot of several is lost on the way, and nobody notices."""
    receive = ManagerHost.receive_snapshot

    def cut(self: ManagerHost, message: Any, chunks: list[bytes], checksum: Any, done: Any) -> None:
        if len(chunks) > 1:
            chunks, checksum = [chunks[0], *chunks[2:]], None
        receive(self, message, chunks, checksum, done)

    return [(ManagerHost, "receive_snapshot", cut)]


def _fsync_retried() -> list[Patch]:
    """A sync that failed is tried again, and succeeds (fsyncgate)."""
    write = Wal._write_and_sync  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def again(self: Wal, segment: Any, record: bytes) -> None:
        try:
            write(self, segment, record)
        except OSError:
            self._disk.fdatasync(segment.fd)  # pyright: ignore[reportPrivateUsage]

    return [(Wal, "_write_and_sync", again)]


def _damage_cut_off() -> list[Patch]:
    """Damage in the middle of the log is taken for a torn end."""

    def torn(data: bytes, offset: int) -> bool:
        del data, offset
        return True

    return [(wal_records, "_is_torn", torn)]


def _lost_disk_comes_back() -> list[Patch]:
    """A manager whose log is gone begins an empty one under its old id (moby/swarmkit#1815)."""

    def told(self: ManagerHost, storage: Any) -> bool:
        del self, storage
        return False

    return [(Disk, "has_log", True), (ManagerHost, "was_told_nothing", told)]


MAKERS: dict[str, Maker] = {
    "dropped-snapshot-chunk": _dropped_snapshot_chunk,
    "fsync-retried": _fsync_retried,
    "damage-cut-off": _damage_cut_off,
    "lost-disk-comes-back": _lost_disk_comes_back,
}
