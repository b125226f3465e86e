"""Who calls, and who may."""

from datetime import UTC, datetime

import pytest

from swarm.security import certificates
from swarm.security.errors import AccessDenied, SecurityError
from swarm.security.roles import (
    Caller,
    Role,
    authorize,
    caller_from_auth_context,
    local_caller,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ALLOWED = {
    "/swarm.api.v1.Raft/Stream": {Role.MANAGER},
    "/swarm.api.v1.Control/ListNodes": {Role.ADMIN, Role.LOCAL, Role.MANAGER},
}


@pytest.fixture(scope="module")
def root() -> certificates.KeyPair:
    return certificates.create_root("c1", now=NOW)


def test_the_caller_is_whom_the_certificate_names(root: certificates.KeyPair) -> None:
    csr = certificates.create_request().csr_pem
    worker = certificates.issue_node_certificate(
        root, csr, node_id="n1", cluster_id="c1", role=Role.WORKER, now=NOW
    )
    admin = certificates.issue_admin_certificate(root, csr, name="jane", cluster_id="c1", now=NOW)
    tls = {"transport_security_type": [b"ssl"]}
    assert caller_from_auth_context(tls | {"x509_pem_cert": [worker]}) == Caller(
        Role.WORKER, "n1", "c1", "node n1"
    )
    assert caller_from_auth_context(tls | {"x509_pem_cert": [admin]}) == Caller(
        Role.ADMIN, "", "c1", "admin jane"
    )


def test_the_caller_on_the_unix_socket_is_local() -> None:
    caller = caller_from_auth_context({"transport_security_type": [b"local"]})
    assert caller == local_caller()
    assert caller.who == "local socket"
    assert local_caller(1000).who == "uid 1000"


@pytest.mark.parametrize(
    "context", [{}, {"transport_security_type": [b"ssl"]}, {"x509_pem_cert": [b"nonsense"]}]
)
def test_who_shows_nothing_is_nobody(context: dict[str, list[bytes]]) -> None:
    with pytest.raises(SecurityError):
        caller_from_auth_context(context)


def test_roles_are_checked_at_every_method() -> None:
    manager = Caller(Role.MANAGER, "n1", "c1", "node n1")
    worker = Caller(Role.WORKER, "n2", "c1", "node n2")
    authorize(manager, "/swarm.api.v1.Raft/Stream", ALLOWED)
    authorize(local_caller(), "/swarm.api.v1.Control/ListNodes", ALLOWED)
    with pytest.raises(AccessDenied, match="a worker may not call"):
        authorize(worker, "/swarm.api.v1.Raft/Stream", ALLOWED)
    with pytest.raises(AccessDenied, match="a manager may not call"):
        authorize(manager, "/swarm.api.v1.Raft/Unknown", ALLOWED)


def test_a_certificate_of_another_cluster_does_not_do() -> None:
    manager = Caller(Role.MANAGER, "n1", "c2", "node n1")
    with pytest.raises(AccessDenied, match="node n1 is of cluster c2, this is c1"):
        authorize(manager, "/swarm.api.v1.Raft/Stream", ALLOWED, cluster_id="c1")
    authorize(local_caller(), "/swarm.api.v1.Control/ListNodes", ALLOWED, cluster_id="c1")
