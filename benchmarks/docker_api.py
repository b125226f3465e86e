"""The Docker Engine API over its unix socket, as far as the benchmarks need it: one
connection, kept open."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

_VERSION = "v1.41"


class EngineError(Exception):
    """The engine's answer, with its status."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class EngineApi:
    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        self._connection = _UnixConnection(path, timeout_s)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The parsed answer. EngineError, OSError."""
        try:
            self._connection.request(
                method,
                f"/{_VERSION}{path}",
                None if body is None else json.dumps(body),
                {"Content-Type": "application/json"},
            )
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise OSError(str(error)) from error
        if answer.status >= 400:
            raise EngineError(f"{answer.status}: {content.decode(errors='replace')}")
        return json.loads(content) if content.strip() else None

    def running_tasks(self, service: str) -> int:
        filters = {"service": {service: True}, "desired-state": {"running": True}}
        tasks = self.call("GET", f"/tasks?filters={quote(json.dumps(filters))}")
        return sum(task["Status"]["State"] == "running" for task in tasks)

    def containers(self) -> int:
        return len(self.call("GET", "/containers/json?all=1"))

    def close(self) -> None:
        self._connection.close()
