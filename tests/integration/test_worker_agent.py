"""The agent as a process: a manager over gRPC with mutual TLS, tasks as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import grpc
import pytest

from swarm.api.v1.dispatcher_pb2 import (
    Assignments,
    IngressBackend,
    IngressService,
    ManagerAddress,
    ManagerMessage,
    SessionInfo,
    StatusAck,
)
from swarm.api.v1.dispatcher_pb2_grpc import DispatcherServicer, add_DispatcherServicer_to_server
from swarm.api.v1.logs_pb2 import LogOptions, LogSubscription
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER, Node, NodeDescription
from swarm.api.v1.service_pb2 import (
    ContainerSpec,
    EndpointSpec,
    HealthCheck,
    ServiceRevision,
    ServiceSpec,
    TaskSpec,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
    TaskStatus,
)
from swarm.api.v1.types_pb2 import PortConfig
from swarm.security.certificates import (
    create_request,
    create_root,
    issue_node_certificate,
    node_id_of,
)
from swarm.security.node_keys import NodeBundle, NodeKeys
from swarm.security.roles import Role, caller_from_auth_context
from swarm.security.tls import manager_channel, node_server_credentials
from swarm.worker.agent import Agent, Surroundings
from swarm.worker.core.agent import AgentCore
from swarm.worker.core.events import Loaded
from swarm.worker.database import Database, DatabaseError
from swarm.worker.runtime.fake import FakeRuntime
from swarm.worker.runtime.port import HealthStatus, RuntimeFailed, RuntimeRefused
from swarm.worker.runtime.powercut import kill_node

CLUSTER = "c" * 25


class Dispatcher(DispatcherServicer):
    """A manager that knows of one node."""

    def __init__(self):
        self.address = ""
        self.tasks = {}
        self.revisions = {}
        self.ingress = []
        self.revision = 1
        self.role = NODE_ROLE_WORKER
        self.statuses = {}
        self.histories = {}
        self.logs = []
        self.callers = []
        self.hellos = []
        self.said = []
        self.sessions = []
        self.changed = asyncio.Condition()

    async def Session(self, request_iterator, context):
        self.callers.append(caller_from_auth_context(context.auth_context()))
        outgoing = asyncio.Queue()
        self.sessions.append(outgoing)
        reading = asyncio.create_task(self._read(request_iterator, outgoing))
        try:
            while (message := await outgoing.get()) is not None:
                yield message
        finally:
            self.sessions.remove(outgoing)
            reading.cancel()

    async def _read(self, messages, outgoing):
        async for message in messages:
            self.said.append(message.WhichOneof("kind"))
            match message.WhichOneof("kind"):
                case "hello":
                    self.hellos.append(message.hello)
                    outgoing.put_nowait(self._info())
                    outgoing.put_nowait(self._assignments(complete=True))
                case "heartbeat":
                    outgoing.put_nowait(ManagerMessage(acknowledged=StatusAck()))
                case "statuses":
                    for update in message.statuses.updates:
                        self.statuses[update.task_id] = update.status
                        self.histories.setdefault(update.task_id, []).append(update.status.state)
                    ack = StatusAck(updates=message.statuses.updates)
                    outgoing.put_nowait(ManagerMessage(acknowledged=ack))
                case "logs":
                    self.logs.append(message.logs)
            async with self.changed:
                self.changed.notify_all()
        outgoing.put_nowait(None)

    def _info(self):
        return ManagerMessage(
            info=SessionInfo(
                session_id="s",
                heartbeat_period_ns=200_000_000,
                managers=[ManagerAddress(node_id="m", address=self.address)],
                node=Node(role=self.role),
            )
        )

    def _assignments(self, *, complete, **fields):
        if complete:
            fields = {
                "tasks": self.tasks.values(),
                "revisions": self.revisions.values(),
                "ingress": self.ingress,
            }
        return ManagerMessage(
            assignments=Assignments(
                incarnation=1, revision=self.revision, complete=complete, **fields
            )
        )

    def send(self, message):
        for session in self.sessions:
            session.put_nowait(message)

    def change(self, **fields):
        self.revision += 1
        self.send(self._assignments(complete=False, **fields))

    def run(self, task_id, script, **fields):
        spec = ServiceSpec(**fields)
        spec.task.container.image = "any"
        spec.task.container.args.extend(["sh", "-c", script])
        row = ServiceRevision(service_id=f"s-{task_id}", revision=1, spec=spec)
        self.revisions[task_id] = row
        task = Task(
            id=task_id,
            service_id=f"s-{task_id}",
            service_name="web",
            slot=1,
            node_id="n",
            revision=1,
            desired_state=TASK_STATE_RUNNING,
            status=TaskStatus(state=TASK_STATE_ASSIGNED),
        )
        self.tasks[task_id] = task
        self.change(tasks=[task], revisions=[row])

    def want(self, task_id, desired):
        self.tasks[task_id].desired_state = desired
        self.change(tasks=[self.tasks[task_id]])

    async def until(self, condition: Callable[[], object], seconds=20):
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(condition)

    async def until_state(self, task_id, state):
        await self.until(lambda: task_id in self.statuses and self.statuses[task_id].state == state)
        return self.statuses[task_id]


class AgentProcess:
    def __init__(self, config):
        self.config = config
        self.events = []
        self.process = None

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "swarm.worker.main",
            "--config",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.say(self.config)
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        async for line in self.process.stdout:
            self.events.append(json.loads(line))

    def say(self, line):
        self.process.stdin.write(json.dumps(line).encode() + b"\n")

    async def until_event(self, name, count=1):
        async with asyncio.timeout(20):
            while sum(e["event"] == name for e in self.events) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return next(e for e in self.events if e["event"] == name)

    async def end(self, how: Callable[[], None]):
        how()
        async with asyncio.timeout(20):
            code = await self.process.wait()
            await self.reading
        self.process.stdin.close()
        return code

    async def kill(self):
        if self.process is not None and self.process.returncode is None:
            await self.end(self.process.kill)


def bundle(root, role):
    request = create_request()
    node_id = node_id_of(request.csr_pem)
    certificate = issue_node_certificate(
        root,
        request.csr_pem,
        node_id=node_id,
        cluster_id=CLUSTER,
        role=role,
        now=datetime.now(UTC),
    )
    return NodeBundle(request.key_pem, certificate, root.certificate_pem)


@pytest.fixture
async def dispatcher():
    root = create_root(CLUSTER, now=datetime.now(UTC))
    manager = bundle(root, Role.MANAGER)
    server = grpc.aio.server()
    servicer = Dispatcher()
    add_DispatcherServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", node_server_credentials(lambda: manager))
    servicer.address = f"127.0.0.1:{port}"
    servicer.root = root
    await server.start()
    yield servicer
    await server.stop(0)


@pytest.fixture
async def agent(dispatcher, tmp_path):
    worker = bundle(dispatcher.root, Role.WORKER)
    NodeKeys(tmp_path).save(worker, now=datetime.now(UTC))
    agent = AgentProcess(
        {
            "state_dir": str(tmp_path / "worker"),
            "certificate_dir": str(tmp_path),
            "cluster_id": CLUSTER,
            "node_id": worker.identity.node_id,
            "managers": [dispatcher.address],
            "hostname": "host1",
            "labels": {"disk": "ssd"},
            "runtime": "process",
            "listen_host": "127.0.0.1",
            "advertise_host": "127.0.0.1",
            "cpus": 2,
            "memory_bytes": 1 << 30,
        }
    )
    await agent.start()
    yield agent
    await agent.kill()
    kill_node(tmp_path / "worker" / "runtime")


async def test_a_task_from_assignment_to_removal(dispatcher, agent, tmp_path):
    await dispatcher.until(lambda: dispatcher.hellos)
    hello = dispatcher.hellos[0]
    assert dispatcher.callers[0].node_id == agent.config["node_id"]
    assert hello.address == "127.0.0.1"
    assert hello.description.hostname == "host1"
    assert hello.description.resources.nano_cpus == 2_000_000_000
    assert hello.description.engine.runtime == "process"
    assert dict(hello.description.engine.labels) == {"disk": "ssd"}

    dispatcher.run("t1", "echo hello; echo world >&2; exec sleep 60")
    status = await dispatcher.until_state("t1", TASK_STATE_RUNNING)
    if os.geteuid() == 0:  # others have no right to a higher priority, and keep what they have
        assert os.getpriority(os.PRIO_PROCESS, agent.process.pid) < 0
        assert os.getpriority(os.PRIO_PROCESS, status.container.pid) == 0
    assert dispatcher.histories["t1"] == sorted(dispatcher.histories["t1"])

    options = LogOptions(tail=-1, stdout=True, stderr=True)
    wanted = LogSubscription(id="sub", task_ids=["t1"], options=options)
    dispatcher.send(ManagerMessage(log_subscription=wanted))
    await dispatcher.until(lambda: any(batch.done for batch in dispatcher.logs))
    lines = [line for batch in dispatcher.logs for line in batch.lines]
    assert sorted(line.data for line in lines) == [b"hello", b"world"]

    dispatcher.want("t1", TASK_STATE_SHUTDOWN)
    status = await dispatcher.until_state("t1", TASK_STATE_SHUTDOWN)
    assert status.container.exit_code == 143
    del dispatcher.tasks["t1"]
    dispatcher.change(removed_task_ids=["t1"])
    async with asyncio.timeout(10):
        while list((tmp_path / "worker/runtime/process/tasks").iterdir()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await dispatcher.until(lambda: "heartbeat" in dispatcher.said)


async def test_an_agent_killed_finds_its_tasks_and_starts_none_twice(dispatcher, agent, tmp_path):
    await dispatcher.until(lambda: dispatcher.hellos)
    for name in ("stays", "ends"):
        wait = f"while [ ! -e {tmp_path}/go-{name} ]; do sleep 0.05; done"
        script = f"echo x >> {tmp_path}/{name}; {wait}; exit 7"
        dispatcher.run(name, script)
    for name in ("stays", "ends"):
        await dispatcher.until_state(name, TASK_STATE_RUNNING)
    pid = dispatcher.statuses["stays"].container.pid
    await agent.kill()
    dispatcher.statuses.clear()
    (tmp_path / "go-ends").touch()
    await agent.start()
    ended = await dispatcher.until_state("ends", TASK_STATE_FAILED)
    assert ended.err == "task: non-zero exit (7)"
    assert ended.container.exit_code == 7
    await agent.until_event("session")
    assert dispatcher.hellos[-1].revision == dispatcher.revision
    (tmp_path / "go-stays").touch()
    stays = await dispatcher.until_state("stays", TASK_STATE_FAILED)
    assert stays.container.pid in (0, pid)
    assert [(tmp_path / name).read_text() for name in ("stays", "ends")] == ["x\n", "x\n"]


@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "stop"])
async def test_when_the_agent_ends_its_tasks_stay(dispatcher, agent, how):
    await dispatcher.until(lambda: dispatcher.hellos)
    dispatcher.run("t1", "exec sleep 60")
    status = await dispatcher.until_state("t1", TASK_STATE_RUNNING)
    ways = {
        "stdin": lambda: agent.process.stdin.close(),
        "SIGTERM": lambda: agent.process.send_signal(signal.SIGTERM),
        "stop": lambda: agent.say({"cmd": "stop", "goodbye": True}),
    }
    assert await agent.end(ways[how]) == 0
    os.kill(status.container.pid, 0)
    if how == "stop":
        await dispatcher.until(lambda: dispatcher.said[-1] == "goodbye")


async def test_stop_all_leaves_nothing(dispatcher, agent, tmp_path):
    await dispatcher.until(lambda: dispatcher.hellos)
    dispatcher.run("t1", "exec sleep 60")
    status = await dispatcher.until_state("t1", TASK_STATE_RUNNING)
    assert await agent.end(lambda: agent.say({"cmd": "stop_all"})) == 0
    assert agent.events[-1] == {"event": "stopped"}
    with pytest.raises(ProcessLookupError):
        os.kill(status.container.pid, 0)
    assert not list((tmp_path / "worker/runtime/process/tasks").iterdir())
    assert dispatcher.said[-1] == "goodbye"


async def test_a_published_port_leads_to_the_task(dispatcher, agent, tmp_path):
    await dispatcher.until(lambda: dispatcher.hellos)
    (tmp_path / "index.html").write_text("it works")
    published = 18080 + os.getpid() % 1000
    ports = EndpointSpec(ports=[PortConfig(target_port=80, published_port=published)])
    command = f"exec {sys.executable} -m http.server --bind 127.0.0.1 --directory {tmp_path} $PORT"
    dispatcher.run("t1", command, endpoint=ports)
    status = await dispatcher.until_state("t1", TASK_STATE_RUNNING)
    assert len(status.endpoints) == 1
    backend = IngressBackend(task_id="t1", endpoints=status.endpoints)
    service = IngressService(
        service_id="s-t1", service_name="web", ports=ports.ports, backends=[backend]
    )
    dispatcher.change(ingress=[service])

    async def get():
        reader, writer = await asyncio.open_connection("127.0.0.1", published)
        writer.write(b"GET /index.html HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    async with asyncio.timeout(20):
        while True:
            try:
                answer = await get()
                break
            except OSError:
                await asyncio.sleep(0.05)
    assert answer.endswith(b"it works")


async def test_role_renewal_and_managers(dispatcher, agent, tmp_path):
    dispatcher.role = NODE_ROLE_MANAGER
    await dispatcher.until(lambda: dispatcher.hellos)
    dispatcher.send(dispatcher._info())
    await agent.until_event("role")
    assert {"event": "role", "role": "manager"} in agent.events
    keys = NodeKeys(tmp_path)
    keys.save(bundle(dispatcher.root, Role.MANAGER), now=datetime.now(UTC))
    agent.say({"cmd": "renewed"})
    await agent.until_event("session", 2)
    assert [caller.role for caller in dispatcher.callers] == [Role.WORKER, Role.MANAGER]
    agent.say({"cmd": "managers", "addresses": ["127.0.0.1:1", dispatcher.address]})
    agent.say({"cmd": "dance"})
    dispatcher.run("t1", "exit 0")
    await dispatcher.until_state("t1", TASK_STATE_COMPLETE)


@pytest.fixture
async def fake(dispatcher, tmp_path):
    """An agent in this process, with a runtime in memory."""
    worker = bundle(dispatcher.root, Role.WORKER)
    runtime = FakeRuntime()
    database = Database(tmp_path / "agent.db")
    surroundings = Surroundings(
        node_id="n",
        runtime=runtime,
        database=database,
        open_channel=lambda address: manager_channel(address, worker),
        listen_host="127.0.0.1",
        advertise_host="127.0.0.1",
    )
    runtime.reports = []
    runtime.database = database
    agent = Agent(AgentCore("n", random.Random(1)), surroundings, runtime.reports.append)
    agent.deliver(
        Loaded(
            rows=database.load(),
            managers=[dispatcher.address],
            certificate_role=NODE_ROLE_WORKER,
            root_certificate_pem=dispatcher.root.certificate_pem,
            description=NodeDescription(),
            address="127.0.0.1",
        )
    )
    await dispatcher.until(lambda: dispatcher.hellos)
    yield runtime
    await agent.close()


async def test_refusals_failures_and_health_become_states(dispatcher, fake):
    fake.refusals["refused"] = RuntimeRefused("No such image: any", "image")
    fake.failures["failed"] = RuntimeFailed("the registry does not answer")
    checked = TaskSpec(container=ContainerSpec(health_check=HealthCheck(test=["CMD", "true"])))
    for name in ("refused", "failed", "ill", "well"):
        dispatcher.run(name, "true", task=checked)
    status = await dispatcher.until_state("refused", TASK_STATE_REJECTED)
    assert status.err == "No such image: any"
    status = await dispatcher.until_state("failed", TASK_STATE_FAILED)
    assert status.err == "the registry does not answer"
    await dispatcher.until(lambda: {"ill", "well"} <= fake.tasks.keys())
    for name, health in (("ill", HealthStatus.UNHEALTHY), ("well", HealthStatus.HEALTHY)):
        fake.set_health(name, health)
    await dispatcher.until_state("well", TASK_STATE_RUNNING)
    status = await dispatcher.until_state("ill", TASK_STATE_FAILED)
    assert status.err == "task: unhealthy container"
    assert ("stop", "ill") in fake.calls


async def test_a_defect_of_a_driver_fails_the_task_and_no_more(dispatcher, fake):
    fake.failures["broken"] = ZeroDivisionError("division by zero")
    dispatcher.run("broken", "true")
    status = await dispatcher.until_state("broken", TASK_STATE_FAILED)
    assert status.err == "ZeroDivisionError: division by zero"


async def test_preparing_what_nobody_wants_any_more_is_given_up(dispatcher, fake):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang(run):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    fake.prepare = hang
    dispatcher.run("t1", "true")
    await begun.wait()
    dispatcher.want("t1", TASK_STATE_SHUTDOWN)
    await dispatcher.until_state("t1", TASK_STATE_SHUTDOWN)
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_database_that_fails_is_told_and_tried_again(dispatcher, fake):
    save = fake.database.save

    def fail(*_):
        raise DatabaseError("agent.db: disk is full")

    fake.database.save = fail
    dispatcher.run("t1", "true")
    async with asyncio.timeout(5):
        while not any("disk is full" in getattr(r, "message", "") for r in fake.reports):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert fake.calls == []
    fake.database.save = save
    await dispatcher.until(lambda: "t1" in fake.tasks)


async def test_what_it_cannot_start_with_is_said_in_a_line(tmp_path):
    for config in ("not json", json.dumps({"state_dir": str(tmp_path)})):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "swarm.worker.main",
            "--config",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate(config.encode() + b"\n")
        assert process.returncode == 1
        assert errors.startswith(b"the agent cannot start: the agent's configuration")
        assert errors.count(b"\n") == 1
