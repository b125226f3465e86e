"""What makes a machine a node: scripts and units, checked and installed into a scratch root."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.prefix)


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    environment = {**os.environ, **variables}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def scripts() -> list[Path]:
    """All that are run by a shell."""
    folders = (".ci", "benchmarks", "deploy", "tests", "vagrant")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    found = [path for path in files if path.suffix in ("", ".sh") and ".vagrant" not in path.parts]
    heads = (b"#!/bin/sh", b"#!/usr/bin/env bash")
    return [path for path in found if path.read_bytes()[:64].startswith(heads)]


def test_all_shell_scripts_are_clean() -> None:
    shellcheck = needs("shellcheck")
    found = scripts()
    assert {"install.sh", "uninstall.sh", "quickstart", "reach", "run"} <= {
        path.name for path in found
    }
    assert run(shellcheck, *found) == ""
    assert [path.name for path in found if not os.access(path, os.X_OK)] == []


def test_installed_into_a_scratch_root_verified_and_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    install = (ROOT / "deploy/install.sh", "--root", root, "--venv", VENV)
    run(*install)
    assert stat.S_IMODE((root / "var/lib/swarm").stat().st_mode) == 0o700
    assert "\nswarm:" in f"\n{(root / 'etc/group').read_text()}"
    assert (root / "usr/local/bin/swarmd").readlink() == VENV / "bin/swarmd"
    unit = root / "usr/local/lib/systemd/system/swarmd.service"
    assert f"ExecStart={VENV}/bin/swarmd --config /etc/swarm/swarmd.toml" in unit.read_text()
    assert run(needs("systemd-analyze"), "verify", unit) == ""

    shells = ("bash-completion/completions/swarmctl", "zsh/site-functions/_swarmctl")
    for script in (*shells, "fish/vendor_completions.d/swarmctl.fish"):
        assert "_SWARMCTL_COMPLETE" in (root / "usr/local/share" / script).read_text()

    before = contents(root)
    assert run(*install) == "Nothing to change: this is what is installed\n"
    (root / "etc/swarm/swarmd.toml").write_text('hostname = "mine"\n')
    assert run(*install) == "Nothing to change: this is what is installed\n"
    after = contents(root)
    assert after.pop("etc/swarm/swarmd.toml") == (0o644, b'hostname = "mine"\n')
    assert after == {name: what for name, what in before.items() if name in after}

    run(ROOT / "deploy/uninstall.sh", "--root", root)
    assert (root / "etc/swarm/swarmd.toml").exists()
    run(ROOT / "deploy/uninstall.sh", "--root", root, "--purge")
    left = {name for name in contents(root) if not name.startswith("etc/")}
    assert left == set()
    assert not (root / "var/lib/swarm").exists()


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (stat.S_IMODE(path.lstat().st_mode), path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() or path.is_symlink()
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--join", "TOKEN"], "--join takes TOKEN HOST[:PORT]"),
        (["--root", "/nowhere", "--init"], "--init needs a running swarmd"),
        (["--venv", "/nowhere", "--no-start"], "there is no environment in /nowhere"),
        (["--frobnicate"], "unknown option --frobnicate"),
    ],
)
def test_a_wrong_option_is_refused_in_a_line_and_changes_nothing(
    words: list[str], said: str, tmp_path: Path
) -> None:
    words = [word.replace("/nowhere", str(tmp_path / "nowhere")) for word in words]
    command = [ROOT / "deploy/install.sh", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("install.sh: ")
    assert said.replace("/nowhere", str(tmp_path / "nowhere")) in line
    assert list(tmp_path.iterdir()) == []


def test_the_vagrantfile_is_valid(tmp_path: Path) -> None:
    """With what is said to libvirt; what is said to VirtualBox takes VirtualBox to be looked at."""
    vagrant = needs("vagrant")
    home = {"VAGRANT_HOME": str(tmp_path), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    variables = home | {"MANAGERS": "2", "WORKERS": "1", "VAGRANT_DOTFILE_PATH": f"{tmp_path}/.v"}
    said = run(vagrant, "validate", cwd=ROOT / "vagrant", **variables)
    assert "Vagrantfile validated successfully." in said
    said = run(vagrant, "validate", "--ignore-provider", cwd=ROOT / "vagrant", **variables)
    machines = [line.split()[1].rstrip(":") for line in said.splitlines() if "==>" in line]
    assert machines == ["manager-1", "manager-2", "worker-1"]
    command = [vagrant, "validate"]
    environment = {**os.environ, **variables, "MANAGERS": "none"}
    done = subprocess.run(
        command, cwd=ROOT / "vagrant", env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "MANAGERS must be a number" in done.stderr


def test_the_compose_file_is_valid() -> None:
    """By the Compose Specification's schema; the image is not built here: that takes a registry."""
    shown = run(VENV / "bin/swarmctl", "stack", "config", "-c", ROOT / "deploy/docker-compose.yml")
    assert [line.strip() for line in shown.splitlines() if "SWARM_JOIN" in line] == [
        "SWARM_JOIN: manager-1"
    ] * 2
    assert shown.count("privileged: true") >= 3
