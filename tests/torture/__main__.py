"""`make torture`: see docs/torture.md."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import processes
from tests.torture import isolation
from tests.torture.plan import Kind
from tests.torture.run import Settings, torture

_NEEDED = ("unshare", "nsenter", "setpriv", "ip", "nft", "mount", "umount", "mkfs.ext4")


def main() -> None:
    arguments = _parser().parse_args()
    obstacle = _obstacle()
    if obstacle:
        sys.exit(f"torture: {obstacle}")
    if isolation.is_inside():
        processes.run(_run(arguments))
    else:
        sys.exit(_isolated(arguments))


def _isolated(arguments: argparse.Namespace) -> int:
    """Run this again in namespaces; history and logs stay where asked for, or where something was
    wrong."""
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    folder: Path = arguments.out or Path(tempfile.mkdtemp(prefix="swarm-torture-"))
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}; history and logs in {folder}", flush=True)
    words = [*sys.argv[1:], "--seed", str(seed), "--out", str(folder)]
    code = isolation.run_inside("tests.torture", words)
    if code == 0 and arguments.out is None:
        shutil.rmtree(folder)
    return code


async def _run(arguments: argparse.Namespace) -> None:
    settings = Settings(
        arguments.managers, arguments.minutes * 60, arguments.seed, arguments.faults, arguments.out
    )
    verdict = await torture(settings)
    for violation in verdict.violations:
        print(f"VIOLATION: {violation}")
    print(verdict.to_json(), flush=True)
    if verdict.violations:
        sys.exit(1)


def _obstacle() -> str:
    """Why it can't be done here, and the way out."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        return f"install {', '.join(missing)} (util-linux, iproute2, nftables, e2fsprogs)"
    if os.geteuid() != 0:
        return "it makes network namespaces and mounts disks: run it as root"
    return ""


def _kinds(text: str) -> list[Kind]:
    try:
        return [Kind(word) for word in text.split(",")]
    except ValueError as error:
        known = ", ".join(Kind)
        raise argparse.ArgumentTypeError(f"{error}; takes some of {known}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Real managers under real faults, and whether what their clients saw is "
        "linearizable. The last line is JSON; exit code 1 when something was wrong.",
    )
    parser.add_argument("--managers", type=int, choices=(3, 5), default=3)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="of the plan of faults, and of the clients")
    parser.add_argument("--faults", type=_kinds, default=list(Kind), metavar="KIND,...")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep history and logs here")
    return parser


if __name__ == "__main__":
    main()
