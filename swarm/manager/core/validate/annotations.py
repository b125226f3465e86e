"""Names and labels, the same for every noun."""

import re
from collections.abc import Mapping

from swarm.manager.core.validate.errors import InvalidRequest

NAME_LENGTH_MAX = 63
_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?")


def check_name(noun: str, name: str) -> None:
    """Docker's rule for what may become part of a DNS name. Raises InvalidRequest."""
    if not name:
        raise InvalidRequest(f"the {noun} needs a name")
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidRequest(
            f"{noun} name '{name}' has {len(name)} characters: "
            f"it must be {NAME_LENGTH_MAX} characters or fewer"
        )
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{noun} name '{name}' is invalid: only letters, digits, '_', '.' and '-' are allowed, "
            "with a letter or digit first and last"
        )


def check_labels(where: str, labels: Mapping[str, str]) -> None:
    if "" in labels:
        raise InvalidRequest(f"{where}: a label has no key: write KEY=VALUE")
