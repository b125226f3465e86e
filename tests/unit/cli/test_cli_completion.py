"""Tab, in the shells themselves, against a manager that answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = """
eval "$(swarmctl completion bash)"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_swarmctl_completion swarmctl
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'swarmctl completion fish | source; complete -C "$argv"'


@pytest.fixture(autouse=True)
def shells_find_swarmctl(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def run(*words: str) -> list[str]:
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.split()


def bash(*line: str) -> list[str]:
    return run("bash", "--norc", "-c", BASH, "bash", "swarmctl", *line)


def create(swarmctl, *names: str) -> None:
    for name in names:
        assert swarmctl("service", "create", "--detach", "--name", name, "busybox").code == 0


def test_bash_completes_verbs_flags_and_names(manager, swarmctl) -> None:
    create(swarmctl, "web", "worker", "db")
    assert bash("serv") == ["service"]
    assert {"create", "ps", "update"} <= set(bash("service", ""))
    assert bash("service", "ps", "w") == ["web", "worker"]
    assert bash("service", "rm", "web", "d") == ["db"]
    assert "--replicas" in bash("service", "update", "--repl")
    assert bash("service", "create", "") == []
    assert bash("swarm", "join-token", "w") == ["worker"]
    assert bash("completion", "f") == ["fish"]


def test_bash_completes_nodes(manager, cluster, swarmctl) -> None:
    names = sorted(view.node.description.hostname for view in cluster.nodes.values())
    assert names
    assert bash("node", "update", "") == names


def test_fish(manager, swarmctl) -> None:
    create(swarmctl, "web")
    assert run("fish", "--no-config", "-c", FISH, "swarmctl service ps w") == ["web"]


def test_zsh_takes_the_script() -> None:
    load = 'autoload -U compinit; compinit -u -D; eval "$(swarmctl completion zsh)"'
    assert run("zsh", "-f", "-c", f"{load}; echo $_comps[swarmctl]") == ["_swarmctl_completion"]


def test_nobody_answers_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("SWARM_HOST", f"unix://{tmp_path}/nobody")
    assert bash("service", "ps", "") == []
    bash("nonsense", "ps", "")  # a complaint would fail it


def test_another_shell_is_refused(swarmctl) -> None:
    result = swarmctl("completion", "powershell")
    assert result.code == 125
    assert result.err.strip() == 'unknown shell "powershell": takes bash, fish, zsh'
