"""What the engine shows of a container, as the port says it."""

from __future__ import annotations

from typing import Any

from swarm.worker.runtime.docker.logs import unix_ns
from swarm.worker.runtime.port import (
    TASK_LABEL,
    ContainerState,
    Endpoint,
    Exit,
    Found,
    Health,
    HealthStatus,
    Port,
    Started,
    Stats,
)

OUTPUT_CHARACTERS_MAX = 4096


def started(shown: dict[str, Any]) -> Started:
    state = shown["State"]
    address = _address(shown)
    pid = state.get("Pid") or 0
    ports: dict[str, Any] = shown["Config"].get("ExposedPorts") or {}
    endpoints: dict[Port, Endpoint] = {}
    for key in ports if address else ():
        target, _, protocol = key.partition("/")
        endpoints[_port(target, protocol)] = Endpoint(address, int(target))
    return Started(
        container_id=shown["Id"],
        pid=pid,
        started_at_ns=unix_ns(state["StartedAt"]),
        address=address,
        endpoints=endpoints,
        netns=f"/proc/{pid}/ns/net" if pid else "",
    )


def _port(target: str, protocol: str) -> Port:
    return Port(int(target), protocol)  # pyright: ignore[reportArgumentType] - the engine's word


def _address(shown: dict[str, Any]) -> str:
    networks: dict[str, dict[str, Any]] = shown["NetworkSettings"].get("Networks") or {}
    return next((net["IPAddress"] for net in networks.values() if net.get("IPAddress")), "")


def exit_of(shown: dict[str, Any]) -> Exit | None:
    """How it ended; None while it runs, and before it was started."""
    state = shown["State"]
    message = " ".join(str(state.get("Error") or "").split())
    if state.get("Running") or state["Status"] in ("running", "paused", "restarting"):
        return None
    if state["Status"] == "created":
        if not message:
            return None
        # The engine could not start it: nothing ran, so nothing had an exit code.
        return Exit(None, unix_ns(shown["Created"]), False, message)
    return Exit(
        int(state["ExitCode"]),
        unix_ns(state["FinishedAt"]),
        bool(state.get("OOMKilled")),
        message,
    )


def found(shown: dict[str, Any]) -> Found:
    labels: dict[str, str] = shown["Config"].get("Labels") or {}
    ended = exit_of(shown)
    if ended is not None:
        state = ContainerState.EXITED
    elif shown["State"]["Status"] == "created":
        state = ContainerState.CREATED
    else:
        state = ContainerState.RUNNING
    return Found(labels[TASK_LABEL], shown["Name"].removeprefix("/"), state, labels, ended)


def health(shown: dict[str, Any]) -> Health:
    state: dict[str, Any] = shown["State"].get("Health") or {}
    status = str(state.get("Status") or "none")
    if status not in {known.value for known in HealthStatus}:
        status = "none"
    checks: list[dict[str, Any]] = state.get("Log") or []
    output = str(checks[-1].get("Output", "")).strip() if checks else ""
    streak = int(state.get("FailingStreak", 0))
    return Health(HealthStatus(status), streak, output[:OUTPUT_CHARACTERS_MAX])


def stats(measured: dict[str, Any]) -> Stats:
    memory: dict[str, Any] = measured.get("memory_stats") or {}
    pids: dict[str, Any] = measured.get("pids_stats") or {}
    return Stats(
        cpu_total_ns=int(measured["cpu_stats"]["cpu_usage"]["total_usage"]),
        memory_bytes=int(memory.get("usage", 0)),
        memory_limit_bytes=int(memory.get("limit", 0)),
        pids=int(pids.get("current", 0)),
    )
