"""The display of a service that converges: the lines, and how they reach a terminal or a pipe."""

from __future__ import annotations

import io
import re

import pytest

from swarm.cli.progress import ServiceProgress, ServiceView, SlotView, render

STARTING = ServiceView(0, 2, (SlotView("1/2", "preparing"), SlotView("2/2", "new")))
HALF = ServiceView(1, 2, (SlotView("1/2", "running"), SlotView("2/2", "starting")))
DONE = ServiceView(2, 2, (SlotView("1/2", "running"), SlotView("2/2", "running")), verify_seconds=5)


def test_lines() -> None:
    assert render(HALF) == [
        "overall progress: 1 out of 2 tasks",
        "1/2: running   [====================>]",
        "2/2: starting  [=================>   ]",
    ]
    assert render(DONE)[-1] == "verify: Waiting 5 seconds to verify that tasks are stable..."


def test_bars_by_width() -> None:
    assert render(HALF, 120)[1] == f"1/2: running   [{'=' * 50}>]"
    assert render(HALF, 40)[1] == "1/2: running"
    assert render(HALF, bars=False)[2] == "2/2: starting"


def test_errors_and_messages_are_short_lines() -> None:
    slots = (SlotView("1/2", "failed", "task: non-zero\nexit (1)"), SlotView("2/2", "", "x" * 200))
    view = ServiceView(0, 2, slots, message="no suitable node (insufficient\nresources on 2 nodes)")
    assert render(view) == [
        "overall progress: 0 out of 2 tasks",
        "1/2: task: non-zero exit (1)",
        f"2/2: {'x' * 74}…",
        "pending: no suitable node (insufficient resources on 2 nodes)",
    ]
    assert max(len(line) for line in render(view, 30)) == 30


def test_rollback_and_waiting() -> None:
    assert render(ServiceView(1, 2, rollback=True)) == [
        "overall progress: rolling back update: 1 out of 2 tasks"
    ]
    assert render(ServiceView(0, 0)) == ["overall progress: waiting for new tasks"]


def test_at_most_20_slots_are_shown() -> None:
    slots = tuple(SlotView(f"{i}/21", "running") for i in range(1, 22))
    assert len(render(ServiceView(21, 21, slots))) == 1
    assert len(render(ServiceView(20, 20, slots[:20]))) == 21


def test_jobs() -> None:
    view = ServiceView(3, 10, (SlotView("1/10", "complete"),), job=True, active=2, active_max=5)
    assert render(view) == [
        "job progress:  3 out of 10 complete [======>              ]",
        "active tasks: 2 out of 5 tasks",
        "1/10: complete  [====================>]",
    ]


def test_without_a_terminal_only_news_is_printed() -> None:
    out = io.StringIO()
    progress = ServiceProgress(out, tty=False)
    for view in (STARTING, STARTING, HALF, DONE):
        progress.update(view)
    progress.finish("verify: Service abc converged")
    assert out.getvalue() == (
        "overall progress: 0 out of 2 tasks\n"
        "1/2: preparing\n"
        "2/2: new\n"
        "overall progress: 1 out of 2 tasks\n"
        "1/2: running\n"
        "2/2: starting\n"
        "overall progress: 2 out of 2 tasks\n"
        "2/2: running\n"
        "verify: Waiting 5 seconds to verify that tasks are stable...\n"
        "verify: Service abc converged\n"
    )


def test_quiet_writes_nothing() -> None:
    out = io.StringIO()
    progress = ServiceProgress(out, tty=True, quiet=True)
    progress.update(HALF)
    progress.finish("verify: Service abc converged")
    assert out.getvalue() == ""


def screen(text: str) -> list[str]:
    """What a terminal shows after `text`: the escape sequences that the display uses, no others."""
    lines, row = [""], 0
    for piece in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\n":
            row += 1
            lines.extend([""] * (row + 1 - len(lines)))
        elif piece == "\r":
            continue
        elif piece.endswith("A") and piece[0] == "\x1b":
            row -= int(piece[2:-1])
        elif piece.endswith("B") and piece[0] == "\x1b":
            row += int(piece[2:-1])
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece == "\x1b[0J":
            del lines[row:]
            lines.append("")
        else:
            assert lines[row] == "", "a line is cleared before it is written"
            lines[row] = piece
        assert 0 <= row < len(lines)
    assert row == len(lines) - 1, "the cursor ends below the display"
    return lines[:-1]


@pytest.mark.parametrize(
    "views",
    [
        (STARTING,),
        (STARTING, HALF, DONE),
        (DONE, HALF),
        (DONE, ServiceView(0, 0), STARTING, HALF, HALF),
    ],
)
def test_a_terminal_shows_the_last_view_alone(views: tuple[ServiceView, ...]) -> None:
    out = io.StringIO()
    progress = ServiceProgress(out, tty=True, width=100)
    for view in views:
        progress.update(view)
    assert screen(out.getvalue()) == render(views[-1], 100)


def test_the_last_line_replaces_the_wait() -> None:
    out = io.StringIO()
    progress = ServiceProgress(out, tty=True)
    progress.update(DONE)
    progress.finish("verify: Service abc converged")
    assert screen(out.getvalue()) == [*render(DONE)[:-1], "verify: Service abc converged"]


def test_unchanged_lines_are_not_written_again() -> None:
    out = io.StringIO()
    progress = ServiceProgress(out, tty=True)
    progress.update(HALF)
    out.truncate(0)
    progress.update(DONE)
    assert "1/2" not in out.getvalue()
