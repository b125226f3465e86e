"""Who is who: certificates, join tokens, roles, TLS credentials, and keys at rest."""
