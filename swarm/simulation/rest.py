"""When the cluster is at rest: what is wanted runs, what is not wanted is gone, nobody lags, and
nothing more is proposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_ROLE_MANAGER,
    NODE_STATE_READY,
)
from swarm.api.v1.service_pb2 import Service, ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.manager.core.modes import is_job
from swarm.manager.core.orchestrator.update_status import is_paused
from swarm.manager.core.scheduler.constraint import matches, parse_all
from swarm.manager.core.store import Store, ended
from swarm.manager.core.store.objects import wanted
from swarm.simulation.invariants import files
from swarm.simulation.jobs import job_problem, open_nodes
from swarm.simulation.updates import end_problem
from swarm.simulation.words import short, state

if TYPE_CHECKING:
    from swarm.simulation.cluster import Cluster
    from swarm.simulation.manager_host import ManagerHost


def unrest(cluster: Cluster) -> str | None:
    """What is not as it shall be; None when all is."""
    leader = cluster.leader()
    if leader is None:
        return "there is no leader"
    return _managers(cluster, leader) or _tasks(cluster, leader.store)


def _managers(cluster: Cluster, leader: ManagerHost) -> str | None:
    assert leader.core is not None, "it leads"
    applied = leader.core.consensus.applied_index
    store = leader.store
    for host in cluster.managers():
        assert host.core is not None, "it runs"
        if host.core.leader != leader.raft_id:
            return f"{host.name} takes {host.core.leader} for the leader"
        if host.core.consensus.applied_index != applied:
            return f"{host.name} has applied {host.core.consensus.applied_index} of {applied}"
    members = {m.node_id: m for m in store.members() if not m.removed}
    for node in store.nodes():
        if node.status.state != NODE_STATE_READY:
            return f"node {node.id} is not ready"
        if node.role != node.spec.role:
            return f"node {node.id} has not the role it shall have"
        if node.description != cluster.machines[node.id].description:
            return f"node {node.id} is not described as it is"
        member, machine = members.get(node.id), cluster.machines[node.id]
        if (member is not None) != (node.role == NODE_ROLE_MANAGER):
            return f"node {node.id} is a manager or a member, not both"
        if member is not None and (member.learner or machine.manager is None):
            return f"member {node.id} does not take part yet"
        if member is None and machine.manager is not None:
            return f"{node.id} runs a manager that is no member"
    return None


def _tasks(cluster: Cluster, store: Store) -> str | None:
    for service in store.services():
        spec = store.spec(service.id, service.revision)
        assert spec is not None, "a current revision"
        if problem := _service(service, spec, store):
            return problem
    for task in store.tasks():
        if not wanted(task) and not ended(task):
            return f"task {short(task.id)} is not stopped: {state(task.status.state)}"
        if store.service(task.service_id) is None:
            return f"task {short(task.id)} outlives its service"
    return _machines(cluster, store)


def _service(service: Service, spec: ServiceSpec, store: Store) -> str | None:
    if problem := end_problem(service, spec):
        return f"service {service.name} {problem}"
    if is_job(spec):
        problem = job_problem(service, spec, store)
        return f"job {service.name} {problem}" if problem else None
    running: dict[tuple[int, str], Task] = {}
    for task in store.tasks_of_service(service.id):
        if not wanted(task):
            continue
        name = f"task {short(task.id)} of {service.name}"
        if task.status.state != TASK_STATE_RUNNING or task.desired_state != TASK_STATE_RUNNING:
            return f"{name} is {state(task.desired_state)}<-{state(task.status.state)}"
        if task.revision != service.task_revision and not is_paused(service):
            return f"{name} runs revision {task.revision}, not {service.task_revision}"
        node = store.node(task.node_id)
        if node is None or node.spec.availability != NODE_AVAILABILITY_ACTIVE:
            return f"{name} is on {task.node_id}, which is drained"
        if not matches(parse_all(spec.task.placement.constraints), node) and not is_paused(service):
            return f"{name} is on {task.node_id}, against its constraints"
        slot = (task.slot, task.node_id if not task.slot else "")
        if slot in running:
            return f"{name} shares its slot"
        running[slot] = task
    is_global = spec.WhichOneof("mode") == "global"
    expected = len(open_nodes(store)) if is_global else spec.replicated.replicas
    if len(running) != expected:
        return f"service {service.name} has {len(running)} of {expected} tasks"
    return None


def _machines(cluster: Cluster, store: Store) -> str | None:
    """Containers that run are those of tasks that run; agents hold what is assigned."""
    for name, machine in cluster.machines.items():
        shall = sorted(
            t.id for t in store.tasks_of_node(name) if t.status.state == TASK_STATE_RUNNING
        )
        running = sorted(machine.containers.running())
        if running != shall:
            return f"{name} runs {list(map(short, running))}, shall run {list(map(short, shall))}"
        assert machine.agent.core is not None, "it was started"
        if not machine.agent.connected:
            return f"the agent on {name} has no session"
        assigned = {task.id for task in store.tasks_of_node(name)}
        surplus = [t for t in machine.agent.core.tasks if t not in assigned]
        surplus += [t for t in machine.containers.by_task if t not in assigned]
        if surplus:
            return f"{name} holds {short(surplus[0])}, which is not assigned"
        if problem := files.surplus(name, machine.agent.core, store):
            return problem
    return None
