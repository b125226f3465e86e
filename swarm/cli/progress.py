"""How the convergence of a service looks while one waits for it, as `docker service create` shows.

Somebody else watches the cluster and feeds views; `render` makes lines of a view, and
`ServiceProgress` writes them: redrawn in place on a terminal, otherwise only what changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

MAX_SLOTS_SHOWN = 20
_LONGEST_ERROR = 75
_STATE_WIDTH = 9  # "preparing"
_STEPS = {
    "new": 1,
    "allocated": 2,
    "pending": 3,
    "assigned": 4,
    "accepted": 5,
    "preparing": 6,
    "ready": 7,
    "starting": 8,
    "running": 9,
    "complete": 10,
}
_SERVICE_STEPS = 9
_JOB_STEPS = 10
_WIDE_BAR, _NARROW_BAR = 50, 20
_WIDTH_FOR_WIDE_BAR, _WIDTH_FOR_NARROW_BAR = 110, 50
_UNLIMITED_WIDTH = 1000


@dataclass(frozen=True)
class SlotView:
    """One line of the display: "2/3" or a node's id, the task's state, and what went wrong."""

    name: str
    state: str = ""
    error: str = ""


@dataclass(frozen=True)
class ServiceView:
    """What is known at one moment.

    `running` of `total` tasks run (of a job: are complete; then `active` of `active_max` are at
    work). `message` says why nothing moves, such as "no suitable node (...)", `rollback_message`
    why it goes back. `verify_seconds`: all run, and are watched for so many seconds.
    """

    running: int
    total: int
    slots: Sequence[SlotView] = ()
    message: str = ""
    rollback: bool = False
    rollback_message: str = ""
    job: bool = False
    active: int = 0
    active_max: int = 0
    verify_seconds: int | None = None


def render(view: ServiceView, width: int = 80, *, bars: bool = True) -> list[str]:
    """The lines of the display, none longer than `width`."""
    bar_length = _bar_length(width) if bars else 0
    lines = _job_lines(view, bar_length) if view.job else [_overall_line(view)]
    if len(view.slots) <= MAX_SLOTS_SHOWN:
        lines += [_slot_line(slot, view.job, bar_length) for slot in view.slots]
    if view.message:
        lines.append(f"pending: {_one_line(view.message)}")
    if view.rollback_message:
        lines.append(f"rollback: {_one_line(view.rollback_message)}")
    if view.verify_seconds is not None:
        seconds = view.verify_seconds
        lines.append(f"verify: Waiting {seconds} seconds to verify that tasks are stable...")
    return [line.rstrip()[: max(width, 1)] for line in lines]


class ServiceProgress:
    """Writes views of a service to `out`. Quiet: writes nothing at all."""

    def __init__(self, out: TextIO, *, tty: bool, quiet: bool = False, width: int = 80) -> None:
        self._out = out
        self._tty = tty
        self._quiet = quiet
        self._width = width
        self._shown: list[str] = []

    def update(self, view: ServiceView) -> None:
        """Show `view` in place of what was shown before."""
        if self._quiet:
            return
        width = self._width if self._tty else _UNLIMITED_WIDTH
        lines = render(view, width, bars=self._tty)
        if lines != self._shown:
            self._out.write(_redrawn(self._shown, lines) if self._tty else self._news(lines))
            self._out.flush()
            self._shown = lines

    def finish(self, message: str = "") -> None:
        """End the display with a last line, such as "verify: Service abc converged"."""
        if self._quiet or not message:
            return
        last = self._shown[-1] if self._shown else ""
        if self._tty and last.startswith("verify: "):
            self._out.write(_redrawn(self._shown, [*self._shown[:-1], message]))
        else:
            self._out.write(f"{message}\n")
        self._out.flush()
        self._shown = []

    def _news(self, lines: Sequence[str]) -> str:
        """Lines that were not shown in the last view."""
        old = set(self._shown)
        return "".join(f"{line}\n" for line in lines if line not in old)


def _redrawn(old: Sequence[str], new: Sequence[str]) -> str:
    """What to write below `old` lines so that `new` ones stand in their place.

    Only lines that differ are written; the cursor is left at the start of the line below.
    """
    text = f"\x1b[{len(old)}A" if old else ""
    for index, line in enumerate(new):
        unchanged = index < len(old) and old[index] == line
        text += "\x1b[1B\r" if unchanged else f"\r\x1b[2K{line}\n"
    return text if len(new) >= len(old) else f"{text}\x1b[0J"


def _overall_line(view: ServiceView) -> str:
    if view.rollback:
        progress = f"rolling back update: {view.running} out of {view.total} tasks"
    elif view.total == 0 and not view.slots:
        progress = "waiting for new tasks"
    else:
        progress = f"{view.running} out of {view.total} tasks"
    return f"overall progress: {progress}"


def _job_lines(view: ServiceView, bar_length: int) -> list[str]:
    digits = len(str(view.total))
    complete = f"{view.running:>{digits}} out of {view.total} complete"
    lines = [f"job progress: {complete} {_bar(view.running, view.total, bar_length)}"]
    if view.active_max or view.active:
        digits = len(str(max(view.active_max, view.active)))
        lines.append(
            f"active tasks: {view.active:>{digits}} out of {view.active_max:>{digits}} tasks"
        )
    return lines


def _slot_line(slot: SlotView, job: bool, bar_length: int) -> str:
    if slot.error:
        return f"{slot.name}: {_one_line(slot.error)}"
    if slot.state not in _STEPS:
        return f"{slot.name}: {slot.state}"
    bar = _bar(_STEPS[slot.state], _JOB_STEPS if job else _SERVICE_STEPS, bar_length)
    return f"{slot.name}: {slot.state:<{_STATE_WIDTH}} {bar}"


def _bar_length(width: int) -> int:
    if width >= _WIDTH_FOR_WIDE_BAR:
        return _WIDE_BAR
    return _NARROW_BAR if width >= _WIDTH_FOR_NARROW_BAR else 0


def _bar(current: int, total: int, length: int) -> str:
    """`[=====>    ]`; empty without a length or a total."""
    if not length or total <= 0:
        return ""
    done = min(current * length // total, length)
    return f"[{'=' * done}>{' ' * (length - done)}]"


def _one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST_ERROR else flat[: _LONGEST_ERROR - 1] + "…"
