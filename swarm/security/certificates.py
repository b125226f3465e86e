"""The cluster's certificate authority and what it issues.

Contents and lifetimes are Docker Swarm's (swarmkit ca/certificates.go): ECDSA P-256, the common
name is the node's id, the organizational unit its role, the organization the cluster's id.
From a certificate request only the public key is taken; the subject is the authority's to say.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarm.security import base36
from swarm.security.errors import SecurityError
from swarm.security.roles import Role

ROOT_LIFETIME = timedelta(days=20 * 365)
NODE_LIFETIME = timedelta(days=90)
ADMIN_LIFETIME = timedelta(days=365)
MINIMUM_LIFETIME = timedelta(hours=1)
# Clocks of nodes differ: a certificate is valid for one whose clock is an hour late.
BACKDATE = timedelta(hours=1)

# The join listener's certificate proves a manager, but is no identity to call with.
_JOIN_LISTENER_UNIT = "swarm-join"
_ID_BYTES = 16
_ID_WIDTH = 25
_NAME_LIMIT = 64
_CERTIFICATE_ROLES = {role.value: role for role in (Role.MANAGER, Role.WORKER, Role.ADMIN)}
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True)
class Request:
    """A certificate request and the private key it was made with, both PEM."""

    key_pem: bytes = field(repr=False)
    csr_pem: bytes


@dataclass(frozen=True)
class Identity:
    """Whom a certificate is for.

    Attributes:
        node_id: empty in an administrator's certificate.
        role: what its holder is.
        cluster_id: the cluster that it was issued for.
        name: the common name: the node's id, or the administrator's name.
    """

    node_id: str
    role: Role
    cluster_id: str
    name: str


# --- issuing ------------------------------------------------------------------------------


def create_root(cluster_id: str, *, now: datetime) -> KeyPair:
    """A new certificate authority, valid for 20 years."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(common_name="swarm-ca", unit="", cluster_id=cluster_id)
    usage = _key_usage(signs_certificates=True)
    certificate = (
        x509.CertificateBuilder(issuer_name=subject, subject_name=subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_certificate_to_pem(certificate), _key_to_pem(key))


def create_request(key_pem: bytes | None = None) -> Request:
    """A certificate request for a new P-256 key, or for the given one."""
    key = ec.generate_private_key(ec.SECP256R1()) if key_pem is None else load_key(key_pem)
    csr = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    return Request(_key_to_pem(key), csr.public_bytes(serialization.Encoding.PEM))


def node_id_of(csr_pem: bytes) -> str:
    """The id of the node with the request's key: 25 characters, the same for the same key."""
    public = _request_key(csr_pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base36.encode(hashlib.sha256(public).digest()[:_ID_BYTES], _ID_WIDTH)


def issue_node_certificate(
    root: KeyPair,
    csr_pem: bytes,
    *,
    node_id: str,
    cluster_id: str,
    role: Role,
    now: datetime,
    lifetime: timedelta = NODE_LIFETIME,
) -> bytes:
    """A certificate with which a node serves and calls.

    Raises:
        SecurityError: the request, the role or the lifetime is not acceptable.
    """
    if role not in (Role.MANAGER, Role.WORKER):
        raise SecurityError(f"a node is a manager or a worker, not {role.value}")
    return _issue(
        root,
        csr_pem,
        subject=_subject(common_name=node_id, unit=role.value, cluster_id=cluster_id),
        names=[x509.DNSName(role.value), x509.DNSName(node_id)],
        usages=[_SERVER, _CLIENT],
        now=now,
        lifetime=lifetime,
    )


def issue_admin_certificate(
    root: KeyPair,
    csr_pem: bytes,
    *,
    name: str,
    cluster_id: str,
    now: datetime,
    lifetime: timedelta = ADMIN_LIFETIME,
) -> bytes:
    """A certificate with which a person calls from another machine; it can't serve.

    Raises:
        SecurityError: the request, the name or the lifetime is not acceptable.
    """
    return _issue(
        root,
        csr_pem,
        subject=_subject(common_name=name, unit=Role.ADMIN.value, cluster_id=cluster_id),
        names=[x509.DNSName(Role.ADMIN.value)],
        usages=[_CLIENT],
        now=now,
        lifetime=lifetime,
    )


def issue_server_certificate(
    root: KeyPair,
    csr_pem: bytes,
    *,
    hosts: Iterable[str],
    cluster_id: str,
    now: datetime,
    lifetime: timedelta = NODE_LIFETIME,
) -> bytes:
    """A certificate for a listener without client certificates, as the join listener.

    It proves to be a manager (name ``swarm-manager``) and the given host names and addresses,
    names no role to call with, and can't be used by a client.

    Raises:
        SecurityError: the request or the lifetime is not acceptable.
    """
    return _issue(
        root,
        csr_pem,
        subject=_subject(
            common_name=Role.MANAGER.value, unit=_JOIN_LISTENER_UNIT, cluster_id=cluster_id
        ),
        names=[x509.DNSName(Role.MANAGER.value), *(_general_name(host) for host in hosts)],
        usages=[_SERVER],
        now=now,
        lifetime=lifetime,
    )


def _issue(
    root: KeyPair,
    csr_pem: bytes,
    *,
    subject: x509.Name,
    names: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    now: datetime,
    lifetime: timedelta,
) -> bytes:
    if lifetime < MINIMUM_LIFETIME:
        raise SecurityError(f"a certificate is valid for an hour at least, not {lifetime}")
    check_validity(root.certificate_pem, now=now)
    authority = load_certificates(root.certificate_pem)[0]
    public_key = _request_key(csr_pem)
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        x509.CertificateBuilder(issuer_name=authority.subject, subject_name=subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + lifetime, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(load_key(root.key_pem), hashes.SHA256())
    )
    return _certificate_to_pem(certificate)


# --- reading and checking -----------------------------------------------------------------


def identity_of(certificate_pem: bytes) -> Identity:
    """Whom the first certificate of the PEM text is for.

    Raises:
        SecurityError: it is no certificate of a node or an administrator.
    """
    subject = load_certificates(certificate_pem)[0].subject
    name = _only(subject, NameOID.COMMON_NAME)
    cluster_id = _only(subject, NameOID.ORGANIZATION_NAME)
    role = _CERTIFICATE_ROLES.get(_only(subject, NameOID.ORGANIZATIONAL_UNIT_NAME))
    if role is None or not name or not cluster_id:
        raise SecurityError(
            f"the certificate of {subject.rfc4514_string() or 'nobody'} names no role in a "
            "cluster: use one that a manager of this cluster has issued"
        )
    return Identity("" if role is Role.ADMIN else name, role, cluster_id, name)


def validity_of(certificate_pem: bytes) -> tuple[datetime, datetime]:
    """From when to when the certificate is valid."""
    certificate = load_certificates(certificate_pem)[0]
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def check_validity(certificate_pem: bytes, *, now: datetime) -> None:
    """Refuse a certificate that has expired or is not valid yet.

    Raises:
        SecurityError: the message names the certificate, the moment, and what to do.
    """
    start, end = validity_of(certificate_pem)
    who = _who(load_certificates(certificate_pem)[0])
    if now > end:
        raise SecurityError(
            f"the certificate of {who} expired at {end:%Y-%m-%d %H:%M} UTC: check this machine's "
            "clock; if it is right, leave the cluster and join again"
        )
    if now < start:
        raise SecurityError(
            f"the certificate of {who} is valid from {start:%Y-%m-%d %H:%M} UTC only: "
            "set this machine's clock"
        )


def verify_chain(
    certificate_pem: bytes, root_pem: bytes, *, now: datetime, name: str | None = None
) -> None:
    """Refuse a certificate that the root (or one of a bundle of roots) has not issued.

    Args:
        certificate_pem: the certificate, followed by intermediate ones where there are any.
        root_pem: one or several roots.
        now: the moment at which it has to be valid.
        name: a DNS name that it has to carry, for example "swarm-manager".

    Raises:
        SecurityError: it is not trusted, not valid now, or does not carry the name.
    """
    check_validity(certificate_pem, now=now)
    leaf, *intermediates = load_certificates(certificate_pem)
    store = verification.Store(load_certificates(root_pem))
    builder = verification.PolicyBuilder().store(store).time(now)
    try:
        if name is None:
            builder.build_client_verifier().verify(leaf, intermediates)
        else:
            verifier = builder.build_server_verifier(x509.DNSName(name))
            verifier.verify(leaf, intermediates)
    except verification.VerificationError as error:
        wanted = f" or is none of a {name}" if name else ""
        raise SecurityError(
            f"the certificate of {_who(leaf)} is not of this cluster{wanted}: check the address, "
            f"and that both belong to the same cluster ({_reason(error)})"
        ) from error


def check_pair(certificate_pem: bytes, key_pem: bytes) -> None:
    """Refuse a private key that is not the certificate's.

    Raises:
        SecurityError: they do not belong together.
    """
    if load_key(key_pem).public_key() != load_certificates(certificate_pem)[0].public_key():
        raise SecurityError("the private key does not belong to the certificate")


def renewal_time(certificate_pem: bytes, fraction: float) -> datetime:
    """When to ask for the next certificate: between 50 and 80 % of the lifetime.

    Args:
        certificate_pem: the certificate in use.
        fraction: a random number in [0, 1), so that nodes do not all ask at once.
    """
    start, end = validity_of(certificate_pem)
    return start + (end - start) * (0.5 + 0.3 * fraction)


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM text, one at least.

    Raises:
        SecurityError: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise SecurityError("this is no certificate in PEM form") from None


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The private key of a PEM text.

    Raises:
        SecurityError: it is no unencrypted elliptic curve key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise SecurityError("this is no unencrypted private key in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SecurityError("the private key is not an ECDSA key: make one on the curve P-256")
    return key


# --- parts --------------------------------------------------------------------------------


def _request_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        signed = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, InvalidSignature):
        raise SecurityError("this is no certificate request in PEM form") from None
    if not signed:
        raise SecurityError("the certificate request is not signed with its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SecurityError("the certificate request's key is not ECDSA on the curve P-256")
    return key


def _subject(*, common_name: str, unit: str, cluster_id: str) -> x509.Name:
    parts = [
        (NameOID.ORGANIZATION_NAME, cluster_id),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        (NameOID.COMMON_NAME, common_name),
    ]
    for _, value in parts:
        if len(value) > _NAME_LIMIT or not value.isprintable():
            raise SecurityError(
                f"a name in a certificate has {_NAME_LIMIT} printable characters at most"
            )
    if not common_name or not cluster_id:
        raise SecurityError("a certificate needs a name and the cluster's id")
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _only(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """The one value of an attribute; nothing where there are several, as that is ambiguous."""
    values = name.get_attributes_for_oid(oid)
    return str(values[0].value) if len(values) == 1 else ""


def _who(certificate: x509.Certificate) -> str:
    return _only(certificate.subject, NameOID.COMMON_NAME) or "an unnamed subject"


def _reason(error: verification.VerificationError) -> str:
    return str(error).removeprefix("validation failed: ").split(" (encountered", 1)[0]


def _certificate_to_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
