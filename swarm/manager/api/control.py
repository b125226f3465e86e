"""The control API: what swarmctl asks of a manager, a module per noun."""

from swarm.api.v1.control_pb2_grpc import ControlServicer
from swarm.manager.api.cluster import ClusterMethods
from swarm.manager.api.forwarding import Forwarding
from swarm.manager.api.nodes import NodeMethods
from swarm.manager.api.services import ServiceMethods
from swarm.manager.api.tasks import TaskMethods
from swarm.manager.api.watch import WatchMethods
from swarm.manager.logs import LogBroker
from swarm.manager.manager import Manager


class ControlApi(  # type: ignore[misc]
    ClusterMethods, NodeMethods, ServiceMethods, TaskMethods, WatchMethods, ControlServicer
):
    """Thin: authorise (the interceptor), validate (core), propose, answer."""

    def __init__(self, manager: Manager, forwarding: Forwarding, logs: LogBroker) -> None:
        super().__init__(manager, forwarding)
        self.logs = logs
