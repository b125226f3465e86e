"""Every command block of the README and of docs/ is run as it stands, in its page's order.

A page's commands are run as root on machines of its own (tests/hosts.py), n1 unless the line before
says `On **n2**`. What can't be run says so in the page, with the reason, in the line before:
`*Not run by the tests: ...*`. A block finds in $TOKEN what the block before it printed last: what
a reader would paste.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hosts import Host, Hosts

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK_TIMEOUT_S = 90.0
NOT_RUN_MAX = 6
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"On \*\*(n\d)\*\*")
_NOT_RUN = re.compile(r"\*Not run by the tests: [^*]{10,}\*")


@dataclass(frozen=True)
class Block:
    line: int
    host: str
    text: str
    is_run: bool


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found: list[Block] = []
    for fence in _FENCE.finditer(text):
        language, code = fence.groups()
        if language not in ("sh", "console"):
            continue
        before = text[: fence.start()].rstrip("\n").rpartition("\n\n")[2]
        place = _PLACE.search(before)
        host = place[1] if place else "n1"
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(line, host, code, not _NOT_RUN.search(before)))
    return found


class Shell:
    """One root's shell on a machine, for all of a page's blocks there."""

    def __init__(self, host: Host) -> None:
        self._host = host
        environment = {"HOME": "/root", "PATH": os.environ["PATH"], "TERM": "dumb"}
        self._process = subprocess.Popen(
            host.command("bash", "--norc"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.run("cd /root/swarm", "")

    def run(self, block: str, token: str) -> str:
        """What it printed. Any command's failure is the block's."""
        self._host.run("tee", "/tmp/block", stdin=block)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"TOKEN='{token}'; set -eo pipefail; . /tmp/block </dev/null; echo '<end>'\n")
        stdin.flush()
        timer = threading.Timer(BLOCK_TIMEOUT_S, self._process.kill)
        timer.start()
        said = ""
        while (line := stdout.readline()) != "<end>\n":
            assert line, f"{block}\nfailed, or took {BLOCK_TIMEOUT_S:g} s:\n{said}"
            said += line
        timer.cancel()
        return said

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def machines(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Fresh ones: of this project, they have a checkout, and its packages where pip would put
    them."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces and mounts take root")
    made = Hosts(sorted({block.host for block in blocks_of(request.getfixturevalue("page"))}))
    for host in made.all.values():
        host.run("ln", "-s", sys.prefix, "/opt/swarm")
        host.run("ln", "-s", str(ROOT), "/root/swarm")
        for name in ("swarmctl", "swarmd"):
            host.run("ln", "-sf", f"/opt/swarm/bin/{name}", f"/usr/local/bin/{name}")
    yield made
    made.close()


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.is_run for b in blocks_of(page))], ids=lambda p: p.name
)
def test_a_page_does_what_it_says(page: Path, machines: Hosts) -> None:
    shells: dict[str, Shell] = {}
    said = ""
    try:
        for block in blocks_of(page):
            if not block.is_run:
                continue
            if block.host not in shells:
                shells[block.host] = Shell(machines.all[block.host])
            token = (said.split() or [""])[-1]
            said = shells[block.host].run(block.text, token)
    finally:
        for shell in shells.values():
            shell.close()


def test_few_blocks_are_not_run() -> None:
    left_out = [(page.name, b.line) for page in PAGES for b in blocks_of(page) if not b.is_run]
    assert len(left_out) <= NOT_RUN_MAX, left_out
