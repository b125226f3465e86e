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
        # protoc looks for the plugins of mypy on the PATH.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            return done.returncode
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
