"""Tasks, and the logs of services and tasks."""

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import aclosing

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.logs_pb2 import LogBatch
from swarm.api.v1.task_pb2 import TASK_STATE_ASSIGNED, Task
from swarm.manager.api.forwarding import Forwarding
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.api.views import task_view
from swarm.manager.core.validate import InvalidRequest, resolve
from swarm.manager.logs import LogBroker
from swarm.manager.manager import Manager


class TaskMethods(ControlRequests):
    def __init__(self, manager: Manager, forwarding: Forwarding, logs: LogBroker) -> None:
        super().__init__(manager, forwarding)
        self._logs = logs

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        await self.read(context)
        found = resolve.task(self.manager.store, request.reference)
        return pb.GetTaskResponse(task=task_view(found, self.manager.store))

    async def ListTasks(
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        await self.read(context)
        store = self.manager.store
        return pb.ListTasksResponse(tasks=[task_view(t, store) for t in self._tasks(request)])

    async def ServiceLogs(
        self, request: pb.ServiceLogsRequest, context: Context
    ) -> AsyncIterator[pb.ServiceLogsResponse]:
        """Lines of all tasks as they come; what is missing becomes a warning, not a failure."""
        await self.read(context)
        references = request.references
        tasks = self._logged(references)
        batches = (
            self._logs.follow(lambda: self._logged(references), request.options)
            if request.options.follow
            else self._logs.everywhere(tasks, request.options)
        )
        if request.options.follow and (warnings := self._missing(tasks, self._nodes_up(tasks))):
            yield pb.ServiceLogsResponse(warnings=warnings)
        answered: set[str] = set()
        async with aclosing(batches):
            async for batch in _until_gone(batches):
                if batch.done and batch.node_id:
                    answered.add(batch.node_id)
                warnings = [batch.error] if batch.error else []
                if batch.lines or warnings:
                    yield pb.ServiceLogsResponse(lines=batch.lines, warnings=warnings)
        if not request.options.follow and (warnings := self._missing(tasks, answered)):
            yield pb.ServiceLogsResponse(warnings=warnings)

    def _tasks(self, request: pb.ListTasksRequest) -> Iterable[Task]:
        """The narrower of the two indexes, then the other condition."""
        store = self.manager.store
        services, nodes = set(request.service_ids), set(request.node_ids)
        if services:
            found = (task for sid in request.service_ids for task in store.tasks_of_service(sid))
            return (task for task in found if not nodes or task.node_id in nodes)
        if nodes:
            return (task for nid in request.node_ids for task in store.tasks_of_node(nid))
        return store.tasks()

    def _logged(self, references: Iterable[str]) -> list[Task]:
        store = self.manager.store
        tasks: list[Task] = []
        for reference in references:
            try:
                tasks.extend(store.tasks_of_service(resolve.service(store, reference).id))
            except InvalidRequest as no_service:
                try:
                    tasks.append(resolve.task(store, reference))
                except InvalidRequest:
                    raise no_service from None
        return [task for task in tasks if task.node_id]

    def _nodes_up(self, tasks: Iterable[Task]) -> set[str]:
        return {task.node_id for task in tasks if self.manager.core.is_up(task.node_id)}

    def _missing(self, tasks: Iterable[Task], answered: Collection[str]) -> list[str]:
        """A line for each node that has tasks that ran, and was not heard."""
        ran = {task.node_id for task in tasks if task.status.state > TASK_STATE_ASSIGNED}
        nodes = [(node_id, self.manager.store.node(node_id)) for node_id in sorted(ran)]
        return [
            f"logs of tasks on node {node.description.hostname if node is not None else node_id} "
            "are missing: it can't be reached"
            for node_id, node in nodes
            if node_id not in answered
        ]


async def _until_gone(batches: AsyncIterator[LogBatch]) -> AsyncIterator[LogBatch]:
    """To follow a service that is removed is to come to its end."""
    try:
        async for batch in batches:
            yield batch
    except InvalidRequest:
        return
