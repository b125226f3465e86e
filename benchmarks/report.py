"""How figures are shown: a table to read, and JSON to keep."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass(slots=True)
class Row:
    """One thing measured on one system. `values`: the single measurements, in `unit`."""

    what: str
    system: str
    unit: str
    values: list[float]
    # What else is worth knowing: percentiles, ratios, counts.
    extra: dict[str, float | int | str] = field(default_factory=dict[str, "float | int | str"])

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(slots=True)
class Report:
    title: str
    rows: list[Row] = field(default_factory=list[Row])
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S %Z"))
    load_at_start: float = field(default_factory=lambda: os.getloadavg()[0])

    def add(self, row: Row) -> None:
        """Taken in, and said at once: a long run shows where it is."""
        self.rows.append(row)
        extra = ", ".join(f"{key} {_shown(value)}" for key, value in row.extra.items())
        print(
            f"  {row.what} · {row.system}: {_shown(row.median)} {row.unit}"
            + (f" (n={len(row.values)})" if len(row.values) > 1 else "")
            + (f"; {extra}" if extra else ""),
            flush=True,
        )

    def find(self, what: str, system: str) -> Row | None:
        found = [row for row in self.rows if row.what == what and row.system == system]
        return found[0] if found else None

    def compare(self, what: str, ours: str, theirs: str, *, more_is_better: bool = False) -> None:
        """Write how many times better ours is into our row."""
        mine, other = self.find(what, ours), self.find(what, theirs)
        if mine is None or other is None or not mine.median or not other.median:
            return
        ratio = mine.median / other.median if more_is_better else other.median / mine.median
        mine.extra[f"times {theirs}"] = round(ratio, 2)

    def show(self) -> None:
        table = Table(title=self.title, title_justify="left")
        for column in ("what", "system", "median", "best", "worst", "n", "more"):
            table.add_column(column, justify="left" if column in ("what", "system") else "right")
        for row in self.rows:
            extra = ", ".join(f"{key} {_shown(value)}" for key, value in row.extra.items())
            table.add_row(
                row.what,
                row.system,
                f"{_shown(row.median)} {row.unit}",
                _shown(min(row.values)),
                _shown(max(row.values)),
                str(len(row.values)),
                extra,
            )
        console = Console(width=None if os.isatty(1) else 140)
        console.print(table)
        print(self._machine())

    def _machine(self) -> str:
        load = os.getloadavg()[0]
        return (
            f"{self.started}, {os.cpu_count()} CPUs, Python {platform.python_version()}, "
            f"Linux {platform.release()}; load average {self.load_at_start:.1f} before, "
            f"{load:.1f} at the end"
        )

    def write(self, path: Path) -> None:
        content: dict[str, Any] = {
            "title": self.title,
            "machine": self._machine(),
            "rows": [asdict(row) for row in self.rows],
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def finish(report: Report, json_file: Path | None) -> None:
    report.show()
    if json_file is not None:
        report.write(json_file)


def _shown(value: float | int | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
