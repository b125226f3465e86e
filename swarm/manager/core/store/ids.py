"""Identifiers as Docker Swarm makes them: 25 characters of lower-case base36."""

from collections.abc import Callable
from typing import Protocol

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_LENGTH = 25
_BITS = 128


class Ids(Protocol):
    """Makes identifiers; given to the core, which has no randomness of its own."""

    def new(self) -> str: ...


class RandomIds:
    """`getrandbits` is a random.Random's, seeded or of the system."""

    def __init__(self, getrandbits: Callable[[int], int]) -> None:
        self._getrandbits = getrandbits

    def new(self) -> str:
        return id_from_number(self._getrandbits(_BITS))


def id_from_number(number: int) -> str:
    """128 bits in base36, padded with zeros to 25 characters."""
    pairs: list[str] = []
    while number:
        number, pair = divmod(number, len(_PAIRS))
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))[-_LENGTH:].zfill(_LENGTH)
