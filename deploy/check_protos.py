"""Whether the code under swarm/api/v1 is what protos/ generates. `make protos` repairs it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATED = Path("swarm/api/v1")


def main() -> int:
    protos = sorted(str(path) for path in Path("protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as name:
        kinds = ("python", "grpc_python", "mypy", "mypy_grpc")
        outputs = [f"--{kind}_out={name}" for kind in kinds]
        command = [sys.executable, "-m", "grpc_tools.protoc", "-Iprotos", *outputs, *protos]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        fresh, committed = contents(Path(name) / GENERATED), contents(GENERATED)
    stale = sorted(
        file for file in fresh.keys() | committed.keys() if fresh.get(file) != committed.get(file)
    )
    for file in stale:
        print(f"{GENERATED / file} is not what protos/ generates: run `make protos`")
    return 1 if stale else 0


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*_pb2*.py*")}


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
