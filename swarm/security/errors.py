"""What certificates, tokens, roles and keys raise."""


class SecurityError(Exception):
    """Something about identity, trust or keys is wrong; one line that says what to do.

    Never holds a key, a token's secret or a sealed text.
    """


class AccessDenied(SecurityError):  # noqa: N818 - the field's term, as in PERMISSION_DENIED
    """The caller is known, but its role may not do this."""


class WrongKeyError(SecurityError):
    """The text was sealed with a key, or in a format, that is not known here."""


class Unreachable(SecurityError):  # noqa: N818 - the field's term
    """Nobody there, or nobody who speaks TLS: another address may do better."""
