"""A manager for the client's tests: real gRPC on unix sockets, over a small store in memory.

Several sockets may serve one store, as the managers of one cluster do.
"""

import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarm.api.v1 import cluster_pb2, control_pb2, daemon_pb2, node_pb2, service_pb2, task_pb2
from swarm.api.v1.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from swarm.api.v1.daemon_pb2_grpc import DaemonServicer, add_DaemonServicer_to_server
from swarm.api.v1.store_pb2 import Object
from swarm.api.v1.types_pb2 import Meta, Platform, PortConfig, Resources

NS = 1_000_000_000
CODES = grpc.StatusCode


@dataclass
class Cluster:
    """What the managers agreed on. `place` is the brain: what becomes of a service's tasks."""

    nodes: dict[str, control_pb2.NodeView] = field(default_factory=dict)
    previous: dict[str, service_pb2.ServiceSpec] = field(default_factory=dict)
    services: dict[str, service_pb2.Service] = field(default_factory=dict)
    specs: dict[str, service_pb2.ServiceSpec] = field(default_factory=dict)
    history: dict[str, list[service_pb2.ServiceRevision]] = field(default_factory=dict)
    plan: control_pb2.PlanResponse = field(default_factory=control_pb2.PlanResponse)
    explanation: control_pb2.ExplainResponse = field(default_factory=control_pb2.ExplainResponse)
    event_answers: list[control_pb2.EventsResponse] = field(default_factory=list)
    tasks: dict[str, task_pb2.Task] = field(default_factory=dict)
    cluster: cluster_pb2.Cluster = field(default_factory=cluster_pb2.Cluster)
    answers: dict[str, Any] = field(default_factory=dict)
    request_ids: list[str] = field(default_factory=list)
    log_requests: list[control_pb2.ServiceLogsRequest] = field(default_factory=list)
    log_answers: list[control_pb2.ServiceLogsResponse] = field(default_factory=list)
    revision: int = 10
    place: Callable[["Cluster", str], None] | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def bump(self, meta: Meta) -> None:
        with self.changed:
            self.revision += 1
            meta.version = self.revision
            meta.created_at_ns = meta.created_at_ns or time.time_ns()
            meta.updated_at_ns = time.time_ns()
            self.changed.notify_all()

    def add_node(self, node_id: str, hostname: str, leader: bool | None = None) -> None:
        """`leader` None: a worker."""
        role = node_pb2.NODE_ROLE_WORKER if leader is None else node_pb2.NODE_ROLE_MANAGER
        node = node_pb2.Node(
            id=node_id,
            spec=node_pb2.NodeSpec(role=role),
            role=role,
            status=node_pb2.NodeStatus(state=node_pb2.NODE_STATE_READY, address="127.0.0.1"),
            description=node_pb2.NodeDescription(
                hostname=hostname,
                platform=Platform(architecture="x86_64", os="linux"),
                resources=Resources(nano_cpus=2 * NS, memory_bytes=1 << 30),
                engine=node_pb2.EngineDescription(engine_version="1.0", runtime="process"),
            ),
        )
        self.bump(node.meta)
        view = control_pb2.NodeView(node=node)
        if leader is not None:
            view.manager.leader = leader
            view.manager.reachability = control_pb2.REACHABILITY_REACHABLE
            view.manager.address = f"{hostname}:2377"
        self.nodes[node_id] = view

    def add_task(
        self,
        service: service_pb2.Service,
        slot: int,
        node_id: str = "",
        state: int = task_pb2.TASK_STATE_RUNNING,
        desired: int = task_pb2.TASK_STATE_RUNNING,
        **status: str,
    ) -> task_pb2.Task:
        task = task_pb2.Task(
            id=f"task{len(self.tasks):021d}",
            service_id=service.id,
            service_name=service.name,
            slot=slot,
            node_id=node_id,
            revision=service.task_revision,
            desired_state=desired,  # type: ignore[arg-type]
            status=task_pb2.TaskStatus(
                state=state,  # type: ignore[arg-type]
                timestamp_ns=time.time_ns() - 5 * NS,
                **status,
            ),
        )
        task.meta.created_at_ns = time.time_ns() + len(self.tasks)
        self.tasks[task.id] = task
        self.bump(task.meta)
        return task

    def run_all(self, service_id: str) -> None:
        """The usual brain: as many tasks as are wanted, running."""
        service, spec = self.services[service_id], self.specs[service_id]
        slots = spec.replicated.replicas if spec.HasField("replicated") else 0
        wanted = {(slot, "m1") for slot in range(1, slots + 1)}
        if spec.HasField("global"):
            wanted = {(0, node_id) for node_id in self.nodes}
        for task in self.tasks.values():
            if task.service_id != service_id or task.desired_state > task_pb2.TASK_STATE_RUNNING:
                continue
            key = (task.slot, task.node_id)
            if task.revision == service.task_revision and key in wanted:
                wanted.remove(key)
            else:
                task.desired_state = task_pb2.TASK_STATE_SHUTDOWN
        for slot, node_id in sorted(wanted):
            self.add_task(service, slot, node_id)

    def settle(self, service_id: str) -> None:
        (self.place or Cluster.run_all)(self, service_id)

    def create(self, spec: service_pb2.ServiceSpec) -> service_pb2.Service:
        service_id = f"svc{len(self.services):022d}"
        name = spec.annotations.name
        service = service_pb2.Service(id=service_id, name=name, revision=1, task_revision=1)
        ports = itertools.count(30000)
        for port in spec.endpoint.ports:
            full = PortConfig()
            full.CopyFrom(port)
            full.published_port = port.published_port or next(ports)
            service.ports.append(full)
        self.services[service_id] = service
        self.specs[service_id] = spec
        self.bump(service.meta)
        self.settle(service_id)
        return service


