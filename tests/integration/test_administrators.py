"""An administrator's certificate, from `swarmctl cert create` to its use from another machine."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Daemon, Daemons, leader_of


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    running = Daemons()
    yield running
    running.close()


class User:
    """Whoever types at a prompt, with a home folder of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SWARM")},
            "HOME": str(home),
            "LOGNAME": "ann",
        }

    def types(self, *words: str, **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "swarm.cli", *words],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr


def test_a_certificate_is_made_and_used(daemons: Daemons, tmp_path: Path) -> None:
    managers = daemons.cluster(3, 1)
    leader = leader_of(managers[:3])
    follower = next(one for one in managers[:3] if one is not leader)
    worker = managers[3]
    user = User(tmp_path / "home")
    tcp = ",".join(f"{one.address}:2378" for one in managers[:3])

    # Without one, an address is passed over, and where nothing else is left that is the answer.
    code, _, said = user.types("node", "ls", SWARM_HOST=tcp)
    assert code == 1
    assert "swarmctl cert create" in said
    assert len(said.splitlines()) == 1
    mixed = f"{follower.address}:2378,unix://{leader.socket}"
    code, listed, said = user.types("node", "ls", "-q", SWARM_HOST=mixed)
    assert (code, len(listed.splitlines()), said) == (0, 4, "")

    # A worker's socket gives none, a follower's does.
    code, _, said = user.types("-H", f"unix://{worker.socket}", "cert", "create")
    assert code == 1
    assert "not a swarm manager" in said
    assert not any((user.home / ".swarm").iterdir())
    code, told, said = user.types("-H", f"unix://{follower.socket}", "cert", "create")
    assert (code, said) == (0, "")
    assert 'administrator "ann"' in told
    own = user.home / ".swarm"
    assert sorted(path.name for path in own.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert stat.S_IMODE((own / "key.pem").stat().st_mode) == 0o600
    assert f"SWARM_CERT_PATH={own}" in told

    # It is found by itself, by its folder, and file by file.
    made = own.rename(tmp_path / "elsewhere")
    files = ["--tlscacert", str(made / "ca.pem"), "--tlscert", str(made / "cert.pem")]
    for words, environment in (
        ([], {"SWARM_CERT_PATH": str(made)}),
        (["--tlsverify", *files, "--tlskey", str(made / "key.pem")], {}),
        ([], {"HOME": str(tmp_path / "other")}),
    ):
        if "HOME" in environment:
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / ".swarm").symlink_to(made)
        code, listed, said = user.types(*words, "-H", tcp, "node", "ls", "-q", **environment)
        assert (code, len(listed.splitlines()), said) == (0, 4, "")

    remote = {"SWARM_CERT_PATH": str(made), "SWARM_HOST": tcp}
    code, told, said = user.types("info", "--format", "{{.Name}} {{.Swarm.Nodes}}", **remote)
    assert (code, told, said) == (0, "n1 4\n", "")
    code, _, said = user.types("init", **remote)
    assert code == 1
    assert "run it on that machine" in said
    code, _, said = user.types("service", "create", "-d", "--name", "a", "swarm/demo", **remote)
    assert code == 0, said
    leader.kill()
    code, _, said = user.types("service", "scale", "-d", "a=0", **remote)
    assert code == 0, said

    code, told, said = user.types("cert", "ls", "--format", "json", **remote)
    assert code == 0, said
    (row,) = [json.loads(line) for line in told.splitlines()]
    assert (row["Name"], row["Who"]) == ("ann", f"uid {os.getuid()}")

    # What is there is not replaced unasked; another expires when it is told to.
    code, _, said = user.types("cert", "create", **remote)
    assert code == 1
    assert "is there already" in said
    code, told, said = user.types("cert", "create", "-f", "--expiry", "48h", "bob", **remote)
    assert (code, said) == (0, "")
    assert 'administrator "bob"' in told
    code, told, _ = user.types("cert", "ls", "--format", "{{.Name}}: {{.Who}}", **remote)
    assert (code, told.splitlines()[1]) == (0, "bob: admin ann")


def test_where_it_can_not_be_kept(daemons: Daemons, tmp_path: Path) -> None:
    (only,) = daemons.cluster(1)
    user = User(tmp_path)
    socket = f"unix://{only.socket}"
    (tmp_path / "file").write_text("")
    for words, reason in (
        (["--out", str(tmp_path / "file")], "cannot make the folder"),
        (["--out", str(tmp_path / "file" / "below")], "cannot make the folder"),
        (["--expiry", "30m", "--out", str(tmp_path / "a")], "at least 1h"),
        (["--expiry", "-3h", "--out", str(tmp_path / "a")], "at least 1h"),
        (["--out", str(tmp_path / "a"), "an\nn"], "invalid name"),
        (["--out", str(tmp_path / "a"), ""], "invalid name"),
    ):
        code, told, said = user.types("-H", socket, "cert", "create", *words)
        assert (code, told) == (1, ""), words
        assert reason in said
        assert len(said.splitlines()) == 1
    assert asked_for(user, only) == ""


def asked_for(user: User, manager: Daemon) -> str:
    return user.types("-H", f"unix://{manager.socket}", "cert", "ls", "-q")[1]
