"""Which seeds nobody has run yet: others for each commit, and for each day."""

from __future__ import annotations

import datetime
import hashlib
import os
import subprocess
from pathlib import Path

COUNT = 240
CHUNK = 20


def first_new_seed() -> int:
    """SIM_SEED_START, where a run is to be repeated; else from the commit and the day."""
    given = os.environ.get("SIM_SEED_START")
    if given:
        return int(given)
    folder = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
    ).stdout.strip()
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    digest = hashlib.sha256(f"{commit} {day}".encode()).digest()
    return 1_000_000 + int.from_bytes(digest[:4], "big")
