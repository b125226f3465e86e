"""Where the managers are: `-H`, SWARM_HOST and the certificate to show them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from swarm.cli.errors import CliError

CA_FILE, CERT_FILE, KEY_FILE = "ca.pem", "cert.pem", "key.pem"
SYSTEM_SOCKET = Path("/var/run/swarm/swarmd.sock")
_DEFAULT_PORT = 2378
_SOCKET_PATH_BYTES_MAX = 107


@dataclass(frozen=True)
class Endpoint:
    """One address to try: `name` as users write it, `target` as gRPC does."""

    name: str
    target: str
    is_unix: bool


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: the cluster's root, and an admin's certificate with its key."""

    ca: Path
    cert: Path
    key: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Root, key, certificate. Raises CliError that names the file."""
        try:
            return self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes()
        except OSError as error:
            raise CliError(
                f"cannot read {error.filename}: {error.strerror}: SWARM_CERT_PATH must name a "
                "folder with ca.pem, cert.pem and key.pem, as 'swarmctl cert create' makes it"
            ) from error

    def problem(self) -> str:
        """Why no manager takes them, as far as can be known here; "" where they may be good."""
        from swarm.security.certificates import check_pair, validity_of, verify_chain
        from swarm.security.errors import SecurityError

        try:
            start, end = validity_of(self.cert.read_bytes())
        except (OSError, SecurityError) as error:
            return f"{self.cert}: {error}"
        now = datetime.now(UTC)
        if now > end:
            return (
                f"{self.cert} expired at {end:%Y-%m-%d %H:%M} UTC: make another one on a manager "
                "with 'swarmctl cert create --force'"
            )
        if now < start:
            return (
                f"{self.cert} is valid from {start:%Y-%m-%d %H:%M} UTC only: set this machine's "
                "clock"
            )
        try:
            check_pair(self.cert.read_bytes(), self.key.read_bytes())
            verify_chain(self.cert.read_bytes(), self.ca.read_bytes(), now=now)
        except (OSError, SecurityError):
            return f"{self.ca}, {self.cert} and {self.key} do not belong together"
        return ""


def parse_endpoints(hosts: Sequence[str]) -> list[Endpoint]:
    """Addresses, each text a comma-separated list of unix://PATH or HOST:PORT.

    Raises CliError for one that is neither.
    """
    texts = [text.strip() for host in hosts for text in host.split(",")]
    return [_parse_endpoint(text) for text in texts if text]


def default_endpoint(environment: Mapping[str, str]) -> Endpoint:
    """The system's daemon if its socket is there, else the user's own, where that is there."""
    sockets = [SYSTEM_SOCKET, *_user_sockets(environment)]
    socket = next((path for path in sockets if path.exists()), sockets[0])
    return _parse_endpoint(f"unix://{socket}")


def certificates(
    environment: Mapping[str, str], files: Mapping[str, str] | None = None
) -> Certificates | None:
    """The files given (by the names that they have in a folder), else those in SWARM_CERT_PATH,
    else in the user's own folder; None where there are none."""
    given = {name: Path(path) for name, path in (files or {}).items() if path}
    folder = environment.get("SWARM_CERT_PATH")
    if not given and not folder and not (own_certificates(environment) / CERT_FILE).exists():
        return None
    base = Path(folder) if folder else own_certificates(environment)
    ca, cert, key = (given.get(name, base / name) for name in (CA_FILE, CERT_FILE, KEY_FILE))
    return Certificates(ca, cert, key)


def own_certificates(environment: Mapping[str, str]) -> Path:
    """Where a user's certificate is looked for without SWARM_CERT_PATH."""
    return Path(environment.get("HOME") or "/") / ".swarm"


def _user_sockets(environment: Mapping[str, str]) -> list[Path]:
    runtime_dir = environment.get("XDG_RUNTIME_DIR")
    if runtime_dir:
        return [Path(runtime_dir) / "swarm" / "swarmd.sock"]
    if os.geteuid() == 0:
        return []
    data = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return [Path(data) / "swarm" / "swarmd.sock"]


def _parse_endpoint(text: str) -> Endpoint:
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = ("unix", text) if text.startswith("/") else ("tcp", text)
    if scheme == "unix" and rest:
        path = Path(rest).absolute()
        if len(os.fsencode(path)) > _SOCKET_PATH_BYTES_MAX:
            raise CliError(
                f'invalid host "{text}": the path of a unix socket has {_SOCKET_PATH_BYTES_MAX} '
                "bytes at most",
                125,
            )
        return Endpoint(f"unix://{path}", f"unix:{path}", is_unix=True)
    if scheme == "tcp" and rest:
        address = rest.rstrip("/")
        host, colon, port = address.rpartition(":")
        if not colon or address.endswith("]"):
            host, port = address, str(_DEFAULT_PORT)
        if host and port.isdecimal() and 0 < int(port) < 65536:
            return Endpoint(f"{host}:{port}", f"{host}:{port}", is_unix=False)
    raise CliError(f'invalid host "{text}": write unix://PATH or HOST:PORT', 125)
