"""What an OCI runtime says when a container does not start, in Docker's words. Pure."""

from __future__ import annotations

import re

from swarm.worker.runtime.port import RuntimeFailed

# runc logs `time="…" level=error msg="runc run failed: …"`; crun writes `2026-… : …` or plain text.
_LOGRUS = re.compile(r'\blevel=\w+ msg="((?:[^"\\]|\\.)*)"')
_CRUN_MISSING = re.compile(r"executable file [`'\"]?(.+?)[`'\"]? not found in \$PATH.*")
# Where in the runtime it was met is of no use to a user.
_PLACES = (
    "runc run failed: ",
    "unable to start container process: ",
    "error during container init: ",
)
# moby daemon/errors.go: the exit codes of a shell.
_NOT_EXECUTABLE = ("permission denied", "is a directory", "exec format error")
_NOT_THERE = ("executable file not found", "no such file or directory", "not a directory")
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_THERE = 127
EXIT_NOT_STARTED = 128


def start_failure(line: str) -> RuntimeFailed:
    """The error to raise for the last line that the OCI runtime wrote."""
    logged = _LOGRUS.search(line)
    text = re.sub(r"\\(.)", r"\1", logged[1]) if logged else line
    for place in _PLACES:
        text = text.removeprefix(place)
    text = _CRUN_MISSING.sub(r'exec: "\1": executable file not found in $PATH', text)
    lower = text.lower()
    if any(words in lower for words in _NOT_EXECUTABLE):
        return RuntimeFailed(text, EXIT_NOT_EXECUTABLE)
    if any(words in lower for words in _NOT_THERE):
        return RuntimeFailed(text, EXIT_NOT_THERE)
    return RuntimeFailed(text, EXIT_NOT_STARTED)
