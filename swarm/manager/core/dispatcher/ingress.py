"""The ingress table: which running tasks are behind each service's published ports and names.

Computed once per change and shared by all sessions.
"""

from __future__ import annotations

from collections.abc import Iterator

from swarm.api.v1.dispatcher_pb2 import IngressBackend, IngressService
from swarm.api.v1.node_pb2 import NODE_STATE_DOWN, Node
from swarm.api.v1.service_pb2 import ENDPOINT_MODE_DNSRR, Service
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.api.v1.types_pb2 import PUBLISH_MODE_INGRESS, PortConfig
from swarm.manager.core.store import StoreChange, View
from swarm.stacks import short_name, stack_of


class IngressTable:
    """Entries are numbered as they change, so that a session knows what it has not got."""

    def __init__(self) -> None:
        self._dirty: dict[str, None] = {}
        # Oldest change first. An entry without ports and names: the service has none any more.
        self._entries: dict[str, tuple[int, IngressService]] = {}
        self.number = 0

    def start(self, view: View) -> None:
        """Begin from a store: every service is looked at."""
        self._entries.clear()
        self._dirty = {
            service.id: None for service in view.services() if _is_reached(service, view)
        }

    def changed(self, change: StoreChange, view: View) -> None:
        """Note which services a store change concerns."""
        row = change.new if change.new is not None else change.old
        if isinstance(row, Task):
            if not _same_backend(change.old, change.new):
                self._note(row.service_id, view)
        elif isinstance(row, Service):
            self._note(row.id, view)
        elif isinstance(row, Node) and _is_down(change.old) != _is_down(change.new):
            for task in view.tasks_of_node(row.id):
                self._note(task.service_id, view)

    def refresh(self, view: View) -> None:
        """Work out the entries that may have changed."""
        for service_id in self._dirty:
            entry = _entry(service_id, view)
            old = self._entries.get(service_id)
            if old is None and not (entry.ports or entry.names):
                continue
            if old is None or old[1] != entry:
                self.number += 1
                self._entries.pop(service_id, None)
                self._entries[service_id] = (self.number, entry)
        self._dirty.clear()

    def since(self, number: int) -> Iterator[IngressService]:
        """Entries that changed after `number`, newest first; after 0: those of use to somebody."""
        for changed_at, entry in reversed(self._entries.values()):
            if changed_at <= number:
                return
            if number or entry.ports or entry.names:
                yield entry

    @property
    def dirty(self) -> bool:
        """Is `refresh` to be called?"""
        return bool(self._dirty)

    def _note(self, service_id: str, view: View) -> None:
        service = view.service(service_id)
        if service_id in self._entries or _is_reached(service, view):
            self._dirty[service_id] = None


def _entry(service_id: str, view: View) -> IngressService:
    service = view.service(service_id)
    if service is None or not _is_reached(service, view):
        return IngressService(service_id=service_id)
    backends = [
        IngressBackend(task_id=task.id, node_id=task.node_id, endpoints=task.status.endpoints)
        for task in view.tasks_of_service(service_id)
        if _serves(task) and not _is_down(view.node(task.node_id))
    ]
    entry = IngressService(
        service_id=service_id,
        service_name=service.name,
        ports=_ports(service),
        backends=backends,
    )
    spec = view.spec(service.id, service.revision)
    if spec is not None and (stack := stack_of(spec.annotations.labels)):
        entry.stack = stack
        entry.names.extend(dict.fromkeys([short_name(stack, service.name), *spec.aliases]))
        entry.each_task = spec.endpoint.mode == ENDPOINT_MODE_DNSRR
    return entry


def _is_reached(service: Service | None, view: View) -> bool:
    """By a published port, or by its name in a stack."""
    if service is None:
        return False
    spec = view.spec(service.id, service.revision)
    return bool(_ports(service)) or (spec is not None and bool(stack_of(spec.annotations.labels)))


def _ports(service: Service | None) -> list[PortConfig]:
    if service is None:
        return []
    return [port for port in service.ports if port.publish_mode == PUBLISH_MODE_INGRESS]


def _serves(task: Task) -> bool:
    return task.status.state == TASK_STATE_RUNNING == task.desired_state


def _same_backend(old: object, new: object) -> bool:
    """Is the task behind the ports before and after alike, or neither?"""
    before = isinstance(old, Task) and _serves(old)
    after = isinstance(new, Task) and _serves(new)
    if before and after:
        assert isinstance(old, Task), "it served"
        assert isinstance(new, Task), "it serves"
        return list(old.status.endpoints) == list(new.status.endpoints)
    return before == after


def _is_down(node: object) -> bool:
    return not isinstance(node, Node) or node.status.state == NODE_STATE_DOWN
