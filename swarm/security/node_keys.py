"""A node's private key, certificate and root certificate on disk.

All three have to fit together, and no crash may leave a new key beside an old certificate. So
each set is a folder of its own, written whole, and one rename of a link makes it the current
one (the way of Kubernetes' AtomicWriter):

    DIR/certificates/000002/{node.key, node.crt, root.crt}
    DIR/certificates/current -> 000002
    DIR/certificates/node.key -> current/node.key, and so on, for people and other programs
"""

import shutil
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from swarm.disk import REAL_DISK, Disk, fsync_folder, make_folder, write_durably, write_synced
from swarm.security import certificates
from swarm.security.certificates import Identity, Request
from swarm.security.errors import SecurityError

_FILES = {"node.key": 0o600, "node.crt": 0o644, "root.crt": 0o644}
_CURRENT = "current"
_PENDING = "pending.key"


@dataclass(frozen=True)
class NodeBundle:
    """What a node needs to speak TLS, all PEM."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    root_pem: bytes

    @cached_property
    def identity(self) -> Identity:
        """Whom the certificate is for."""
        return certificates.identity_of(self.certificate_pem)


class NodeKeys:
    """The keys of the node whose state is in a folder; one process at a time writes them."""

    def __init__(self, folder: Path, disk: Disk = REAL_DISK) -> None:
        self._folder = folder / "certificates"
        self._disk = disk

    def exists(self) -> bool:
        """Whether this machine has a certificate, that is, belongs to a cluster."""
        return (self._folder / _CURRENT).is_symlink()

    def load(self) -> NodeBundle:
        """The current set.

        Raises:
            SecurityError: there is none, or it can't be read.
        """
        if not self.exists():
            raise SecurityError(
                f"there is no node certificate in {self._folder}: run swarmctl swarm init or join"
            )
        try:
            # Resolved once: a renewal in between must not mix two sets.
            current = (self._folder / _CURRENT).resolve(strict=True)
            key, certificate, root = ((current / name).read_bytes() for name in _FILES)
        except OSError as error:
            raise SecurityError(
                f"{error.filename} can't be read ({error.strerror}): restore the folder "
                f"{self._folder} from a backup, or leave the cluster and join again"
            ) from error
        return NodeBundle(key, certificate, root)

    def request(self) -> Request:
        """A certificate request with a key that is on disk until a certificate for it is saved.

        After a crash while joining it is the same key again, hence the same node id.
        """
        make_folder(self._folder, self._disk)
        pending = self._folder / _PENDING
        if pending.exists():
            return certificates.create_request(pending.read_bytes())
        request = certificates.create_request()
        write_durably(pending, request.key_pem, 0o600, self._disk)
        return request

    def save(self, bundle: NodeBundle, *, now: datetime) -> None:
        """Make ``bundle`` the current set; after a crash it is either that or the one before.

        Raises:
            SecurityError: its parts do not fit together; nothing was changed.
            NoSpaceError: the disk is full; the set before stays.
            FatalDiskError: writing failed.
        """
        certificates.check_pair(bundle.certificate_pem, bundle.key_pem)
        certificates.verify_chain(bundle.certificate_pem, bundle.root_pem, now=now)
        make_folder(self._folder, self._disk)
        generation = self._write_generation(bundle)
        self._switch_to(generation)
        self._remove_all_but(generation)

    def remove(self) -> None:
        """Forget all keys, as leaving a cluster does."""
        if self._folder.exists():
            shutil.rmtree(self._folder)
            fsync_folder(self._folder.parent, self._disk)

    def _write_generation(self, bundle: NodeBundle) -> Path:
        generation = self._folder / f"{self._newest_generation() + 1:06d}"
        generation.mkdir(mode=0o700)
        contents = (bundle.key_pem, bundle.certificate_pem, bundle.root_pem)
        for (name, mode), content in zip(_FILES.items(), contents, strict=True):
            write_synced(generation / name, content, mode, self._disk)
        fsync_folder(generation, self._disk)
        fsync_folder(self._folder, self._disk)
        return generation

    def _switch_to(self, generation: Path) -> None:
        for name in _FILES:
            self._link(name, f"{_CURRENT}/{name}")
        self._link(_CURRENT, generation.name)
        fsync_folder(self._folder, self._disk)

    def _link(self, name: str, target: str) -> None:
        link = self._folder / name
        if link.is_symlink() and str(link.readlink()) == target:
            return
        beside = self._folder / f".{name}.tmp"
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(link)

    def _remove_all_but(self, generation: Path) -> None:
        (self._folder / _PENDING).unlink(missing_ok=True)
        for old in self._generations():
            if old != generation:
                shutil.rmtree(old)
        fsync_folder(self._folder, self._disk)

    def _newest_generation(self) -> int:
        return max((int(path.name) for path in self._generations()), default=0)

    def _generations(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.name.isdecimal()]