class Manager(ControlServicer, DaemonServicer):
    """One socket of the cluster. `refuse` makes it unable, `lose_answers` makes it act and not
    answer, `foreign` makes it a worker's."""

    def __init__(self, cluster: Cluster, socket: Path | None, node_id: str) -> None:
        self.cluster = cluster
        self.host = f"unix://{socket}"
        self.node_id = node_id
        self.refuse = ""
        self.foreign = False
        self.lose_answers = 0
        self.calls: list[str] = []
        self.requests: list[Any] = []
        self.info = daemon_pb2.InfoResponse(
            state=daemon_pb2.LOCAL_NODE_STATE_ACTIVE,
            node_id=node_id,
            role=node_pb2.NODE_ROLE_MANAGER,
            hostname="m1",
            version="0.1.0",
            runtime="process",
            node_address="127.0.0.1",
        )
        self.executor = ThreadPoolExecutor(16)
        self.server = grpc.server(self.executor)
        add_ControlServicer_to_server(self, self.server)
        add_DaemonServicer_to_server(self, self.server)
        if socket is not None:
            self.server.add_insecure_port(f"unix:{socket}")
            self.server.start()
        self.stopped = threading.Event()

    def stop(self) -> None:
        """As if killed: connections drop, nothing answers."""
        self.stopped.set()
        with self.cluster.changed:
            self.cluster.changed.notify_all()
        self.server.stop(0).wait()
        self.executor.shutdown(wait=True)

    def _enter(self, name: str, request: Any, context: grpc.ServicerContext) -> None:
        self.calls.append(name)
        self.requests.append(request)
        if self.refuse:
            context.abort(CODES.UNAVAILABLE, self.refuse)
        if self.foreign:
            context.abort(CODES.FAILED_PRECONDITION, "This node is not a swarm manager: ask one")

    def _once(self, request: Any, context: grpc.ServicerContext, act: Callable[[], Any]) -> Any:
        """Perform a change once per request id, and lose the answer where that is asked for."""
        self.cluster.request_ids.append(request.request_id)
        if request.request_id not in self.cluster.answers:
            self.cluster.answers[request.request_id] = act()
        if self.lose_answers:
            self.lose_answers -= 1
            context.abort(CODES.UNAVAILABLE, "leadership was lost")
        return self.cluster.answers[request.request_id]

    def _find(self, noun: str, table: Any, reference: str, context: Any, names: Any) -> str:
        for key in table:
            if reference in (key, names(table[key])) or key.startswith(reference):
                return key
        return context.abort(CODES.NOT_FOUND, f"{noun} {reference} not found")

    def _service(self, reference: str, context: Any) -> str:
        return self._find(
            "service", self.cluster.services, reference, context, lambda service: service.name
        )

    def _service_view(self, service_id: str) -> control_pb2.ServiceView:
        spec = self.cluster.specs[service_id]
        tasks = [t for t in self.cluster.tasks.values() if t.service_id == service_id]
        wanted = [t for t in tasks if t.desired_state <= task_pb2.TASK_STATE_RUNNING]
        is_replicated = spec.HasField("replicated")
        done = {t.slot for t in tasks if t.status.state == task_pb2.TASK_STATE_COMPLETE}
        if spec.HasField("replicated_job"):
            desired = spec.replicated_job.max_concurrent
        else:
            desired = spec.replicated.replicas if is_replicated else len(wanted)
        return control_pb2.ServiceView(
            service=self.cluster.services[service_id],
            spec=spec,
            running_tasks=sum(t.status.state == task_pb2.TASK_STATE_RUNNING for t in wanted),
            desired_tasks=desired,
            completed_tasks=len(done),
        )

    def GetCluster(self, request: Any, context: Any) -> Any:
        self._enter("GetCluster", request, context)
        view = control_pb2.ClusterView(cluster=self.cluster.cluster, managers=1, nodes=2)
        return control_pb2.GetClusterResponse(cluster=view)

    def UpdateCluster(self, request: Any, context: Any) -> Any:
        self._enter("UpdateCluster", request, context)
        if request.version != self.cluster.cluster.meta.version:
            context.abort(CODES.ABORTED, "update out of sequence")
        self.cluster.cluster.spec.CopyFrom(request.spec)
        self.cluster.bump(self.cluster.cluster.meta)
        return control_pb2.UpdateClusterResponse()

    def JoinTokens(self, request: Any, context: Any) -> Any:
        self._enter("JoinTokens", request, context)
        worker = "SWMTKN-1-d-new" if request.rotate_worker else "SWMTKN-1-d-w"
        return control_pb2.JoinTokensResponse(
            worker=worker, manager="SWMTKN-1-d-m", join_addresses=["10.0.0.1:2377"]
        )

    def GetNode(self, request: Any, context: Any) -> Any:
        self._enter("GetNode", request, context)
        reference = self.node_id if request.reference == "self" else request.reference
        key = self._find(
            "node",
            self.cluster.nodes,
            reference,
            context,
            lambda view: view.node.description.hostname,
        )
        return control_pb2.GetNodeResponse(node=self.cluster.nodes[key])

    def ListNodes(self, request: Any, context: Any) -> Any:
        self._enter("ListNodes", request, context)
        return control_pb2.ListNodesResponse(nodes=self.cluster.nodes.values())

    def UpdateNode(self, request: Any, context: Any) -> Any:
        self._enter("UpdateNode", request, context)
        view = self.cluster.nodes[request.node_id]
        if request.version != view.node.meta.version:
            context.abort(CODES.ABORTED, "update out of sequence")
        view.node.spec.CopyFrom(request.spec)
        self.cluster.bump(view.node.meta)
        return control_pb2.UpdateNodeResponse(node=view)

    def RemoveNode(self, request: Any, context: Any) -> Any:
        self._enter("RemoveNode", request, context)
        key = self._find(
            "node",
            self.cluster.nodes,
            request.reference,
            context,
            lambda view: view.node.description.hostname,
        )
        if not request.force:
            context.abort(CODES.FAILED_PRECONDITION, f"node {key} is not down: use --force")
        del self.cluster.nodes[key]
        return control_pb2.RemoveNodeResponse(node_id=key)

    def CreateService(self, request: Any, context: Any) -> Any:
        self._enter("CreateService", request, context)
        name = request.spec.annotations.name
        known = request.request_id in self.cluster.answers
        if not known and name in (service.name for service in self.cluster.services.values()):
            context.abort(CODES.ALREADY_EXISTS, f"service {name} already exists")

        def act() -> control_pb2.CreateServiceResponse:
            service = self.cluster.create(request.spec)
            return control_pb2.CreateServiceResponse(service=self._service_view(service.id))

        return self._once(request, context, act)

    def GetService(self, request: Any, context: Any) -> Any:
        self._enter("GetService", request, context)
        found = self._service(request.reference, context)
        return control_pb2.GetServiceResponse(service=self._service_view(found))

    def ListServices(self, request: Any, context: Any) -> Any:
        self._enter("ListServices", request, context)
        views = [self._service_view(key) for key in self.cluster.services]
        return control_pb2.ListServicesResponse(services=views)

    def UpdateService(self, request: Any, context: Any) -> Any:
        self._enter("UpdateService", request, context)
        service = self.cluster.services[request.service_id]
        known = request.request_id in self.cluster.answers
        if not known and request.version != service.meta.version:
            context.abort(CODES.ABORTED, "update out of sequence")

        def act() -> control_pb2.UpdateServiceResponse:
            if request.rollback:
                request.spec.CopyFrom(self.cluster.previous[service.id])
            self.cluster.previous[service.id] = self.cluster.specs[service.id]
            if self.cluster.specs[service.id].task != request.spec.task:
                service.task_revision = service.revision + 1
            service.revision += 1
            self.cluster.specs[service.id] = request.spec
            self.cluster.bump(service.meta)
            self.cluster.settle(service.id)
            return control_pb2.UpdateServiceResponse(service=self._service_view(service.id))

        return self._once(request, context, act)

    def Plan(self, request: Any, context: Any) -> Any:
        self._enter("Plan", request, context)
        return self.cluster.plan

    def Explain(self, request: Any, context: Any) -> Any:
        self._enter("Explain", request, context)
        return self.cluster.explanation

    def Events(self, request: Any, context: Any) -> Any:
        self._enter("Events", request, context)
        yield from self.cluster.event_answers

    def ServiceHistory(self, request: Any, context: Any) -> Any:
        self._enter("ServiceHistory", request, context)
        found = self.cluster.services[self._service(request.reference, context)]
        return control_pb2.ServiceHistoryResponse(
            service=found, revisions=self.cluster.history.get(found.id, [])
        )

    def RemoveService(self, request: Any, context: Any) -> Any:
        self._enter("RemoveService", request, context)
        if request.request_id in self.cluster.answers:
            return self._once(request, context, control_pb2.RemoveServiceResponse)
        found = self._service(request.reference, context)

        def act() -> control_pb2.RemoveServiceResponse:
            del self.cluster.services[found]
            return control_pb2.RemoveServiceResponse(service_id=found)

        return self._once(request, context, act)

    def _task_view(self, task: task_pb2.Task) -> control_pb2.TaskView:
        return control_pb2.TaskView(task=task, spec=self.cluster.specs[task.service_id])

    def GetTask(self, request: Any, context: Any) -> Any:
        self._enter("GetTask", request, context)
        key = self._find("task", self.cluster.tasks, request.reference, context, lambda task: "")
        return control_pb2.GetTaskResponse(task=self._task_view(self.cluster.tasks[key]))

    def ListTasks(self, request: Any, context: Any) -> Any:
        self._enter("ListTasks", request, context)
        chosen = [
            self._task_view(task)
            for task in list(self.cluster.tasks.values())
            if (not request.service_ids or task.service_id in request.service_ids)
            and (not request.node_ids or task.node_id in request.node_ids)
        ]
        return control_pb2.ListTasksResponse(tasks=chosen)

    def ServiceLogs(self, request: Any, context: Any) -> Iterator[Any]:
        self._enter("ServiceLogs", request, context)
        self.cluster.log_requests.append(request)
        lost = self.lose_answers
        yield from self.cluster.log_answers[: lost or None]
        if lost:
            self.lose_answers = 0
            context.abort(CODES.UNAVAILABLE, "shutting down")

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:
        self._enter("Watch", request, context)
        revision = self.cluster.revision
        yield control_pb2.WatchResponse(revision=revision, current=True)
        context.add_callback(self._wake)
        while self._news(context, revision):
            revision = self.cluster.revision
            event = control_pb2.WatchEvent(object=Object())
            yield control_pb2.WatchResponse(revision=revision, events=[event])
        if self.stopped.is_set():
            context.abort(CODES.UNAVAILABLE, "shutting down")

    def _news(self, context: Any, revision: int) -> bool:
        """Wait for a newer revision; False: the manager or the client is gone."""
        with self.cluster.changed:
            self.cluster.changed.wait_for(
                lambda: (
                    self.cluster.revision != revision
                    or self.stopped.is_set()
                    or not context.is_active()
                )
            )
        return context.is_active() and not self.stopped.is_set()

    def _wake(self) -> None:
        with self.cluster.changed:
            self.cluster.changed.notify_all()

    def Info(self, request: Any, context: Any) -> Any:
        self.calls.append("Info")
        return self.info

    def Init(self, request: Any, context: Any) -> Any:
        self.calls.append("Init")
        self.requests.append(request)
        if self.refuse:
            context.abort(CODES.FAILED_PRECONDITION, self.refuse)
        return daemon_pb2.InitResponse(
            node_id="m1", worker_token="SWMTKN-1-d-w", join_address="10.0.0.1:2377"
        )

    def Join(self, request: Any, context: Any) -> Any:
        self.calls.append("Join")
        self.requests.append(request)
        role = node_pb2.NODE_ROLE_MANAGER if "m" in request.token else node_pb2.NODE_ROLE_WORKER
        return daemon_pb2.JoinResponse(node_id="w1", role=role)

    def Leave(self, request: Any, context: Any) -> Any:
        self.calls.append("Leave")
        if not request.force:
            context.abort(CODES.FAILED_PRECONDITION, "this is the last manager: use --force")
        return daemon_pb2.LeaveResponse()


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder with a short path: a unix socket's has at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ctl"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cluster() -> Cluster:
    state = Cluster()
    state.add_node("m1", "alpha", leader=True)
    state.add_node("w1", "beta")
    state.cluster.id = "cluster1"
    state.cluster.meta.version = 3
    state.cluster.spec.task_history_limit = 5
    return state


@pytest.fixture
def start(sockets: Path, cluster: Cluster) -> Iterator[Callable[[], Manager]]:
    """Starts one more manager of the cluster."""
    started: list[Manager] = []

    def start_one() -> Manager:
        number = len(started) + 1
        started.append(Manager(cluster, sockets / f"{number}.sock", "m1"))
        return started[-1]

    yield start_one
    for manager in started:
        if not manager.stopped.is_set():
            manager.stop()


@pytest.fixture
def manager_class() -> type[Manager]:
    """For a manager whose listener the test makes itself."""
    return Manager


@pytest.fixture
def manager(start: Callable[[], Manager], monkeypatch: pytest.MonkeyPatch) -> Manager:
    """The manager that swarmctl finds without being told."""
    only = start()
    monkeypatch.setenv("SWARM_HOST", only.host)
    return only


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def swarmctl(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs a command line in this process."""
    from swarm.cli.main import main

    def run(*words: str) -> Result:
        capfd.readouterr()
        code = main(words)
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run
