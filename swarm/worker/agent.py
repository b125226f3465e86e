"""The agent's shell: performs what the core asks for, and hands back how it went.

It decides nothing. Each effect is a method; what takes time is an asyncio task that ends in one
event. Runtimes raise RuntimeRefused and RuntimeFailed; anything else is a defect of theirs, which
is logged and counts as a failure, so that no task hangs for want of an event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from swarm.api.v1.dispatcher_pb2 import AgentMessage
from swarm.api.v1.logs_pb2 import LogBatch
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.core.agent import AgentCore
from swarm.worker.database import Database, DatabaseError
from swarm.worker.images.node import NodeImages
from swarm.worker.logs import send_logs
from swarm.worker.network.proxy import IngressProxy
from swarm.worker.network.stack_names import StackNames
from swarm.worker.network.task_ports import PortError, TaskPorts
from swarm.worker.runtime.port import Runtime, RuntimeFailed, RuntimeRefused
from swarm.worker.session import ManagerStreams, OpenChannel

log = logging.getLogger(__name__)

GOODBYE_S = 0.5

Report = do.SessionUp | do.SessionDown | do.RoleChanged | do.RootChanged | do.AllStopped | do.Warn


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an agent works with; it closes `database` at its end, and not the runtime."""

    node_id: str
    runtime: Runtime
    database: Database
    open_channel: OpenChannel
    listen_host: str
    advertise_host: str
    images: NodeImages | None = None
    # None where services are not found by name on this node.
    names: StackNames | None = None


