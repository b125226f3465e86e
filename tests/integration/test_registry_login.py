"""`swarmctl login` and `logout` against a registry of the test's own, on loopback."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry import Registry, serve_registry

from swarm.cli.main import main
from swarm.cli.registry_logins import RegistryLogins, registry_auth
from swarm.worker.images.reference import server_of

# As docker's own helpers are; it keeps a login in a file beside it, and notes its arguments.
HELPER = """#!/bin/sh
kept=$(dirname "$0")/kept
given=$(cat)
echo "$1 $*" >> "$(dirname "$0")/calls"
case $1 in
store) echo "$given" > "$kept" ;;
get) cat "$kept" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm -f "$kept" ;;
esac
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with serve_registry(tmp_path / "served") as address:
        yield address


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker/config.json"


def log_in(monkeypatch: pytest.MonkeyPatch, registry: str, password: str = "secret") -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
    return main(["login", "-u", "me", "--password-stdin", registry])


@pytest.mark.parametrize("tokens", [False, True])
def test_a_login_is_checked_and_kept_for_its_owner(
    registry: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tokens: bool,
) -> None:
    monkeypatch.setattr(Registry, "tokens", tokens)
    config.parent.mkdir()
    config.write_text('{"psFormat": "kept"}')
    assert log_in(monkeypatch, registry) == 0
    said = capsys.readouterr()
    assert said.out == "Login Succeeded\n"
    assert f"stored unencrypted in '{config}'" in said.err
    assert config.stat().st_mode & 0o777 == 0o600
    auth = base64.b64encode(b"me:secret").decode()
    assert json.loads(config.read_text()) == {
        "psFormat": "kept",
        "auths": {registry: {"auth": auth}},
    }

    # The same login again, without being asked for it; and as it is sent along.
    assert main(["login", f"http://{registry}/v2/"]) == 0
    assert capsys.readouterr().out == (
        "Authenticating with existing credentials...\nLogin Succeeded\n"
    )
    header = registry_auth({"DOCKER_CONFIG": str(config.parent)}, f"{registry}/private/app:1")
    assert json.loads(base64.urlsafe_b64decode(header)) == {
        "username": "me", "password": "secret", "serveraddress": registry,
    }  # fmt: skip

    assert main(["logout", registry]) == 0
    assert main(["logout", registry]) == 0
    assert capsys.readouterr().out == (
        f"Removing login credentials for {registry}\nNot logged in to {registry}\n"
    )
    assert json.loads(config.read_text())["auths"] == {}


def test_what_is_refused_is_not_kept_and_says_why(
    registry: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for tokens in (False, True):
        monkeypatch.setattr(Registry, "tokens", tokens)
        assert log_in(monkeypatch, registry, "wr0ng-one") == 1
        said = capsys.readouterr().err
        assert said == f"registry {registry} refused the login: incorrect username or password\n"
    assert log_in(monkeypatch, "127.0.0.1:9") == 1
    assert "registry 127.0.0.1:9 can't be reached (Connection refused)" in capsys.readouterr().err
    assert not config.exists()

    assert main(["login", "-p", "x", "--password-stdin", registry]) == 1
    assert "are mutually exclusive" in capsys.readouterr().err
    assert main(["login", "--password-stdin", registry]) == 1
    assert capsys.readouterr().err == "Must provide --username with --password-stdin\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["login", registry]) == 1
    assert "Cannot perform an interactive login" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_helper_keeps_the_secret(
    registry: str,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key: str,
) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    config.parent.mkdir()
    config.write_text(json.dumps({key: "test" if key == "credsStore" else {registry: "test"}}))
    assert log_in(monkeypatch, registry) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("Login Succeeded\n", "")
    assert json.loads(config.read_text())["auths"] == {registry: {}}
    environment = {"DOCKER_CONFIG": str(config.parent), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    login = RegistryLogins(environment)
    kept = login.get(registry)
    assert kept is not None
    assert (kept.username, kept.password) == ("me", "secret")
    assert "secret" not in repr(kept)
    assert login.erase(registry)
    assert login.get(registry) is None
    assert not login.erase(registry)
    assert "secret" not in (tmp_path / "calls").read_text()


def test_servers_as_docker_calls_them() -> None:
    hub = "https://index.docker.io/v1/"
    assert {server_of(name) for name in ("", "docker.io", "docker.io/library/redis", hub)} == {hub}
    assert server_of("https://registry.example.com/v2/") == "registry.example.com"
