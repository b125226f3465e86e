"""Who calls, and what their role may do.

The role is in the certificate (organizational unit), so every listener can decide by itself.
Which role may call which method is a table beside each service; here is how it is applied.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from swarm.security.errors import AccessDenied, SecurityError


class Role(StrEnum):
    """What a caller is. The values are the organizational units in certificates, as Docker's."""

    MANAGER = "swarm-manager"
    WORKER = "swarm-worker"
    ADMIN = "swarm-admin"
    # Whoever may open the unix socket; never in a certificate.
    LOCAL = "local"


_WORDS = {
    Role.MANAGER: "a manager",
    Role.WORKER: "a worker",
    Role.ADMIN: "an administrator",
    Role.LOCAL: "a user of the local socket",
}


@dataclass(frozen=True)
class Caller:
    """Who makes a call.

    Attributes:
        role: what the caller may be trusted with.
        node_id: the node that calls, empty where the caller is a person.
        cluster_id: the cluster that its certificate was issued for, empty on the local socket.
        who: what is recorded as the author of a change: "node ID", "admin NAME", "uid 1000".
    """

    role: Role
    node_id: str
    cluster_id: str
    who: str


def local_caller(uid: int | None = None) -> Caller:
    """The caller on the unix socket; ``uid`` is the peer's, where it is known."""
    return Caller(Role.LOCAL, "", "", "local socket" if uid is None else f"uid {uid}")


def caller_from_auth_context(auth_context: Mapping[str, Iterable[bytes]]) -> Caller:
    """The caller as gRPC's ``context.auth_context()`` shows it.

    gRPC has verified the certificate's chain and validity in the handshake.

    Raises:
        SecurityError: there is no certificate, or it names no role (UNAUTHENTICATED).
    """
    for pem in auth_context.get("x509_pem_cert", ()):
        return _caller_of(pem)
    if b"local" in auth_context.get("transport_security_type", ()):
        return local_caller()
    raise SecurityError(
        "the caller shows no certificate: use the unix socket, or an admin certificate"
    )


@lru_cache(maxsize=4096)
def _caller_of(certificate_pem: bytes) -> Caller:
    # Parsing takes longer than an average handler; a certificate's answer never changes.
    from swarm.security.certificates import identity_of

    identity = identity_of(certificate_pem)
    kind = "admin" if identity.role is Role.ADMIN else "node"
    who = f"{kind} {identity.name}"
    return Caller(identity.role, identity.node_id, identity.cluster_id, who)


def authorize(
    caller: Caller,
    method: str,
    allowed: Mapping[str, Collection[Role]],
    *,
    cluster_id: str = "",
) -> None:
    """Let the call pass, or refuse it. A method that the table does not name is refused.

    Args:
        caller: who calls.
        method: gRPC's full name, "/package.Service/Method".
        allowed: the roles for each method.
        cluster_id: the cluster served here; a certificate of another one is refused even if
            both share a certificate authority.

    Raises:
        AccessDenied: the role does not suffice (PERMISSION_DENIED).
    """
    if caller.role not in allowed.get(method, ()):
        raise AccessDenied(f"{_WORDS[caller.role]} may not call {method}{_advice(caller.role)}")
    if cluster_id and caller.role is not Role.LOCAL and caller.cluster_id != cluster_id:
        raise AccessDenied(
            f"the certificate of {caller.who} is of cluster {caller.cluster_id}, this is "
            f"{cluster_id}: use a certificate of this cluster"
        )


def _advice(role: Role) -> str:
    if role is Role.WORKER:
        return ": run it on a manager, or promote this node first"
    if role is Role.ADMIN:
        return ": run it on that machine, by its unix socket"
    return ""