class Agent:
    """`report` gets what concerns the node as a whole. All in one event loop."""

    def __init__(
        self, core: AgentCore, surroundings: Surroundings, report: Callable[[Report], None]
    ) -> None:
        self._core = core
        self._node_id = surroundings.node_id
        self._runtime = surroundings.runtime
        self._database = surroundings.database
        self._images = surroundings.images
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._disk = ThreadPoolExecutor(1, "agent-database")
        self._streams = ManagerStreams(surroundings.open_channel, self.deliver)
        self._ports = TaskPorts(surroundings.listen_host, surroundings.advertise_host, self._warn)
        self._proxy = IngressProxy(surroundings.listen_host, self._ports, self._warn)
        self._names = surroundings.names
        if self._names is not None:
            self._names.serve_with(self._ports)
        self._inbox: deque[ev.Event] = deque()
        self._delivering = False
        self._timer: asyncio.TimerHandle | None = None
        self._running: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._closed = False

    def deliver(self, event: ev.Event) -> None:
        """Hands an event to the core and has its effects performed."""
        self._inbox.append(event)
        if self._delivering or self._closed:
            return
        self._delivering = True
        try:
            while self._inbox:
                now = self._loop.time()
                for effect in self._core.handle(self._inbox.popleft(), now, time.time_ns()):
                    self._perform(effect)
        finally:
            self._delivering = False
        self._set_timer()

    async def close(self) -> None:
        """The agent ends; tasks stay as they are. What was said is still sent and saved."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._streams.close(GOODBYE_S)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._proxy.close()
        await self._ports.close_all()
        await self._loop.run_in_executor(self._disk, self._database.close)
        self._disk.shutdown()

    def _set_timer(self) -> None:
        at = self._core.next_wakeup()
        if self._timer is not None:
            if self._timer.when() == at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._wake) if at is not None else None

    def _wake(self) -> None:
        self._timer = None
        self.deliver(ev.Wake())

    def _warn(self, message: str) -> None:
        self._report(do.Warn(message))

    def _perform(self, effect: do.Effect) -> None:
        match effect:
            case do.Save():
                self._spawn("save", "", self._save(effect))
            case do.ListRuntime():
                self._spawn("list", "", self._list())
            case do.Connect(session, address):
                self._streams.connect(session, address)
            case do.Send(session, message):
                self._streams.send(session, message)
            case do.Disconnect(session):
                self._streams.disconnect(session)
            case do.UpdateIngress(complete, services):
                self._proxy.update(complete=complete, services=services)
                if self._names is not None:
                    self._names.update(complete=complete, services=services)
            case do.KeepImages(keep, forget):
                if self._images is not None:
                    self._images.keep(keep, forget)
            case do.ReadLogs(subscription_id=subscription_id):
                self._spawn("logs", subscription_id, self._read_logs(effect))
            case do.StopLogs(subscription_id):
                self._cancel("logs", subscription_id)
            case (
                do.SessionUp()
                | do.SessionDown()
                | do.RoleChanged()
                | do.RootChanged()
                | do.AllStopped()
                | do.Warn()
            ):
                self._report(effect)
            case _:
                self._perform_on_task(effect)

    def _perform_on_task(self, effect: do.TaskEffect) -> None:
        match effect:
            case do.Prepare(run):
                self._spawn("prepare", run.task_id, self._prepare(effect))
            case do.CancelPrepare(task_id):
                self._cancel("prepare", task_id)
            case do.Start(task_id):
                self._spawn("start", task_id, self._start(task_id))
            case do.Wait(task_id):
                self._spawn("wait", task_id, self._wait(task_id))
            case do.WatchHealth(task_id):
                self._spawn("health", task_id, self._watch_health(task_id))
            case do.Stop(task_id, grace_s):
                self._spawn("stop", task_id, self._stop(task_id, grace_s))
            case do.Remove(task_id):
                self._cancel("health", task_id)
                self._cancel("wait", task_id)
                self._spawn("remove", task_id, self._remove(task_id))
            case do.OpenPorts():
                self._spawn("ports", effect.task_id, self._open_ports(effect))
            case do.ClosePorts():
                self._spawn("ports", effect.task_id, self._close_ports(effect))

    def _spawn(self, kind: str, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running[task] = (kind, key)
        task.add_done_callback(self._running.pop)

    def _cancel(self, kind: str, key: str) -> None:
        for task, name in self._running.items():
            if name == (kind, key):
                task.cancel()

    # --- the database

    async def _save(self, effect: do.Save) -> None:
        try:
            await self._loop.run_in_executor(
                self._disk, self._database.save, effect.puts, effect.deletes
            )
        except DatabaseError as error:
            self.deliver(ev.SaveFailed(effect.ticket, str(error)))
        else:
            self.deliver(ev.Saved(effect.ticket))

    # --- the runtime

    async def _list(self) -> None:
        try:
            found = await self._runtime.list()
        except Exception as error:
            self.deliver(ev.RuntimeListFailed(_words(error)))
        else:
            self.deliver(ev.RuntimeListed(found))

    async def _prepare(self, effect: do.Prepare) -> None:
        task_id = effect.run.task_id
        try:
            run = effect.run
            if self._images is not None:
                run = await self._images.provide(run)
            await self._runtime.prepare(run)
        except asyncio.CancelledError:
            self.deliver(ev.PrepareFailed(task_id, "cancelled"))
            raise
        except Exception as error:
            refused = isinstance(error, RuntimeRefused)
            self.deliver(ev.PrepareFailed(task_id, _words(error), refused))
        else:
            self.deliver(ev.Prepared(task_id))

    async def _start(self, task_id: str) -> None:
        try:
            started = await self._runtime.start(task_id)
        except Exception as error:
            refused = isinstance(error, RuntimeRefused)
            exit_code = error.exit_code if isinstance(error, RuntimeFailed) else None
            self.deliver(ev.StartFailed(task_id, _words(error), refused, exit_code))
        else:
            if self._names is not None:
                await self._names.task_started(task_id, started.address)
            self.deliver(ev.TaskStarted(task_id, started))

    async def _wait(self, task_id: str) -> None:
        try:
            end = await self._runtime.wait(task_id)
        except Exception as error:
            self.deliver(ev.WaitFailed(task_id, _words(error)))
        else:
            self.deliver(ev.Exited(task_id, end))

    async def _watch_health(self, task_id: str) -> None:
        try:
            async for health in self._runtime.health(task_id):
                self.deliver(ev.HealthReported(task_id, health))
        except Exception as error:
            self.deliver(ev.HealthFailed(task_id, _words(error)))

    async def _stop(self, task_id: str, grace_s: float) -> None:
        try:
            await self._runtime.stop(task_id, grace_s=grace_s)
        except Exception as error:
            self.deliver(ev.StopFailed(task_id, _words(error)))
        else:
            self.deliver(ev.Stopped(task_id))

    async def _remove(self, task_id: str) -> None:
        try:
            await self._runtime.remove(task_id)
        except Exception as error:
            self.deliver(ev.RemoveFailed(task_id, _words(error)))
        else:
            if self._names is not None:
                await self._names.task_removed(task_id)
            self.deliver(ev.Removed(task_id))

    # --- ports

    async def _open_ports(self, effect: do.OpenPorts) -> None:
        try:
            endpoints = await self._ports.open(effect.task_id, effect.ports)
        except (PortError, OSError) as error:
            self.deliver(ev.PortsFailed(effect.task_id, str(error)))
        else:
            self.deliver(ev.PortsOpened(effect.task_id, endpoints))

    async def _close_ports(self, effect: do.ClosePorts) -> None:
        await self._ports.close(effect.task_id, effect.drain_s, cut=effect.cut)
        self.deliver(ev.PortsDrained(effect.task_id))

    # --- logs

    async def _read_logs(self, effect: do.ReadLogs) -> None:
        async def send(batch: LogBatch) -> None:
            await self._streams.send_log(effect.session, AgentMessage(logs=batch))

        problem = ""
        try:
            await send_logs(
                self._runtime,
                self._node_id,
                effect.task_id,
                effect.subscription_id,
                effect.options,
                send,
            )
        except ExceptionGroup as group:
            problem = f"task {effect.task_id}: {_words(group.exceptions[0])}"
        self.deliver(ev.LogsEnded(effect.subscription_id, effect.task_id, problem))


def _words(error: Exception) -> str:
    """For a user; a defect of a driver goes to the log in full."""
    if not isinstance(error, RuntimeRefused | RuntimeFailed | ConnectionError):
        log.error("the runtime failed in a way that it should not", exc_info=error)
        return f"{type(error).__name__}: {error}"
    return str(error)
