"""The certificate authority: what it issues, and what it refuses."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from swarm.security import certificates
from swarm.security.certificates import Identity, KeyPair
from swarm.security.errors import SecurityError
from swarm.security.roles import Role

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CLUSTER = "clusterid"


@pytest.fixture(scope="module")
def root() -> KeyPair:
    return certificates.create_root(CLUSTER, now=NOW)


def node(root: KeyPair, role: Role = Role.MANAGER, **options: timedelta) -> bytes:
    request = certificates.create_request()
    return certificates.issue_node_certificate(
        root,
        request.csr_pem,
        node_id="node1",
        cluster_id=CLUSTER,
        role=role,
        now=NOW,
        **options,
    )


def admin(root: KeyPair, name: str = "Jane Doe") -> bytes:
    request = certificates.create_request()
    return certificates.issue_admin_certificate(
        root, request.csr_pem, name=name, cluster_id=CLUSTER, now=NOW
    )


def test_a_node_certificate_says_who_and_what_the_node_is(root: KeyPair) -> None:
    manager, worker = node(root), node(root, Role.WORKER)
    assert certificates.identity_of(manager) == Identity("node1", Role.MANAGER, CLUSTER, "node1")
    assert certificates.identity_of(worker).role is Role.WORKER
    leaf = x509.load_pem_x509_certificate(manager)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["swarm-manager", "node1"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {
        x509.ExtendedKeyUsageOID.CLIENT_AUTH,
        x509.ExtendedKeyUsageOID.SERVER_AUTH,
    }


def test_lifetimes_are_dockers(root: KeyPair) -> None:
    hour = timedelta(hours=1)
    assert certificates.validity_of(root.certificate_pem) == (
        NOW - hour,
        NOW + timedelta(days=20 * 365),
    )
    assert certificates.validity_of(node(root)) == (NOW - hour, NOW + timedelta(days=90))
    assert certificates.validity_of(node(root, lifetime=hour)) == (NOW - hour, NOW + hour)
    with pytest.raises(SecurityError, match="an hour at least"):
        node(root, lifetime=timedelta(minutes=59))


def test_nothing_outlives_the_root(root: KeyPair) -> None:
    _, end = certificates.validity_of(node(root, lifetime=timedelta(days=40 * 365)))
    assert end == certificates.validity_of(root.certificate_pem)[1]


def test_only_the_key_is_taken_from_a_request(root: KeyPair) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, "other"),
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "swarm-manager"),
                ]
            )
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("swarm-manager")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    issued = certificates.issue_node_certificate(
        root, csr, node_id="node1", cluster_id=CLUSTER, role=Role.WORKER, now=NOW
    )
    assert certificates.identity_of(issued) == Identity("node1", Role.WORKER, CLUSTER, "node1")
    leaf = x509.load_pem_x509_certificate(issued)
    assert leaf.public_key() == key.public_key()
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(SecurityError, match="none of a swarm-manager"):
        certificates.verify_chain(issued, root.certificate_pem, now=NOW, name="swarm-manager")


def _sign(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    csr = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM)


def test_unacceptable_requests_are_refused(root: KeyPair) -> None:
    def issue(csr: bytes) -> bytes:
        return certificates.issue_node_certificate(
            root, csr, node_id="n", cluster_id=CLUSTER, role=Role.WORKER, now=NOW
        )

    with pytest.raises(SecurityError, match="no certificate request"):
        issue(b"nonsense")
    with pytest.raises(SecurityError, match="P-256"):
        issue(_sign(rsa.generate_private_key(65537, 2048)))
    with pytest.raises(SecurityError, match="P-256"):
        issue(_sign(ec.generate_private_key(ec.SECP384R1())))
    good = x509.load_pem_x509_csr(certificates.create_request().csr_pem)
    der = bytearray(good.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(SecurityError, match="not signed with its own key"):
        issue(forged)


@pytest.mark.parametrize("name", ["", "x" * 65, "line\nbreak"])
def test_unacceptable_names_are_refused(root: KeyPair, name: str) -> None:
    with pytest.raises(SecurityError, match="name"):
        admin(root, name)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.LOCAL])
def test_a_node_is_a_manager_or_a_worker(root: KeyPair, role: Role) -> None:
    with pytest.raises(SecurityError, match="a manager or a worker"):
        node(root, role)


def test_an_administrator_is_no_node(root: KeyPair) -> None:
    issued = admin(root)
    assert certificates.identity_of(issued) == Identity("", Role.ADMIN, CLUSTER, "Jane Doe")
    certificates.verify_chain(issued, root.certificate_pem, now=NOW)
    with pytest.raises(SecurityError):
        certificates.verify_chain(issued, root.certificate_pem, now=NOW, name="swarm-admin")


def test_a_listeners_certificate_is_no_identity(root: KeyPair) -> None:
    request = certificates.create_request()
    issued = certificates.issue_server_certificate(
        root,
        request.csr_pem,
        hosts=["10.0.0.1", "::1", "m1.example.org"],
        cluster_id=CLUSTER,
        now=NOW,
    )
    for name in ("swarm-manager", "m1.example.org"):
        certificates.verify_chain(issued, root.certificate_pem, now=NOW, name=name)
    with pytest.raises(SecurityError, match="names no role"):
        certificates.identity_of(issued)
    with pytest.raises(SecurityError, match="not of this cluster"):
        certificates.verify_chain(issued, root.certificate_pem, now=NOW)


def test_another_clusters_certificate_is_refused(root: KeyPair) -> None:
    other = certificates.create_root(CLUSTER, now=NOW)
    with pytest.raises(SecurityError, match="node1 is not of this cluster: check the address"):
        certificates.verify_chain(node(other), root.certificate_pem, now=NOW)
    # While a root is replaced both are trusted.
    bundle = root.certificate_pem + other.certificate_pem
    for issuer in (root, other):
        certificates.verify_chain(node(issuer), bundle, now=NOW, name="swarm-manager")


def test_expiry_is_said_clearly(root: KeyPair) -> None:
    issued = node(root)
    with pytest.raises(
        SecurityError, match=r"of node1 expired at 2027-02-21 12:00 UTC: check this machine's clock"
    ):
        certificates.verify_chain(issued, root.certificate_pem, now=NOW + timedelta(days=91))
    with pytest.raises(SecurityError, match="valid from 2026-11-23 11:00 UTC only: set this"):
        certificates.check_validity(issued, now=NOW - timedelta(hours=2))
    with pytest.raises(SecurityError, match="swarm-ca expired"):
        certificates.issue_node_certificate(
            root,
            certificates.create_request().csr_pem,
            node_id="n",
            cluster_id=CLUSTER,
            role=Role.WORKER,
            now=NOW + timedelta(days=21 * 365),
        )


def test_renewal_is_between_half_and_four_fifths_of_the_lifetime(root: KeyPair) -> None:
    issued = node(root, lifetime=timedelta(hours=99))
    start = NOW - timedelta(hours=1)
    assert certificates.renewal_time(issued, 0.0) == start + timedelta(hours=50)
    assert certificates.renewal_time(issued, 0.5) == start + timedelta(hours=65)
    assert certificates.renewal_time(issued, 1.0) == start + timedelta(hours=80)


def test_a_nodes_id_follows_from_its_key() -> None:
    request = certificates.create_request()
    node_id = certificates.node_id_of(request.csr_pem)
    again = certificates.create_request(request.key_pem)
    assert again.key_pem == request.key_pem
    assert certificates.node_id_of(again.csr_pem) == node_id
    assert len(node_id) == 25
    assert node_id.isalnum()
    assert certificates.node_id_of(certificates.create_request().csr_pem) != node_id


def test_what_is_not_pem_is_refused() -> None:
    with pytest.raises(SecurityError, match="no certificate in PEM form"):
        certificates.identity_of(b"")
    with pytest.raises(SecurityError, match="no unencrypted private key"):
        certificates.create_request(b"nonsense")


def test_keys_do_not_show(root: KeyPair) -> None:
    assert "PRIVATE" not in repr(root)
    assert "PRIVATE" not in repr(certificates.create_request())
