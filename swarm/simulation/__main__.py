"""`python -m swarm.simulation`: see `make sim`, `make sim-replay`."""

from __future__ import annotations

import argparse
import sys

from swarm.simulation import runner
from swarm.simulation.mutants import MUTANTS
from swarm.simulation.scenario import FAULTS


def main() -> int:
    options = _options()
    faults = options.faults.split(",") if options.faults is not None else list(FAULTS)
    unknown = [name for name in faults if name and name not in FAULTS]
    if unknown:
        print(f"unknown fault {unknown[0]}: one of {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    if options.mutant and options.mutant not in MUTANTS.names:
        print(
            f"unknown mutant {options.mutant}: one of {', '.join(MUTANTS.names)}", file=sys.stderr
        )
        return 2
    if options.replay is not None:
        return runner.replay(options.replay, options.mutant, faults)
    return runner.run(options.first, options.seeds, options.mutant, faults, options.jobs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m swarm.simulation",
        description="The whole cluster in one process and in virtual time, from a seed.",
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds (100)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=0, help="processes; all cores unless set")
    parser.add_argument("--replay", type=int, metavar="SEED", help="print the trace of one seed")
    parser.add_argument("--mutant", default="", help=f"one of {', '.join(MUTANTS.names)}")
    parser.add_argument("--faults", help=f"only these, separated by commas; of {', '.join(FAULTS)}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
