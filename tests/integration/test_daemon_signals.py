"""swarmd as systemd sees it: ready, alive, told to read its settings, told to stop."""

from __future__ import annotations

import grp
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Daemon, Daemons, until


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    made = Daemons()
    yield made
    made.close()


class Systemd:
    """Its end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "300000"}

    def hears(self, word: str) -> str:
        """The next message that says `word`."""
        while True:
            text = self._messages.get(timeout=20)
            if word in text.split("\n"):
                return text

    def _read(self) -> None:
        while text := self._socket.recv(4096):
            self._messages.put(text.decode())

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)  # the reader's end
        self._socket.close()


@pytest.fixture
def systemd(daemons: Daemons, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    one = Systemd(daemons.folder / "notify")
    for name, value in one.environment.items():
        monkeypatch.setenv(name, value)
    yield one
    one.close()


def engine_labels(node: Daemon) -> dict[str, str]:
    return dict(node.nodes()[node.name].node.description.engine.labels)


def test_from_ready_to_stopped(daemons: Daemons, systemd: Systemd) -> None:
    node = daemons.new()
    file = daemons.folder / "swarmd.toml"
    file.write_text('label = ["zone=a"]\n')
    node.launch("--config", str(file))
    systemd.hears("READY=1")
    systemd.hears("WATCHDOG=1")
    node.init()  # at once: its socket answers when it says that it is ready
    until(lambda: engine_labels(node) == {"zone": "a"}, saying="the label of the start")

    file.write_text('label = ["zone=b"]\nlog-level = "debug"\nruntime = "oci"\n')
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)
    systemd.hears("RELOADING=1")
    systemd.hears("READY=1")
    until(lambda: engine_labels(node) == {"zone": "b"}, saying="the label of the file now")
    assert "SIGHUP: changed settings: label, log-level" in node.log()
    assert "only when swarmd is started again" not in node.log()  # a flag is over the file
    assert node.process.poll() is None

    file.write_text('label = "zone"\n')
    node.process.send_signal(signal.SIGHUP)
    systemd.hears("RELOADING=1")
    systemd.hears("READY=1")
    assert "SIGHUP: the settings stay as they are: label: takes a list" in node.log()

    node.process.send_signal(signal.SIGTERM)
    systemd.hears("STOPPING=1")
    assert node.process.wait(10) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to a group takes root")
def test_the_socket_is_the_groups(daemons: Daemons) -> None:
    group = grp.getgrnam("nogroup" if sys.platform == "linux" else "nobody")
    node = daemons.new().start("--group", group.gr_name)
    status = node.socket.stat()
    assert status.st_gid == group.gr_gid
    assert status.st_mode & 0o777 == 0o660
    other = daemons.new()
    said = other.refuses_to_start("--group", "no-such-group")
    assert said.splitlines()[-1].startswith("swarmd: there is no group no-such-group")
