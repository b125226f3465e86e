"""Logins to registries, where docker keeps them: its configuration file, and the programs that keep
secrets for it (`credsStore` and `credHelpers`, each a `docker-credential-NAME`)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from swarm.cli.errors import CliError
from swarm.worker.images.reference import parse, server_of

_HELPER_TIMEOUT_S = 60.0
# The name under which helpers keep a token that stands for a login.
_USER_OF_TOKENS = "<token>"


@dataclass(frozen=True)
class Login:
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def header(self, server: str) -> str:
        """Docker's X-Registry-Auth value."""
        shown = {
            "username": self.username,
            "password": self.password,
            "identitytoken": self.identity_token,
            "serveraddress": server,
        }
        text = json.dumps({key: value for key, value in shown.items() if value})
        return base64.urlsafe_b64encode(text.encode()).decode()


def registry_auth(environment: Mapping[str, str], image: str) -> str:
    """The login to the image's registry, as X-Registry-Auth; empty where there is none.

    Raises CliError for a file that can't be read and for a helper that fails.
    """
    try:
        server = server_of(parse(image).name)
    except ValueError:
        return ""  # whoever is asked for that image says so
    login = RegistryLogins(environment).get(server)
    return login.header(server) if login is not None else ""


class RegistryLogins:
    """Servers are called as `server_of` does. All methods raise CliError."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        folder = environment.get("DOCKER_CONFIG") or Path(environment.get("HOME", "~"), ".docker")
        self.path = Path(folder).expanduser() / "config.json"

    def get(self, server: str) -> Login | None:
        content = self._read()
        helper = _helper_of(content, server)
        if helper:
            return self._ask_helper(helper, server)
        for key, entry in _auths(content).items():
            if server_of(key) == server and (login := _decoded(entry)) is not None:
                return login
        return None

    def put(self, server: str, login: Login) -> bool:
        """Whether it is in the file, for whoever can read that."""
        content = self._read()
        helper = _helper_of(content, server)
        entry: dict[str, str] = {}
        if helper:
            secret = {"ServerURL": server, "Username": login.username, "Secret": login.password}
            self._run_helper(helper, "store", json.dumps(secret))
        else:
            pair = f"{login.username}:{login.password}"
            entry["auth"] = base64.b64encode(pair.encode()).decode()
        content["auths"] = {**_auths(content), server: entry}
        self._write(content)
        return not helper

    def erase(self, server: str) -> bool:
        """Whether there was one."""
        content = self._read()
        auths = _auths(content)
        known = [key for key in auths if server_of(key) == server]
        helper = _helper_of(content, server)
        found = bool(known) or (bool(helper) and self._ask_helper(helper, server) is not None)
        if helper and found:
            self._run_helper(helper, "erase", server)
        if known:
            content["auths"] = {key: auths[key] for key in auths if key not in known}
            self._write(content)
        return found

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
            raise CliError(f"docker's configuration {self.path} can't be read: {reason}") from None
        if not isinstance(content, dict):
            raise CliError(
                f"docker's configuration {self.path} can't be used: it is no JSON object"
            )
        return cast("dict[str, Any]", content)

    def _write(self, content: dict[str, Any]) -> None:
        """A file that is whole, and its owner's alone."""
        target = self.path.resolve()
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(prefix=".config.json.", dir=target.parent)
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(json.dumps(content, indent="\t"))
                Path(beside).replace(target)
            except BaseException:
                Path(beside).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise CliError(f"{self.path} can't be written: {error.strerror}") from None

    def _ask_helper(self, helper: str, server: str) -> Login | None:
        said = self._run_helper(helper, "get", server)
        if said is None:
            return None
        try:
            found = json.loads(said)
            username, secret = str(found["Username"]), str(found["Secret"])
        except (ValueError, KeyError, TypeError):
            raise CliError(f"docker-credential-{helper} answers with no login") from None
        if username == _USER_OF_TOKENS:
            return Login(identity_token=secret)
        return Login(username, secret)

    def _run_helper(self, helper: str, verb: str, given: str) -> str | None:
        """What it prints; None where it knows of no such login."""
        name = f"docker-credential-{helper}"
        program = shutil.which(name, path=self._environment.get("PATH"))
        if program is None:
            raise CliError(f"{self.path} names {name}, which is not in PATH: install it")
        try:
            done = subprocess.run(
                [program, verb],
                input=given,
                capture_output=True,
                text=True,
                timeout=_HELPER_TIMEOUT_S,
                env=dict(self._environment),
                check=False,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired):
            raise CliError(f"{name} {verb} can't be run, or does not end") from None
        if done.returncode == 0:
            return done.stdout
        if "credentials not found" in done.stdout:
            return None
        # What it prints may quote what it was given.
        raise CliError(f"{name} {verb} failed with {done.returncode}: run it by hand to see why")


def _helper_of(content: Mapping[str, Any], server: str) -> str:
    """Empty: logins are in the file itself."""
    helpers = content.get("credHelpers")
    if isinstance(helpers, dict):
        named = cast("dict[str, Any]", helpers)
        for key, helper in named.items():
            if server_of(key) == server:
                return str(helper)
    return str(content.get("credsStore") or "")


def _auths(content: Mapping[str, Any]) -> dict[str, Any]:
    auths = content.get("auths")
    return cast("dict[str, Any]", auths) if isinstance(auths, dict) else {}


def _decoded(entry: object) -> Login | None:
    if not isinstance(entry, dict):
        return None
    fields = cast("dict[str, Any]", entry)
    if fields.get("identitytoken"):
        return Login(identity_token=str(fields["identitytoken"]))
    try:
        pair = base64.b64decode(str(fields.get("auth", ""))).decode()
    except ValueError:
        return None
    username, colon, password = pair.partition(":")
    # Docker has ended them with a NUL once.
    return Login(username, password.rstrip("\0")) if colon else None
