from __future__ import annotations

import pytest
from simulation.new_seeds import COUNT, first_new_seed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    first = first_new_seed()
    terminalreporter.write_line(f"new simulator seeds: {first} to {first + COUNT - 1}")
