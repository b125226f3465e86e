"""Names that users read: of images, of tasks, of services that were given none."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

_ADJECTIVES = [
    "admiring",
    "agile",
    "amazing",
    "brave",
    "busy",
    "calm",
    "charming",
    "clever",
    "cool",
    "dazzling",
    "eager",
    "elegant",
    "epic",
    "fervent",
    "focused",
    "friendly",
    "gallant",
    "gifted",
    "happy",
    "hopeful",
    "jolly",
    "keen",
    "kind",
    "lucid",
    "modest",
    "nifty",
    "patient",
    "peaceful",
    "practical",
    "quirky",
    "relaxed",
    "serene",
    "sharp",
    "silly",
    "stoic",
    "sweet",
    "upbeat",
    "vibrant",
    "vigilant",
    "wise",
]
_PEOPLE = [
    "babbage",
    "backus",
    "banach",
    "bardeen",
    "bartik",
    "bell",
    "borg",
    "cerf",
    "curie",
    "dijkstra",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "franklin",
    "galileo",
    "gauss",
    "gray",
    "haibt",
    "hamilton",
    "hawking",
    "hopper",
    "hypatia",
    "johnson",
    "kepler",
    "knuth",
    "lamarr",
    "lamport",
    "liskov",
    "lovelace",
    "mccarthy",
    "meitner",
    "newton",
    "noether",
    "pascal",
    "pike",
    "ritchie",
    "shannon",
    "thompson",
    "turing",
]
_DIGITS = re.compile(r"([0-9]+)")
_DOCKER_HUB = re.compile(r"^(docker\.io/library/|docker\.io/)")


def random_name() -> str:
    """A name for a service without one, as Docker gives them: "brave_hopper"."""
    return f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_PEOPLE)}"


def display_image(image: str) -> str:
    """An image without the digest that is behind its tag, and without Docker Hub's name."""
    name, at, _ = image.partition("@")
    if ":" not in name.rpartition("/")[2]:
        return image
    return _DOCKER_HUB.sub("", name) if at or name.startswith("docker.io/") else image


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key in which "web.2" comes before "web.10"."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in _DIGITS.split(text)]


def has_label(labels: Mapping[str, str], text: str) -> bool:
    """A filter's "key" or "key=value"."""
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)
