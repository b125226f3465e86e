"""Who writes and reads all the while, through the client that swarmctl uses, and writes down what
each was told.

A register is a service's label, changed by compare-and-set: read at a version, updated at that
version, with a value that nobody else writes. Beside them services are created whose name is the
value: what is acknowledged must be there at the end.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc

from swarm.api.v1.control_pb2 import (
    CreateServiceRequest,
    GetServiceRequest,
    ListServicesRequest,
    ServiceView,
    UpdateServiceRequest,
)
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.cli.client import Client, NotFoundError, new_request_id
from swarm.cli.endpoints import Endpoint, parse_endpoints
from swarm.cli.errors import CliError
from swarm.simulation.linearizability import Op, Operation, Result

REGISTERS = tuple(f"register-{number}" for number in range(12))
LAST_READER = "last-reader"
_VALUE = "value"
_PADDING = "padding"
# So that the log goes through a segment in minutes.
_PADDING_BYTES_MAX = 64 << 10
_DEADLINE_S = 8.0
_ATTEMPT_S = 2.0
_PAUSE_MAX_S = 0.05
# Verdicts that hold for good: a version never comes back, and no service is ever removed.
_REFUSED = frozenset({grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS})


class History:
    """What all clients saw, in `path` as it happens. `with` it; used by many threads."""

    def __init__(self, path: Path) -> None:
        self.operations: list[Operation] = []
        self._file = path.open("w")
        self._lock = threading.Lock()

    def __enter__(self) -> History:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, operation: Operation) -> None:
        with self._lock:
            self.operations.append(operation)
            self._file.write(operation.to_json() + "\n")


@dataclass(frozen=True, slots=True)
class Habits:
    """How often it does what; one that only knows one manager waits for that one."""

    name: str
    sockets: Sequence[Path]
    reads: int
    updates: int
    creations: int


def habits(sockets: Sequence[Path]) -> list[Habits]:
    """Readers and writers at each manager, and some that go on with the next one."""
    found = [Habits(f"reader-{n}", [socket], 1, 0, 0) for n, socket in enumerate(sockets, 1)]
    found += [Habits(f"writer-{n}", [socket], 1, 2, 1) for n, socket in enumerate(sockets, 1)]
    for n in range(3):
        turned = [*sockets[n % len(sockets) :], *sockets[: n % len(sockets)]]
        found.append(Habits(f"roamer-{n + 1}", turned, 2, 2, 1))
    return found


class Clients:
    """A thread each; `with` them, they work until the end of the block."""

    def __init__(self, sockets: Sequence[Path], history: History, seed: int) -> None:
        self._stop = threading.Event()
        self._threads = [_Worker(h, history, seed, self._stop) for h in habits(sockets)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * _DEADLINE_S)

    def check(self) -> None:
        """RuntimeError where one of them fell: a bug of its own."""
        for thread in self._threads:
            if thread.error is not None:
                raise RuntimeError(f"{thread.name} fell") from thread.error


class _Worker(threading.Thread):
    def __init__(self, habits: Habits, history: History, seed: int, stop: threading.Event) -> None:
        super().__init__(name=habits.name, daemon=True)
        self.error: Exception | None = None
        self._habits = habits
        self._rng = random.Random(f"{seed} {habits.name}")
        self._end = stop
        self._session = Session(habits.name, habits.sockets, history)

    def run(self) -> None:
        try:
            with self._session:
                while not self._end.wait(self._rng.uniform(0.0, _PAUSE_MAX_S)):
                    self._do_something()
        except Exception as error:
            self.error = error

    def _do_something(self) -> None:
        habits, rng = self._habits, self._rng
        weights = [habits.reads, habits.updates, habits.creations]
        (what,) = rng.choices(("read", "update", "create"), weights)
        register = rng.choice(REGISTERS)
        if what == "create":
            self._session.create_another()
            return
        answered, view = self._session.read(register)
        if answered and what == "update":
            self._session.change(register, view, rng.randrange(_PADDING_BYTES_MAX))


class Session:
    """One client: its calls, one after another, and what came of them."""

    def __init__(self, name: str, sockets: Sequence[Path], history: History) -> None:
        self._name = name
        self._client = Client(_endpoints(sockets), deadline_s=_DEADLINE_S, attempt_s=_ATTEMPT_S)
        self._history = history
        self._count = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._client.close()

    def read(self, key: str) -> tuple[bool, ServiceView | None]:
        """Whether it was answered, and what is there."""
        called_at = time.monotonic()
        view: ServiceView | None = None
        outcome = Result.OK
        try:
            request = GetServiceRequest(reference=key)
            view = self._client.ask(lambda stubs: stubs.control.GetService, request).service
        except NotFoundError:
            pass
        except CliError:
            outcome = Result.FAIL
        self._add(Op.READ, key, _value_of(view), called_at, outcome)
        return outcome is Result.OK, view

    def change(self, key: str, view: ServiceView | None, padding_bytes: int) -> None:
        """To a value of its own, if it still is as it was read."""
        spec = _spec(key) if view is None else ServiceSpec.FromString(view.spec.SerializeToString())
        labels = spec.annotations.labels
        labels[_VALUE], labels[_PADDING] = self._new_value(), "x" * padding_bytes
        if view is None:
            self._write(key, None, spec)
            return
        request = UpdateServiceRequest(
            request_id=new_request_id(),
            service_id=view.service.id,
            version=view.service.meta.version,
            spec=spec,
        )
        called_at = time.monotonic()
        outcome = Result.OK
        try:
            self._client.ask(lambda stubs: stubs.control.UpdateService, request)
        except CliError as error:
            outcome = _outcome(error)
        self._add(Op.CAS, key, labels[_VALUE], called_at, outcome, _value_of(view))

    def create_another(self) -> None:
        """A service that only this call makes."""
        name = self._new_value()
        spec = _spec(name)
        spec.annotations.labels[_VALUE] = name
        self._write(name, None, spec)

    def read_all(self, keys: Sequence[str]) -> None:
        """In one listing. CliError where there is no answer."""
        called_at = time.monotonic()
        request = ListServicesRequest()
        views = self._client.ask(lambda stubs: stubs.control.ListServices, request).services
        values = {view.service.name: _value_of(view) for view in views}
        for key in keys:
            self._add(Op.READ, key, values.get(key), called_at, Result.OK)

    def _write(self, key: str, expected: str | None, spec: ServiceSpec) -> None:
        called_at = time.monotonic()
        outcome = Result.OK
        try:
            request = CreateServiceRequest(request_id=new_request_id(), spec=spec)
            self._client.ask(lambda stubs: stubs.control.CreateService, request)
        except CliError as error:
            outcome = _outcome(error)
        self._add(Op.CAS, key, spec.annotations.labels[_VALUE], called_at, outcome, expected)

    def _new_value(self) -> str:
        self._count += 1
        return f"{self._name}-{self._count}"

    def _add(
        self,
        op: Op,
        key: str,
        value: str | None,
        called_at: float,
        outcome: Result,
        expected: str | None = None,
    ) -> None:
        returned_at = None if outcome is Result.UNKNOWN else time.monotonic()
        self._history.add(
            Operation(self._name, op, key, value, called_at, returned_at, outcome, expected)
        )


def _outcome(error: CliError) -> Result:
    """Only a manager's verdict is one; of all else nobody knows what an earlier attempt did."""
    cause = error.__cause__
    refused = isinstance(cause, grpc.RpcError) and cause.code() in _REFUSED
    return Result.FAIL if refused else Result.UNKNOWN


def _spec(name: str) -> ServiceSpec:
    spec = ServiceSpec()
    spec.annotations.name = name
    spec.task.container.image = "swarm/demo:latest"
    spec.replicated.replicas = 0
    return spec


def _value_of(view: ServiceView | None) -> str | None:
    return None if view is None else view.spec.annotations.labels[_VALUE]


def _endpoints(sockets: Sequence[Path]) -> list[Endpoint]:
    return parse_endpoints([f"unix://{socket}" for socket in sockets])
