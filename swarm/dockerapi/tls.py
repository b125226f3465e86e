"""TLSInfo: the root that a node trusts, and who issues certificates."""

from __future__ import annotations

import base64

from swarm.dockerapi.json_values import Json


def tls_info_to_json(root_pem: bytes) -> Json:
    """Empty without a root. Raises ValueError for bytes that are no certificate."""
    if not root_pem:
        return {}
    # Heavy, and only `inspect` shows it.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    root = x509.load_pem_x509_certificate(root_pem)
    key = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "TrustRoot": root_pem.decode(),
        "CertIssuerSubject": base64.b64encode(root.subject.public_bytes()).decode(),
        "CertIssuerPublicKey": base64.b64encode(key).decode(),
    }
