"""Everything in namespaces of its own, that end with the process that made them: no daemon, mount,
loop device or interface is left behind, whatever happens to this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks import processes

_INSIDE = "SWARM_TORTURE_INSIDE"
# --kill-child: when `unshare` is killed, so is the first process of the pid namespace, and with it
# all others; the mount namespace goes with its last process.
_UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def is_inside() -> bool:
    return _INSIDE in os.environ


def run_inside(module: str, arguments: Sequence[str]) -> int:
    """Run a module of this Python there; its exit code. Ctrl-C and SIGTERM are passed on, and
    waited for: it cleans up first. Its temporary files are gone after it."""
    command = ["setpriv", "--pdeathsig", "KILL", "--", *_UNSHARE]
    command += [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryDirectory(prefix="swarm-torture-") as temporary:
        # In a session of its own: the terminal's Ctrl-C comes once, and from here.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env={**os.environ, _INSIDE: "1", "TMPDIR": temporary},
            start_new_session=True,
        )

        def pass_on(number: int, _frame: object) -> None:
            for pid in processes.children_of(process.pid):
                os.kill(pid, number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, pass_on)
        return process.wait()
