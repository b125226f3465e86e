"""What may be asked of the cluster's state: of what is committed, or of a draft over it."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import Member, Node
from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
from swarm.api.v1.store_pb2 import Table
from swarm.api.v1.task_pb2 import Task
from swarm.api.v1.types_pb2 import Protocol as PortProtocol
from swarm.manager.core.store.objects import SlotKey


class View(Protocol):
    """Read-only. Messages in it are never mutated: copy, change, replace.

    Collections may be live: make a list of one before anything is applied to the store.
    Their order is that in which rows came in, the same in every replay.
    """

    @property
    def revision(self) -> int:
        """Raised by one per transaction that changed something."""
        ...

    def cluster(self) -> Cluster | None: ...
    def node(self, node_id: str) -> Node | None: ...
    def service(self, service_id: str) -> Service | None: ...
    def task(self, task_id: str) -> Task | None: ...
    def member(self, raft_id: int) -> Member | None: ...
    def revision_row(self, service_id: str, revision: int) -> ServiceRevision | None: ...
    def spec(self, service_id: str, revision: int) -> ServiceSpec | None: ...

    # Whole tables: for lists and tests, never per event.
    def nodes(self) -> Iterable[Node]: ...
    def services(self) -> Iterable[Service]: ...
    def tasks(self) -> Iterable[Task]: ...
    def members(self) -> Iterable[Member]: ...

    # By an index.
    def service_by_name(self, name: str) -> Service | None: ...
    def nodes_by_hostname(self, hostname: str) -> Collection[Node]: ...
    def tasks_of_service(self, service_id: str) -> Collection[Task]: ...
    def tasks_of_node(self, node_id: str) -> Collection[Task]: ...

    def tasks_of_slot(self, service_id: str, slot: int, node_id: str = "") -> Collection[Task]:
        """The slot's history and its live task. Global services: slot 0 and a node."""
        ...

    def revisions_of_service(self, service_id: str) -> Sequence[int]:
        """Those with a row, oldest first."""
        ...

    def revision_uses(self, service_id: str, revision: int) -> int:
        """How many tasks name it, ended ones included."""
        ...

    def port_holder(self, protocol: PortProtocol.ValueType, published_port: int) -> str | None:
        """The id of the service that publishes the port in ingress mode."""
        ...

    def host_port_holders(
        self, protocol: PortProtocol.ValueType, published_port: int
    ) -> Collection[str]:
        """The ids of the services that publish the port in host mode."""
        ...

    def ids_with_prefix(self, table: Table.ValueType, prefix: str, limit: int = 2) -> list[str]:
        """In order; two are enough to know that a prefix is ambiguous."""
        ...

    # What is unsettled: where a new leader starts.
    def tasks_unassigned(self) -> Collection[Task]:
        """Wanted, and without a node's consent yet: state below ASSIGNED."""
        ...

    def tasks_delayed(self) -> Collection[Task]:
        """Desired READY and not ended: they become RUNNING at start_after_ns."""
        ...

    def tasks_to_reap(self) -> Collection[Task]:
        """May be deleted now: removed and ended, or given up before a node had them."""
        ...

    def tasks_ended_wanted(self) -> Collection[Task]:
        """Ended, and nothing has answered to it yet."""
        ...

    def unsettled_services(self) -> Collection[str]:
        """Ids of services whose tasks may not be what their spec wants.

        Replicated ones with another number of wanted slots, a slot wanted twice, a task of another
        revision, or an update that has not come to its end; all global ones, as they depend on
        nodes; those that are gone while a task of theirs is not yet to be removed.
        """
        ...

    def nodes_not_ready(self) -> Collection[Node]:
        """Those whose tasks can't be trusted to run."""
        ...

    def slots_over_history(self) -> Collection[SlotKey]:
        """Slots with more tasks than the cluster's task history limit."""
        ...

    def services_to_prune(self) -> Collection[str]:
        """Ids with more revisions than are kept, or with revisions but no service."""
        ...
