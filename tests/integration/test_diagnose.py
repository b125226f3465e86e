"""A bug report's bundle of a daemon that has secrets of all kinds: none is in it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Daemon, Daemons, until


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    made = Daemons()
    yield made
    made.close()


def swarmctl(node: Daemon, *words: str, stdin: bytes = b"", config: str = "") -> bytes:
    command = [sys.executable, "-m", "swarm.cli", "-H", f"unix://{node.socket}", *words]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SWARMD_CONFIG": config}
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=environment, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_secret_is_in_the_bundle(daemons: Daemons, tmp_path: Path) -> None:
    config = tmp_path / "swarmd.toml"
    config.write_text('runtime = "process"\nlabel = ["registry-password=topsecret1"]\n')
    node = daemons.new()
    node.start("--config", str(config))
    answer = node.init()
    swarmctl(node, "secret", "create", "s1", "-", stdin=b"topsecret2")
    swarmctl(node, "config", "create", "c1", "-", stdin=b"topsecret3")
    create = ("service", "create", "--detach", "--name", "web", "--env", "HIDDEN=topsecret4")
    swarmctl(node, *create, "--secret", "s1", "--label", "x=topsecret5", "swarm/demo")
    until(node.running, saying="a task runs")
    log = tmp_path / "log"
    log.write_text(node.log() + f"a token {answer.manager_token}\nPASSPHRASE=topsecret6\n")

    bundle = swarmctl(node, "diagnose", "-o", "-", "--log", str(log), config=str(config))
    files: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            files[member.name.partition("/")[2]] = content.read().decode()

    everything = "\n".join(files.values())
    keys = [
        path.read_text() for path in (node.state_dir / "certificates").glob("*") if path.is_file()
    ]
    assert keys
    lines = {line for text in keys for line in text.splitlines() if len(line) > 30}
    assert "topsecret" not in everything
    assert answer.manager_token not in everything
    assert answer.worker_token.rpartition("-")[2] not in everything
    assert not [line for line in lines if line in everything]
    assert "PRIVATE KEY" not in everything

    assert files["errors.txt"] == ""
    assert json.loads(files["node.json"])["raft"]["id"]
    assert [node["role"] for node in json.loads(files["nodes.json"])] == ["NODE_ROLE_MANAGER"]
    (service,) = json.loads(files["services.json"])
    assert (service["name"], service["desired"]) == ("web", 1)
    assert "TASK_STATE_RUNNING" in files["tasks.json"]
    assert "swarmd is ready on" in files["swarmd.log"]
    assert 'runtime = "process"' in files["swarmd.toml"]
    assert "runtime  process works" in files["check.txt"]


def test_with_no_daemon_it_says_so_in_the_bundle(tmp_path: Path, daemons: Daemons) -> None:
    node = daemons.new()  # not started
    config = tmp_path / "swarmd.toml"
    config.write_text('runtime = "process"\n')
    file = tmp_path / "report.tar.gz"
    said = swarmctl(node, "diagnose", "-o", str(file), "--log", "/dev/null", config=str(config))
    assert said.decode() == f"Wrote {file}: look at it before you give it away\n"
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        (errors,) = [member for member in archive if member.name.endswith("/errors.txt")]
        content = archive.extractfile(errors)
        assert content is not None
        assert "nodes.json: " in content.read().decode()
