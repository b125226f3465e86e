"""Numbers in base 36, the alphabet of Docker's ids and join tokens."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def encode(data: bytes, width: int) -> str:
    """``data`` as one big-endian number in base 36, padded on the left with 0 to ``width``."""
    number = int.from_bytes(data)
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)).rjust(width, "0")


def decode(text: str, size: int) -> bytes:
    """The inverse of :func:`encode`: ``size`` bytes, big-endian.

    Raises:
        ValueError: a character is outside 0-9a-z, or the number needs more than ``size`` bytes.
    """
    if not text or not set(text) <= set(_DIGITS):
        raise ValueError("not base 36")
    try:
        return int(text, 36).to_bytes(size)
    except OverflowError as error:
        raise ValueError("too large") from error
