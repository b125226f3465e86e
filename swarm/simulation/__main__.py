"""`python -m swarm.simulation`: see `make sim`, `make sim-replay`."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import NoReturn

from swarm.simulation import runner
from swarm.simulation.mutants import MUTANTS
from swarm.simulation.scenario import FAULTS


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        print(f"simulation: {message}; --help says more", file=sys.stderr)
        sys.exit(2)


def main() -> int:
    # What the log says of damage is the subject here, not news.
    logging.disable()
    options = _options()
    if options.replay is not None:
        return runner.replay(options.replay, options.mutant, options.faults)
    return runner.run(options.first, options.seeds, options.mutant, options.faults, options.jobs)


def _options() -> argparse.Namespace:
    parser = _Parser(
        prog="python -m swarm.simulation",
        description="The whole cluster in one process and in virtual time, from a seed.",
    )
    parser.add_argument("--seeds", type=_count, default=100, help="how many seeds (100)")
    parser.add_argument("--first", type=_seed, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=_count, default=0, help="processes; all cores unless set")
    parser.add_argument("--replay", type=_seed, metavar="SEED", help="print the trace of one seed")
    parser.add_argument(
        "--mutant", type=_mutant, default="", help=f"one of {', '.join(MUTANTS.names)}"
    )
    parser.add_argument(
        "--faults",
        type=_faults,
        default=list(FAULTS),
        help=f"only these, separated by commas; of {', '.join(FAULTS)}",
    )
    return parser.parse_args()


def _count(text: str) -> int:
    number = _seed(text)
    if number == 0:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return number


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _mutant(text: str) -> str:
    if text and text not in MUTANTS.names:
        raise argparse.ArgumentTypeError(
            f"unknown mutant {text}: one of {', '.join(MUTANTS.names)}"
        )
    return text


def _faults(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown fault {unknown[0]}: one of {', '.join(FAULTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
