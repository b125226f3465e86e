"""A deliberate bug as a list of what stands where while it is switched on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

# (owner, attribute, what stands there instead)
Patch = tuple[Any, str, Any]
Maker = Callable[[], list[Patch]]


def everywhere(function: Callable[..., Any], instead: Callable[..., Any]) -> list[Patch]:
    """In every production module that knows the function by its name."""
    name = function.__name__
    return [
        (module, name, instead)
        for path, module in list(sys.modules.items())
        if path.startswith(("swarm.manager.", "swarm.worker."))
        and getattr(module, name, None) is function
    ]
