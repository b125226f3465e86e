"""Real `swarmd` processes on loopback, each cluster on a block of addresses of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import grpc

from swarm.api.v1 import control_pb2 as control
from swarm.api.v1 import daemon_pb2 as daemon
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.daemon_pb2_grpc import DaemonStub
from swarm.api.v1.node_pb2 import (
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    NODE_STATE_READY,
    NodeSpec,
)
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.worker.runtime.powercut import kill_node

READY_TIMEOUT_S = 20.0
CALL_TIMEOUT_S = 20.0
_SECRETS = re.compile(rb"SWMTKN-1-\w+-\w{10,}|PRIVATE KEY")

T = TypeVar("T")


def until(what: Callable[[], T], timeout_s: float = 20.0, saying: str = "") -> T:
    """The first answer that counts as true; errors of calls count as none."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            last = answer = what()
            if answer:
                return answer
        except grpc.RpcError as error:
            last = f"{error.code().name}: {error.details()}"  # pyright: ignore
        if time.monotonic() > deadline:
            raise AssertionError(f"{saying or 'not so'} after {timeout_s:g} s; last: {last!r}")
        time.sleep(0.02)


class Daemon:
    """One node. `start` returns when its socket answers."""

    def __init__(self, folder: Path, address: str, name: str, runtime: str = "process") -> None:
        self.name, self.address, self.runtime = name, address, runtime
        self.state_dir = folder / name
        self.socket = folder / f"{name}.sock"
        self.log_path = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None
        self._raw: socket.socket | None = None

    # The process

    def launch(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start it and do not wait."""
        command = [sys.executable, "-m", "swarm.node.main"]
        command += ["--state-dir", str(self.state_dir), "--socket", str(self.socket)]
        command += ["--listen-addr", self.address, "--hostname", self.name]
        command += ["--runtime", self.runtime, *flags]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def start(self, *flags: str) -> Daemon:
        self.launch(*flags)
        return self.ready()

    def ready(self) -> Daemon:
        """Once it is launched."""
        process = self.process
        assert process is not None

        def answers() -> object:
            assert process.poll() is None, f"{self.name} ended: {self.log()[-2000:]}"
            return self.info()

        until(answers, READY_TIMEOUT_S, f"{self.name} answers")
        return self

    def refuses_to_start(self, *flags: str) -> str:
        """Its one line, after an exit that says failure."""
        before = len(self.log())
        process = self.launch(*flags)
        code = process.wait(READY_TIMEOUT_S)
        self.process = None
        said = self.log()[before:]
        assert code not in (0, None), f"exit code {code}: {said}"
        return said

    def kill(self) -> None:
        """SIGKILL: the daemon alone; its agent ends by itself, its tasks go on."""
        self._signal(signal.SIGKILL)
        self._reap()

    def terminate(self, timeout_s: float = 10.0) -> tuple[int, float]:
        """SIGTERM; the exit code and how many seconds it took."""
        began = time.monotonic()
        self._signal(signal.SIGTERM)
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self._reap()
        return code, time.monotonic() - began

    def family(self) -> list[int]:
        """The daemon and its agent."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *map(int, children.read_text().split())]

    def pause(self) -> list[int]:
        """SIGSTOP for daemon and agent; give what is returned to `resume`."""
        family = self.family()
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        return family

    def resume(self, family: Iterable[int]) -> None:
        for pid in family:
            os.kill(pid, signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def _reap(self) -> None:
        self.disconnect()
        if self.process is not None:
            self.process.wait(10)
            self.process = None

    def stop_hard(self) -> None:
        """Nothing of it is left: daemon, agent, tasks."""
        if self.process is not None and self.process.poll() is None:
            family = self.family()
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._reap()
        kill_node(self.state_dir / "worker" / "runtime")

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # What users ask

    def channel(self) -> grpc.Channel:
        if self._channel is None:
            options = [
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_reconnect_backoff_ms", 200),
            ]
            self._channel = grpc.secure_channel(
                f"unix:{self.socket}",
                grpc.local_channel_credentials(grpc.LocalConnectionType.UDS),
                options=options,
            )
        return self._channel

    def disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @property
    def control(self) -> Any:
        return ControlStub(self.channel())

    @property
    def daemon(self) -> Any:
        return DaemonStub(self.channel())

    def info(self) -> daemon.InfoResponse:
        return self.daemon.Info(daemon.InfoRequest(), timeout=3)

    def init(self, **fields: Any) -> daemon.InitResponse:
        return self.daemon.Init(daemon.InitRequest(**fields), timeout=CALL_TIMEOUT_S)

    def join(self, token: str, *remotes: str, timeout: float = 60) -> daemon.JoinResponse:
        request = daemon.JoinRequest(token=token, remote_addresses=remotes)
        return self.daemon.Join(request, timeout=timeout)

    def leave(self, *, force: bool = False) -> None:
        self.daemon.Leave(daemon.LeaveRequest(force=force), timeout=70)

    def tokens(self, **fields: Any) -> control.JoinTokensResponse:
        request = control.JoinTokensRequest(request_id=secrets.token_hex(8), **fields)
        return self.control.JoinTokens(request, timeout=CALL_TIMEOUT_S)

    def nodes(self) -> dict[str, control.NodeView]:
        """By hostname; of several with one name, the last."""
        found = self.control.ListNodes(control.ListNodesRequest(), timeout=CALL_TIMEOUT_S).nodes
        return {view.node.description.hostname: view for view in found}

    def node(self, reference: str) -> control.NodeView:
        request = control.GetNodeRequest(reference=reference)
        return self.control.GetNode(request, timeout=CALL_TIMEOUT_S).node

    def set_role(self, reference: str, *, manager: bool, timeout: float = CALL_TIMEOUT_S) -> None:
        view = self.node(reference)
        spec = NodeSpec()
        spec.CopyFrom(view.node.spec)
        spec.role = NODE_ROLE_MANAGER if manager else NODE_ROLE_WORKER
        self.control.UpdateNode(
            control.UpdateNodeRequest(
                request_id=secrets.token_hex(8),
                node_id=view.node.id,
                version=view.node.meta.version,
                spec=spec,
            ),
            timeout=timeout,
        )

    def remove_node(self, reference: str, *, force: bool = False) -> None:
        self.control.RemoveNode(
            control.RemoveNodeRequest(
                request_id=secrets.token_hex(8), reference=reference, force=force
            ),
            timeout=CALL_TIMEOUT_S,
        )

    def create_service(self, name: str, replicas: int, timeout: float = CALL_TIMEOUT_S) -> str:
        """The id of a service whose tasks sleep."""
        spec = ServiceSpec()
        spec.annotations.name = name
        spec.task.container.image = "swarm/demo"
        spec.replicated.replicas = replicas
        request = control.CreateServiceRequest(request_id=secrets.token_hex(8), spec=spec)
        return self.control.CreateService(request, timeout=timeout).service.service.id

    def tasks(self) -> list[Task]:
        answer = self.control.ListTasks(control.ListTasksRequest(), timeout=CALL_TIMEOUT_S)
        return [view.task for view in answer.tasks]

    def running(self) -> set[str]:
        """Ids of tasks that run and are wanted."""
        return {
            task.id
            for task in self.tasks()
            if task.status.state == TASK_STATE_RUNNING and task.desired_state <= TASK_STATE_RUNNING
        }

    def task_processes(self) -> dict[str, list[int]]:
        """Live processes of tasks on this node, by task id."""
        from swarm.worker.runtime.processes import is_alive
        from swarm.worker.runtime.task_dir import TaskDir

        folder = self.state_dir / "worker" / "runtime" / "process" / "tasks"
        found: dict[str, list[int]] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            started = TaskDir(path).started()
            if started is not None and is_alive(started.process):
                found[path.name] = [started.process.pid]
        return found


class Daemons:
    """The daemons of one test, and their end: nothing is left of them, and their logs are fit
    to be read by others."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="swd"))
        self._block = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self.all: list[Daemon] = []
        # A test that makes a bug show itself may say which tracebacks it means.
        self.check_logs = True

    def new(
        self, name: str = "", *, runtime: str = "process", folder: Path | None = None
    ) -> Daemon:
        number = len(self.all) + 1
        name = name or f"n{number}"
        one = Daemon(folder or self.folder, f"{self._block}.{number}", name, runtime)
        self.all.append(one)
        return one

    def cluster(self, managers: int, workers: int = 0) -> list[Daemon]:
        """Started and joined, managers first, all of them ready and voting."""
        found = [self.new() for _ in range(managers + workers)]
        for one in found:
            one.launch()
        for one in found:
            one.ready()
        first = found[0]
        answer = first.init()
        for number, one in enumerate(found[1:], 1):
            token = answer.manager_token if number < managers else answer.worker_token
            one.join(token, answer.join_address)
        until(lambda: settled(first, managers, managers + workers), 30, "the cluster is ready")
        return found

    def close(self) -> None:
        for one in self.all:
            one.stop_hard()
        logs = {one.name: one.log() for one in self.all}
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.check_logs:
            for name, text in logs.items():
                check_log(name, text)


def settled(manager: Daemon, managers: int, nodes: int) -> bool:
    """All nodes ready, so many managers that vote and are reachable."""
    views = list(manager.nodes().values())
    voting = [v for v in views if v.HasField("manager") and not v.manager.learner]
    reachable = [v for v in voting if v.manager.reachability == control.REACHABILITY_REACHABLE]
    ready = [v for v in views if v.node.status.state == NODE_STATE_READY]
    return len(reachable) == len(voting) == managers and len(ready) == len(views) == nodes


def leader_of(daemons: Iterable[Daemon], timeout_s: float = 10.0) -> Daemon:
    """The one that leads, and is known to by all."""

    def agreed() -> Daemon | None:
        running = [one for one in daemons if one.process is not None]
        infos = {one: one.info() for one in running}
        managers = {one: info for one, info in infos.items() if info.raft_id}
        leaders = {info.leader_raft_id for info in managers.values()}
        if len(leaders) != 1 or 0 in leaders:
            return None
        (leader,) = leaders
        return next((one for one, info in managers.items() if info.raft_id == leader), None)

    found = until(agreed, timeout_s, "one leader")
    assert found is not None
    return found


def check_log(name: str, text: str) -> None:
    assert "Traceback" not in text, f"{name}'s log has a traceback:\n{_around(text, 'Traceback')}"
    secret = _SECRETS.search(text.encode())
    assert secret is None, f"{name}'s log has a secret: {secret}"


def _around(text: str, word: str) -> str:
    at = text.index(word)
    return text[max(0, at - 1500) : at + 3000]
