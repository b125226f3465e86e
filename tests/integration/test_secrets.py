"""Secrets and configs on real daemons: given to tasks in memory, and left nowhere."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_clusters import Local, Locals, until

from swarm.local import processes, record
from swarm.worker.runtime.task_files import memory_folders

# Where they are: on `process` two variables say it, in a container they are at Docker's places.
SHOW = "sha256sum < ${SECRETS_DIR:-/run/secrets}/key; cat ${CONFIGS_DIR:-}/motd; sleep 1000"
TEMPLATE = '{{ .Service.Name }}.{{ .Task.Slot }} has {{ secret "key" | len }} in {{ env "MODE" }}\n'


@pytest.fixture
def locals_() -> Iterator[Locals]:
    made = Locals()
    yield made
    made.close()


@pytest.fixture(params=["process", "oci", "docker"])
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "docker":
        monkeypatch.setenv("DOCKER_HOST", f"unix://{request.getfixturevalue('dockerd')}")
    return request.param


def test_a_secret_is_in_memory_for_its_tasks_and_nowhere_else(
    locals_: Locals, tmp_path: Path, runtime: str
) -> None:
    before = in_memory()
    local = locals_.up(1, 1, runtime)
    # An agent that starts again on a busy machine is not to be given up meanwhile.
    local.do("swarm", "update", "--dispatcher-heartbeat", "10s")
    key = secrets.token_hex(32)
    (tmp_path / "key").write_text(key)
    (tmp_path / "motd").write_text(TEMPLATE)
    local.do("secret", "create", "key", str(tmp_path / "key"))
    local.do("config", "create", "--template-driver", "golang", "motd", str(tmp_path / "motd"))
    local.do(
        "service", "create", "--name", "web", "--secret", "key", "--config", "motd",
        "--env", "MODE=test", "--constraint", "node.role==worker",
        "--entrypoint", "sh", "swarm/demo", "-c", SHOW,
    )  # fmt: skip
    digest = hashlib.sha256(key.encode()).hexdigest()
    until(lambda: digest in (said := local.do("service", "logs", "web")) and "web.1 has" in said)
    assert "web.1 has 64 in test" in local.do("service", "logs", "web")
    assert in_memory() > before

    for shown in (("inspect", "key"), ("inspect", "--pretty", "key"), ("ls", "--format", "json")):
        assert key not in local.do("secret", *shown)
    assert files_with(local.folder, key) == []
    refused = local.run("secret", "rm", "key")
    assert refused.returncode == 1
    assert "secret 'key' is in use by the following service: web" in refused.stderr

    the_agent_is_killed_and_adopts(local, digest)
    assert files_with(local.folder, key) == []

    local.do("service", "update", "--secret-rm", "key", "--config-rm", "motd", "web")
    assert local.do("secret", "rm", "key") == "key\n"
    local.do("service", "rm", "web")
    until(lambda: in_memory() == before, saying="no files in memory")


def the_agent_is_killed_and_adopts(local: Local, digest: str) -> None:
    """What runs keeps what it has; what is started next is given it anew."""
    running = local.running("web")
    node = record.load(local.folder).node("worker-1")
    agents = processes.family(node) - {processes.daemon(node)}
    assert len(agents) == 1
    processes.kill_all(agents)
    local.do("service", "scale", "web=2")
    assert not agents & processes.family(node), "another agent"
    assert running.keys() < local.running("web").keys()
    until(lambda: local.do("service", "logs", "web").count(digest) == 2)


def test_what_is_not_there_or_in_the_way_is_said(locals_: Locals, tmp_path: Path) -> None:
    local = locals_.up(1, 0)
    (tmp_path / "data").write_text("data")
    data = str(tmp_path / "data")
    local.do("secret", "create", "key", data)
    local.do("config", "create", "--label", "a=b", "conf", data)
    for words, error in (
        (("secret", "create", "key", data), "secret key already exists"),
        (("secret", "create", "-x", data), "unknown shorthand flag"),
        (("secret", "create", "a/b", data), "invalid name 'a/b'"),
        (("secret", "create", "k", "/dev/null"), "larger than 0 and less than 512000 bytes"),
        (("config", "create", "k", "/no/file"), "no such file or directory"),
        (("secret", "inspect", "nobody"), "no such secret: nobody"),
        (("config", "rm", "nobody"), "no such config: nobody"),
        (("service", "create", "--secret", "no", "swarm/demo"), "secret not found: no"),
        (
            ("service", "create", "--secret", "key", "--secret", "key", "swarm/demo"),
            "conflicting target: 'key'",
        ),
    ):
        done = local.run(*words)
        assert done.returncode in (1, 125), words
        assert error in done.stderr, words
        assert "Traceback" not in done.stderr
    assert local.rows("secret", "ls")[0]["Name"] == "key"
    assert local.do("config", "ls", "-q", "--filter", "label=a=b").strip()
    assert local.do("config", "inspect", "-f", "{{.Spec.Data}}", "conf") == "ZGF0YQ==\n"
    assert local.rows("service", "ls") == []


def files_with(folder: Path, text: str) -> list[str]:
    """Files of the cluster that hold the text, as grep -r would find them."""
    found: list[str] = []
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            if file.is_file() and not file.is_symlink() and text.encode() in file.read_bytes():
                found.append(str(file))
    return found


def in_memory() -> set[str]:
    """Folders of tasks' files on this machine."""
    return {str(path) for root in memory_folders() for path in root.glob("swarm-*/*")}
