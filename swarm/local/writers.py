"""Clients that write without a pause, and remember what was acknowledged."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import Annotations
from swarm.cli.client import Client, new_request_id
from swarm.cli.errors import CliError

_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Write:
    """A service without replicas. Times are monotonic seconds."""

    name: str
    began: float
    acknowledged: float


class Writers:
    """Between `start` and `stop`, each of `count` threads creates one service after another."""

    def __init__(self, client: Client, prefix: str, image: str, count: int = 2) -> None:
        self._prefix = prefix
        self._image = image
        self._writes: list[Write] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(client.clone(), number), daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Write]:
        """All that was acknowledged."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        return list(self._writes)

    def first_after(self, moment: float, timeout_s: float) -> Write | None:
        """The first write that began after this moment and was acknowledged."""

        def found() -> Write | None:
            later = [write for write in self._writes if write.began >= moment]
            return min(later, key=lambda write: write.acknowledged, default=None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, timeout_s)
            return found()

    def _write(self, client: Client, number: int) -> None:
        count = 0
        with client:
            while not self._stopping.is_set():
                count += 1
                name = f"{self._prefix}-{number}-{count}"
                began = time.monotonic()
                try:
                    client.ask(lambda stubs: stubs.control.CreateService, self._request(name))
                except CliError:
                    continue  # not acknowledged, so nothing was promised
                with self._changed:
                    self._writes.append(Write(name, began, time.monotonic()))
                    self._changed.notify_all()
                self._stopping.wait(_PAUSE_S)

    def _request(self, name: str) -> pb.CreateServiceRequest:
        spec = ServiceSpec(annotations=Annotations(name=name))
        spec.task.container.image = self._image
        spec.replicated.replicas = 0
        return pb.CreateServiceRequest(request_id=new_request_id(), spec=spec)


def missing(client: Client, writes: list[Write]) -> list[str]:
    """Names of acknowledged writes that the cluster does not know. CliError."""
    services = client.ask(lambda stubs: stubs.control.ListServices, pb.ListServicesRequest())
    known = {view.service.name for view in services.services}
    return [write.name for write in writes if write.name not in known]


def remove_all(client: Client, prefix: str) -> None:
    """The services of writers with this prefix. CliError."""
    services = client.ask(lambda stubs: stubs.control.ListServices, pb.ListServicesRequest())
    for view in services.services:
        if view.service.name.startswith(f"{prefix}-"):
            request = pb.RemoveServiceRequest(
                request_id=new_request_id(), reference=view.service.id
            )
            client.ask(lambda stubs: stubs.control.RemoveService, request)
