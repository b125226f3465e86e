"""The first thing that a newcomer sees: a cluster, a service, and a leader that is lost.

`python -m swarm.local.quickstart --dir DIR`, called by deploy/quickstart.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from swarm.cli.errors import CliError
from swarm.local import cluster as clusters
from swarm.local import members, packages
from swarm.local.errors import LocalError
from swarm.local.record import LocalCluster
from swarm.local.stage import Stage, port_flag
from swarm.worker.runtime.demo import DEMO_NAME, has_static_busybox
from swarm.worker.runtime.port import RuntimeFailed

SERVICE = "web"
_REPLICAS = 3
_MANAGERS, _WORKERS = 3, 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="quickstart")
    parser.add_argument("--dir", required=True, type=Path, help="the cluster's folder")
    parser.add_argument("--runtime", default="auto", help="auto, docker, oci or process")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(os.path.abspath(given.dir))  # noqa: PTH100 - also without `..`
    try:
        _run(folder, given.runtime)
    except KeyboardInterrupt:
        _say("Interrupted: what was begun is removed.")
        return 130
    except (LocalError, CliError, RuntimeFailed, OSError) as error:
        message = error.message if isinstance(error, CliError) else str(error)
        sys.stderr.write(f"quickstart: {message}\n")
        return 1
    return 0


def _run(folder: Path, runtime: str) -> None:
    clusters.clear(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    chosen = _best_runtime(folder) if runtime == "auto" else runtime
    try:
        cluster = clusters.up(folder, _MANAGERS, _WORKERS, chosen, _say)
        with members.asking(cluster) as client:
            url = _show(Stage(cluster, client, _say))
    except BaseException:
        clusters.clear(folder)
        raise
    _part(cluster, url)


def _best_runtime(folder: Path) -> str:
    """The best that works, with the packages that containers take, where we may install them."""
    missing = packages.missing_for_containers()
    if missing and clusters.works(folder, "docker"):
        missing = [name for name in missing if name == packages.BUSYBOX]
    if missing:
        packages.install(missing, _say)
    if not has_static_busybox():
        _say(f"Not used: docker, oci: the demo image takes a static busybox: {packages.BUSYBOX}")
        return "process"
    return "auto"


def _show(stage: Stage) -> str:
    """The URL at which the service answers in the end."""
    if stage.cluster.runtime == "process":
        _say("Tasks are plain processes here, with no isolation: no container runtime works.")
    stage.swarmctl("node", "ls")
    flag = port_flag(stage.cluster)
    stage.swarmctl(
        *("service", "create", "--quiet", "--name", SERVICE),
        *("--replicas", str(_REPLICAS), "-p", flag, DEMO_NAME),
    )
    port = stage.published_port(SERVICE)
    _show_running(stage, f"http://{stage.cluster.nodes[-1].host}:{port}/", [])
    return _lose_the_leader(stage, port)


def _lose_the_leader(stage: Stage, port: int) -> str:
    leader = stage.leader()
    _say("")
    _say(f"{leader.name} leads. It is killed now, with its agent and its tasks.")
    clusters.kill(stage.cluster, [leader.name], daemon_only=False)
    moment = time.monotonic()
    successor = stage.leader(besides=leader.name)
    _say(f"{successor.name} leads, {(time.monotonic() - moment) * 1000:.0f} ms later.")
    url = f"http://{successor.host}:{port}/"
    _show_running(stage, url, [leader.name])
    return url


def _show_running(stage: Stage, url: str, without: list[str]) -> None:
    stage.wait_running(SERVICE, _REPLICAS, without=without)
    stage.swarmctl("service", "ps", "--filter", "desired-state=running", SERVICE)
    said = stage.answer(url)
    _say("")
    _say(f"{SERVICE}: {_REPLICAS} of {_REPLICAS} tasks are running")
    _say(f"{url} answers: {SERVICE}.{said.get('slot')} on {said.get('node')}")


def _part(cluster: LocalCluster, url: str) -> None:
    swarmctl = _shown(Path(sys.executable).parent / "swarmctl")
    option = f"--dir {_shown(cluster.folder)}"
    lost = next(state.node.name for state in clusters.states(cluster) if not state.pid)
    _say(f"""
The cluster is left running, with {SERVICE} at {url}

Three commands to try:
    curl {url}
    {swarmctl} local start {option} {lost}
    eval "$({swarmctl} local env {option})"; {swarmctl} service scale {SERVICE}=5

To remove it:
    {swarmctl} local down {option}""")


def _shown(path: Path) -> str:
    """Relative where it is below the current folder, so that it reads easily."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
