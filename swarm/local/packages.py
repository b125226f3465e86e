"""System packages that the quickstart may install: as root on a Debian-like machine, saying so.

Programs only, never a daemon.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

from swarm.worker.runtime.demo import has_static_busybox

BUSYBOX = "busybox-static"

_APT = ("apt-get", "-y", "-qq", "-o", "Dpkg::Use-Pty=0")


def missing_for_containers() -> list[str]:
    """Packages without which the oci runtime can't run the demo image here."""
    missing: list[str] = []
    if not (shutil.which("runc") or shutil.which("crun")):
        missing.append("runc")
    if shutil.which("ip") is None:
        missing.append("iproute2")
    if not has_static_busybox():
        missing.append(BUSYBOX)
    return missing


def install(packages: list[str], say: Callable[[str], None]) -> bool:
    """Whether they are there now."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    say(f"Installing with apt-get: {', '.join(packages)}")
    wanted = ("install", "--no-install-recommends", *packages)
    if _apt(*wanted) or (_apt("update") and _apt(*wanted)):
        return True
    say("That did not work; going on without.")
    return False


def _apt(*words: str) -> bool:
    done = subprocess.run(
        [*_APT, *words],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
