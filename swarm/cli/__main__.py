"""swarmctl's process: the program that is installed, and `python -m swarm.cli`.

Ctrl-C while Python still loads, before anybody is there to say it in a line, ends it in silence.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

_CAUGHT = signal.getsignal(signal.SIGINT)
if _CAUGHT is signal.default_int_handler:  # not where it is ignored, as in a shell's background
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    from swarm.cli.main import main as swarmctl

    signal.signal(signal.SIGINT, _CAUGHT)
    return swarmctl(argv)


if __name__ == "__main__":
    sys.exit(main())
