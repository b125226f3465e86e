"""Fixtures with real parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine, missing_for_engine


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Path]:
    """The socket of a Docker Engine that only this session uses."""
    missing = missing_for_engine()
    if missing:
        pytest.skip(missing)
    running = Engine()
    running.start()
    yield running.socket_path
    running.stop()
