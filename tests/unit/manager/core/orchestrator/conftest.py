"""A cluster of one manager's store and brain, and of obedient workers; time stands still."""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from swarm.api.v1.cluster_pb2 import Cluster, ClusterSpec
from swarm.api.v1.managers_pb2 import HeardNode
from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_STATE_READY,
    Node,
    NodeDescription,
    NodeSpec,
)
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.service_pb2 import (
    ContainerSpec,
    GlobalService,
    ReplicatedService,
    Service,
    ServiceRevision,
    ServiceSpec,
    TaskSpec,
)
from swarm.api.v1.store_pb2 import (
    TABLE_NODE,
    TABLE_SERVICE,
    VERDICT_OK,
    Change,
    LogPayload,
    TaskStatusChange,
    Transaction,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
    TaskStatus,
)
from swarm.api.v1.types_pb2 import Annotations, Resources
from swarm.manager.core.allocator.revision import next_revision
from swarm.manager.core.brain import Brain, BrainOutput
from swarm.manager.core.raft import Role, Status
from swarm.manager.core.store import Draft, RandomIds, Store, ended, wanted
from swarm.manager.core.validate import service as validate

GIB = 1 << 30
CPU = 1_000_000_000
SECOND = 1_000_000_000


class SmallCluster:
    """Verbs for scenarios. Names stand for ids: node "a", service "web"."""

    def __init__(self, seed: int = 1, **brain_limits: int) -> None:
        self.store = Store(check_mutation=True)
        self.ids = RandomIds(random.Random(seed).getrandbits)
        self.brain_limits = brain_limits
        self.index = 0
        self.term = 1
        self.now = 1_000.0
        # By how much the clock was set.
        self.clock_set_s = 0.0
        self.silent: set[str] = set()
        self.notices: list[str] = []
        self.largest_proposal = 0
        # A slow Raft: proposals are in flight until `deliver` or `drop`.
        self.slow = False
        self.in_flight: list[list[Transaction]] = []
        self.propose(
            lambda draft: draft.create(
                Cluster(id="cluster", spec=ClusterSpec(task_history_limit=5))
            )
        )
        self.fail_over()

    # Time and the log

    @property
    def now_ns(self) -> int:
        return int((self.now + self.clock_set_s) * SECOND) + 1_700_000_000 * SECOND

    def fail_over(self) -> None:
        """Another manager leads; it knows the store alone."""
        self.term += 1
        self.slow, self.in_flight = False, []
        self.brain = Brain(self.ids, self._raft_status, **self.brain_limits)
        self.brain.start(self.store, self.term, self.now)

    def _raft_status(self) -> Status:
        return Status(1, Role.LEADER, self.term, 1, 1, 0, 9, 9, 9, ConfState(voters=[1]), {})

    def apply(self, transactions: list[Transaction], only_in_term: int = 0):
        self.index += 1
        payload = LogPayload(
            proposed_at_ns=self.now_ns, only_in_term=only_in_term, transactions=transactions
        )
        return self.store.apply(self.index, self.term, payload)

    def propose(self, write: Callable[[Draft], None]) -> None:
        """A user's change."""
        draft = Draft(self.store)
        write(draft)
        applied = self.apply(draft.transactions("user"))
        assert [v.code for v in applied.verdicts] == [VERDICT_OK] * len(applied.verdicts)
        if hasattr(self, "brain"):
            self.commit(self.handle(applied.changes))

    def handle(self, changes=()) -> BrainOutput:
        output = self.brain.handle(changes, self.store, self.now, self.now_ns)
        self.notices += output.notices
        return output

    def commit(self, output: BrainOutput) -> int:
        """Apply what the brain wants and feed it the changes, until it wants no more now."""
        proposals = 0
        if self.slow and output.proposals:
            self.in_flight += output.proposals
            return 0
        while output.proposals or output.next_wakeup == self.now:
            entries = output.proposals
            output = BrainOutput()
            for transactions in entries:
                proposals += 1
                changes = sum(len(t.changes) for t in transactions)
                self.largest_proposal = max(self.largest_proposal, changes)
                applied = self.apply(transactions, self.term)
                self.brain.settled(transactions, applied.verdicts, self.store)
                output = self.handle(applied.changes)
            if not entries:
                output = self.handle()
            assert proposals < 10_000, "the brain does not come to rest"
        return proposals

    def deliver(self) -> None:
        """What is in flight is applied, after everything that came meanwhile."""
        self.slow = False
        entries, self.in_flight = self.in_flight, []
        for transactions in entries:
            applied = self.apply(transactions, self.term)
            self.brain.settled(transactions, applied.verdicts, self.store)
            self.commit(self.handle(applied.changes))
        self.run()

    def drop(self) -> None:
        """What is in flight never takes effect."""
        self.slow = False
        entries, self.in_flight = self.in_flight, []
        for transactions in entries:
            self.brain.settled(transactions, None, self.store)
        self.run()

    def run(self) -> int:
        """Let the brain decide until it is quiet. Returns how much it proposed."""
        return self.commit(self.handle())

    def pass_time(self, seconds: float) -> None:
        """Heartbeats go on, timers fire, workers obey."""
        end = self.now + seconds
        while self.now < end:
            for node in self.store.nodes():
                if node.id not in self.silent:
                    self.brain.heard(HeardNode(node_id=node.id), self.now)
            self.obey()
            self.now = min(end, self.now + 0.5)
        self.obey()

    # Nodes

    def add_node(self, name: str, cpus: float = 4, memory: int = 8 * GIB, **labels: str) -> None:
        spec = NodeSpec(
            annotations=Annotations(labels=labels), availability=NODE_AVAILABILITY_ACTIVE
        )
        resources = Resources(nano_cpus=int(cpus * CPU), memory_bytes=memory)
        description = NodeDescription(hostname=name, resources=resources)
        node = Node(id=name, spec=spec, description=description)
        self.propose(lambda draft: draft.create(node))
        self.revive(name)

    def revive(self, name: str) -> None:
        self.silent.discard(name)
        self.brain.heard(HeardNode(node_id=name), self.now)
        self.run()
        assert self.slow or self.store.node(name).status.state == NODE_STATE_READY

    def say_goodbye(self, name: str) -> None:
        self.silent.add(name)
        self.brain.heard(HeardNode(node_id=name, goodbye=True), self.now)
        self.run()

    def change_node(self, name: str, change: Callable[[Node], None]) -> None:
        node = Node()
        node.CopyFrom(self.store.node(name))
        change(node)
        self.propose(lambda draft: draft.replace(node))

    def set_availability(self, name: str, availability) -> None:
        self.change_node(name, lambda node: setattr(node.spec, "availability", availability))

    def remove_node(self, name: str) -> None:
        self.silent.discard(name)
        self.propose(lambda draft: draft.delete(TABLE_NODE, name))

    # Services

    @staticmethod
    def spec(replicas: int | None = 1, image: str = "nginx", **task) -> ServiceSpec:
        """With replicas=None a global one."""
        spec = ServiceSpec(task=TaskSpec(container=ContainerSpec(image=image), **task))
        if replicas is None:
            spec.__getattribute__("global").CopyFrom(GlobalService())
        else:
            spec.replicated.CopyFrom(ReplicatedService(replicas=replicas))
        return spec

    def create_service(self, key: str, spec: ServiceSpec, ports=(), name: str = "") -> None:
        def write(draft: Draft) -> None:
            with draft.group("service"):
                draft.create(
                    Service(id=key, name=name or key, revision=1, task_revision=1, ports=ports)
                )
                draft.create(_revision(key, 1, spec))

        self.propose(write)

    def update_service(self, name: str, spec: ServiceSpec) -> None:
        service, row = next_revision(self.store, self.store.service(name), spec, "user")
        self._write_service(service, row)

    def roll_back(self, name: str) -> None:
        """What `service rollback` asks for."""
        version = self.store.service(name).meta.version
        (transaction,) = [validate.rollback(self.store, name, version, self.now_ns, "user")]
        applied = self.apply([transaction])
        assert applied.verdicts[0].code == VERDICT_OK
        self.commit(self.handle(applied.changes))

    def resume(self, name: str) -> None:
        """An update with nothing new in it."""
        service = Service()
        service.CopyFrom(self.store.service(name))
        service.ClearField("update")
        self._write_service(service)

    def _write_service(self, service: Service, row: ServiceRevision | None = None) -> None:
        def write(draft: Draft) -> None:
            with draft.group("service"):
                draft.replace(service)
                if row is not None:
                    draft.create(row)

        self.propose(write)

    def scale(self, name: str, replicas: int) -> None:
        spec = ServiceSpec()
        spec.CopyFrom(self.store.spec(name, self.store.service(name).revision))
        spec.replicated.replicas = replicas
        self.update_service(name, spec)

    def remove_service(self, name: str) -> None:
        self.propose(lambda draft: draft.delete(TABLE_SERVICE, name))

    # Workers

    def report(self, task: Task, state: int, at_ns: int | None = None) -> None:
        status = TaskStatus(state=state, timestamp_ns=at_ns or self.now_ns)
        change = TaskStatusChange(task_id=task.id, status=status)
        applied = self.apply([Transaction(changes=[Change(task_status=change)])])
        self.commit(self.handle(applied.changes))

    def obey(self, most: int = 10_000) -> int:
        """Workers that are not silent do what is asked, until there is nothing to do."""
        self.run()
        done = 0
        while done < most:
            tasks = [task for task in self.store.tasks() if self._next_state(task)]
            if not tasks:
                return done
            for task in tasks[: most - done]:
                task = self.store.task(task.id)
                state = self._next_state(task) if task is not None else None
                if state:
                    self.report(task, state)
                done += 1
        return done

    def _next_state(self, task: Task) -> int | None:
        on_worker = task.status.state >= TASK_STATE_ASSIGNED and not ended(task)
        if not on_worker or task.node_id in self.silent or not self.store.node(task.node_id):
            return None
        if task.desired_state == TASK_STATE_RUNNING and task.status.state < TASK_STATE_RUNNING:
            return TASK_STATE_RUNNING
        return TASK_STATE_SHUTDOWN if task.desired_state >= TASK_STATE_SHUTDOWN else None

    # What is seen

    def tasks(self, service: str) -> list[Task]:
        return list(self.store.tasks_of_service(service))

    def live(self, service: str) -> list[Task]:
        return [task for task in self.tasks(service) if wanted(task)]

    def running(self, service: str) -> list[Task]:
        return [t for t in self.live(service) if t.status.state == TASK_STATE_RUNNING]

    def spread(self, service: str) -> dict[str, int]:
        return dict(sorted(Counter(task.node_id for task in self.live(service)).items()))

    def pending(self, service: str) -> str:
        return self.store.service(service).pending.message


def _revision(service_id: str, number: int, spec: ServiceSpec) -> ServiceRevision:
    return ServiceRevision(
        id=f"{service_id}.{number}", service_id=service_id, revision=number, spec=spec, who="user"
    )


@pytest.fixture(scope="session")
def new_cluster() -> type[SmallCluster]:
    return SmallCluster


@pytest.fixture
def cluster() -> SmallCluster:
    """Three nodes: a, b, c."""
    small = SmallCluster()
    for name in "abc":
        small.add_node(name)
    return small
