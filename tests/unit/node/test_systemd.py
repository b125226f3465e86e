"""What systemd is told, on a socket as systemd has one; and what SIGHUP may change."""

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from swarm.node.config import load
from swarm.node.reload import take_over
from swarm.node.systemd import Supervisor


@pytest.fixture
def systemd(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def environment_of(systemd: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.getsockname(), "PATH": "/bin", **more}


async def heard(systemd: socket.socket) -> list[str]:
    text = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(systemd, 4096), 5)
    return text.decode().split("\n")


def is_silent(systemd: socket.socket) -> bool:
    try:
        systemd.recv(4096)
    except BlockingIOError:
        return True
    return False


async def test_ready_reloading_stopping(systemd: socket.socket) -> None:
    environment = environment_of(systemd)
    supervisor = Supervisor(environment)
    assert environment == {"PATH": "/bin"}  # children are not to speak for this process
    with supervisor.reloading():
        pass
    assert is_silent(systemd), "a SIGHUP while it starts makes it no readier"
    supervisor.ready("answers on /x")
    assert await heard(systemd) == ["READY=1", "STATUS=answers on /x"]
    with supervisor.reloading():
        reloading, clock = await heard(systemd)
        assert reloading == "RELOADING=1"
        assert clock.startswith("MONOTONIC_USEC=")
        assert is_silent(systemd)
    assert await heard(systemd) == ["READY=1", "STATUS=answers on /x"]
    supervisor.stopping()
    assert (await heard(systemd))[0] == "STOPPING=1"


async def test_the_watchdog_is_fed_by_the_loop_once_it_is_ready(systemd: socket.socket) -> None:
    environment = environment_of(systemd, WATCHDOG_USEC="30000", WATCHDOG_PID=str(os.getpid()))
    supervisor = Supervisor(environment)
    assert supervisor.watchdog_s == 0.03
    assert environment == {"PATH": "/bin"}
    supervisor.ready("")
    assert (await heard(systemd))[0] == "READY=1"
    for _ in range(3):
        assert await heard(systemd) == ["WATCHDOG=1"]
    # A loop that hangs for three periods says nothing in them.
    while not is_silent(systemd):
        pass
    time.sleep(0.1)  # noqa: ASYNC251 - a loop that hangs is what is meant
    assert is_silent(systemd)
    assert await heard(systemd) == ["WATCHDOG=1"]
    supervisor.close()


def test_a_watchdog_for_another_process_is_none_of_ours(systemd: socket.socket) -> None:
    environment = environment_of(systemd, WATCHDOG_USEC="30000", WATCHDOG_PID="1")
    assert Supervisor(environment).watchdog_s == 0


async def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0swarm-test-{os.getpid()}")
        listening.setblocking(False)
        Supervisor({"NOTIFY_SOCKET": f"@swarm-test-{os.getpid()}"}).stopping()
        assert (await heard(listening))[0] == "STOPPING=1"


def test_without_systemd_and_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    Supervisor({}).stopping()
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping()


def test_settings_that_change_while_it_runs_and_those_that_cannot() -> None:
    running = load({"label": ("a=1",), "hostname": "n1"}, {})
    wanted = load(
        {"label": ("a=2",), "log_level": "debug", "listen_addr": "1.2.3.4", "runtime": "oci"}
        | {"hostname": "n1"},
        {},
    )
    reloaded = take_over(running, wanted)
    assert reloaded.config.labels == {"a": "2"}
    assert reloaded.config.log_level == "debug"
    assert reloaded.config.listen_addr == running.listen_addr
    assert reloaded.changed == ("label", "log-level")
    assert reloaded.needs_restart == ("listen-addr", "runtime")
    same = take_over(running, running)
    assert (same.config, same.changed, same.needs_restart) == (running, (), ())
