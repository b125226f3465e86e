"""Stored objects as users see them: with what is computed when asked, without what is secret."""

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.control_pb2 import (
    REACHABILITY_REACHABLE,
    REACHABILITY_UNKNOWN,
    REACHABILITY_UNREACHABLE,
    ClusterView,
    ManagerView,
    NodeView,
    ServiceView,
    TaskView,
)
from swarm.api.v1.node_pb2 import (
    NODE_ROLE_MANAGER,
    Member,
    Node,
)
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.task_pb2 import TASK_STATE_COMPLETE, TASK_STATE_RUNNING, Task
from swarm.manager.core.manager import ManagerCore
from swarm.manager.core.modes import is_job
from swarm.manager.core.orchestrator.dependencies import in_words, unmet
from swarm.manager.core.store import SlotKey, View, slot_key
from swarm.manager.core.validate.registry_login import without_login


def node_view(node: Node, core: ManagerCore) -> NodeView:
    member = _member_of(core.store, node.id)
    if member is None:
        return NodeView(node=node)
    return NodeView(node=node, manager=manager_view(member, core))


def manager_view(member: Member, core: ManagerCore) -> ManagerView:
    """Reachability as the leader knows it; a follower knows of itself and the leader only."""
    reachable = core.reachable_members()
    if reachable is None:
        known = member.raft_id in (core.raft_id, core.leader)
        reachability = REACHABILITY_REACHABLE if known else REACHABILITY_UNKNOWN
    elif member.raft_id in reachable:
        reachability = REACHABILITY_REACHABLE
    else:
        reachability = REACHABILITY_UNREACHABLE
    return ManagerView(
        leader=member.raft_id == core.leader,
        reachability=reachability,
        address=member.join_address,
        learner=member.learner,
    )


def service_view(service: Service, view: View) -> ServiceView:
    answer = ServiceView(
        service=without_login(service),
        spec=view.spec(service.id, service.revision),
        running_tasks=sum(
            task.status.state == TASK_STATE_RUNNING and task.desired_state <= TASK_STATE_RUNNING
            for task in view.tasks_of_service(service.id)
        ),
    )
    if service.previous_revision:
        previous = view.spec(service.id, service.previous_revision)
        if previous is not None:
            answer.previous_spec.CopyFrom(previous)
    row = view.revision_row(service.id, service.revision)
    answer.spec_created_at_ns = row.meta.created_at_ns if row is not None else 0
    if is_job(answer.spec):
        answer.completed_tasks = len(_completions(service, view))
    if answer.spec.HasField("replicated"):
        answer.desired_tasks = answer.spec.replicated.replicas
    elif answer.spec.HasField("replicated_job"):
        answer.desired_tasks = answer.spec.replicated_job.max_concurrent
    else:
        # As Docker counts a global service: the tasks that are wanted now.
        answer.desired_tasks = sum(
            task.desired_state <= TASK_STATE_RUNNING for task in view.tasks_of_service(service.id)
        )
    if service.held:
        answer.waits_for.extend(map(in_words, unmet(view, answer.spec)))
    return answer


def _completions(service: Service, view: View) -> set[SlotKey]:
    """Slots of a job that are complete, each counted once."""
    return {
        slot_key(task)
        for task in view.tasks_of_service(service.id)
        if task.status.state == TASK_STATE_COMPLETE and task.revision == service.task_revision
    }


def task_view(task: Task, view: View) -> TaskView:
    answer = TaskView(task=task, spec=view.spec(task.service_id, task.revision))
    if not task.node_id and not task.status.err:
        # Why a group waits is stored once, with its service.
        service = view.service(task.service_id)
        if service is not None and service.pending.revision == task.revision:
            answer.task.status.err = service.pending.message
    return answer


def cluster_view(cluster: Cluster, core: ManagerCore) -> ClusterView:
    leader = core.store.member(core.leader)
    nodes = list(core.store.nodes())
    return ClusterView(
        cluster=without_secrets(cluster),
        managers=sum(node.role == NODE_ROLE_MANAGER for node in nodes),
        nodes=len(nodes),
        leader_node_id=leader.node_id if leader is not None else "",
    )


def without_secrets(cluster: Cluster) -> Cluster:
    public = Cluster()
    public.CopyFrom(cluster)
    public.ClearField("secrets")
    return public


def without_data(secret: Secret) -> Secret:
    public = Secret()
    public.CopyFrom(secret)
    public.spec.ClearField("data")
    return public


def _member_of(view: View, node_id: str) -> Member | None:
    members = [m for m in view.members() if m.node_id == node_id and not m.removed]
    return members[-1] if members else None
