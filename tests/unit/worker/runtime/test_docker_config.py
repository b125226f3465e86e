"""A task as the engine's container configuration, and what the engine says back."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.worker.runtime.docker.container_config import container_config
from swarm.worker.runtime.docker.errors import pull_verdict
from swarm.worker.runtime.docker.logs import LogParser, unix_ns
from swarm.worker.runtime.port import (
    Healthcheck,
    Identity,
    Limits,
    LogLine,
    Mount,
    Port,
    RuntimeFailed,
    RuntimeRefused,
    TaskRun,
)
from swarm.worker.runtime.task_files import LaidFile

IDENTITY = Identity("c1", "n1")


def test_the_least_task_leaves_the_image_its_own_values():
    config = container_config(TaskRun("t1", "web.1.t1", "nginx"), IDENTITY, [], "nginx:1@sha256:x")
    assert config["Image"] == "nginx:1@sha256:x"
    assert config["Entrypoint"] is None
    assert config["Cmd"] is None
    for absent in ("WorkingDir", "User", "Hostname", "StopSignal", "Healthcheck"):
        assert absent not in config
    assert config["HostConfig"]["AutoRemove"] is False
    assert config["Labels"] == {
        "swarm.cluster.id": "c1",
        "com.docker.swarm.node.id": "n1",
        "com.docker.swarm.task.id": "t1",
    }


def test_every_field_is_handed_on():
    run = TaskRun(
        "t1",
        "web.1.t1",
        "nginx",
        command=("a",),
        args=("b",),
        env=("X=1",),
        stop_signal="SIGINT",
        stop_grace_period_ns=1_500_000_000,
        mounts=(Mount("volume", "/v", "data", volume_driver="nfs", no_copy=True),),
        limits=Limits(nano_cpus=5, memory_bytes=6, pids=7, swap_bytes=3, swappiness=0),
        healthcheck=Healthcheck(("CMD", "x"), interval_ns=9),
        ports=(Port(80), Port(53, "udp")),
        init=True,
        cap_drop=("ALL",),
        log_driver="local",
    )
    files = [LaidFile(Path("/run/x"), "/run/secrets/s")]
    config = container_config(run, IDENTITY, files, "nginx")
    host = config["HostConfig"]
    assert (config["Entrypoint"], config["Cmd"], config["Env"]) == (["a"], ["b"], ["X=1"])
    assert config["StopTimeout"] == 2
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert config["Healthcheck"] == {"Test": ["CMD", "x"], "Interval": 9}
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (5, 6, 7)
    assert (host["MemorySwap"], host["MemorySwappiness"]) == (9, 0)
    assert host["Mounts"][0]["VolumeOptions"]["DriverConfig"]["Name"] == "nfs"
    assert host["Mounts"][1] == {
        "Type": "bind",
        "Source": "/run/x",
        "Target": "/run/secrets/s",
        "ReadOnly": True,
    }
    assert (host["Init"], host["CapDrop"]) == (True, ["ALL"])
    assert host["LogConfig"] == {"Type": "local", "Config": {}}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("pull access denied for x, repository does not exist", RuntimeRefused),
        ("manifest for x:1 not found: manifest unknown", RuntimeRefused),
        ("Head https://r: unauthorized: incorrect username or password", RuntimeRefused),
        ("Get https://r/v2/: dial tcp: lookup r: no such host", RuntimeFailed),
        ("Get https://r/v2/: net/http: request canceled (Client.Timeout exceeded)", RuntimeFailed),
    ],
)
def test_pull_errors_are_told_apart(said: str, kind: type[Exception]):
    verdict = pull_verdict("x:1", RuntimeError(said))
    assert type(verdict) is kind
    assert "x:1" in str(verdict)


def test_a_refused_login_says_login():
    assert "login" in str(pull_verdict("x", RuntimeError("no basic auth credentials")))


STAMP = b"2026-11-23T22:20:18.5Z "
STAMP_NS = 1795472418_500_000_000


def frame(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


def test_log_frames_in_any_pieces():
    data = frame(1, STAMP + b"a b\n") + frame(2, STAMP + b"c\n")
    for size in (1, 7, len(data)):
        parser = LogParser(False)
        lines = [
            line
            for start in range(0, len(data), size)
            for line in parser.feed(data[start : start + size])
        ]
        assert lines == [
            LogLine("stdout", STAMP_NS, b"a b\n"),
            LogLine("stderr", STAMP_NS, b"c\n"),
        ]


def test_a_terminals_log_has_no_frames():
    parser = LogParser(True)
    assert parser.feed(STAMP + b"a\r") == []
    assert parser.feed(b"\n" + STAMP + b"end") == [LogLine("stdout", STAMP_NS, b"a\r\n")]
    assert parser.rest() == [LogLine("stdout", STAMP_NS, b"end")]
    assert parser.rest() == []


def test_times():
    assert unix_ns("0001-01-01T00:00:00Z") == 0
    assert unix_ns("1970-01-01T00:00:01Z") == 1_000_000_000
    assert unix_ns("1970-01-01T00:00:01.000000001Z") == 1_000_000_001
