"""Fixtures with real parts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

# tests/ is no package (importmode=importlib), so its helpers are loaded by path.
_spec = importlib.util.spec_from_file_location(
    "swarm_tests_engine", Path(__file__).parent.parent / "engine.py"
)
assert _spec is not None
assert _spec.loader is not None
engine = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(engine)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Path]:
    """The socket of a Docker Engine that only this session uses."""
    missing = engine.missing_for_engine()
    if missing:
        pytest.skip(missing)
    running = engine.Engine()
    running.start()
    yield running.socket_path
    running.stop()
