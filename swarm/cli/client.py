"""The connection to the managers: one call, repeated until somebody answers it.

A change carries a request id made once, so that repeating it at another manager takes effect
once. What a manager cannot do (it is gone, it has no leader) is tried at the next one, round
after round, until a deadline; what it will not do is the answer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc

from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.daemon_pb2_grpc import DaemonStub
from swarm.cli.endpoints import Certificates, Endpoint
from swarm.cli.errors import CliError

if TYPE_CHECKING:
    UnaryCall = grpc.UnaryUnaryMultiCallable
    StreamCall = grpc.UnaryStreamMultiCallable
    UploadCall = grpc.StreamUnaryMultiCallable
    ConversationCall = grpc.StreamStreamMultiCallable

Request = TypeVar("Request")
Response = TypeVar("Response")

DEADLINE_S = 30.0
"""A call is given up after this long without an answer."""
_ATTEMPT_S = 6.0
"""One manager's time, where others could be asked: a little more than it gives a read itself."""
_ROUND_PAUSE_S = 0.1
_UNREACHABLE_ROUNDS = 3
"""When nothing answers at any address, and nothing did before, this is enough."""
_TOO_LARGE = "message larger than max"
_NOT_A_MANAGER = "This node is not a swarm manager"
_RETRIED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.enable_http_proxy", 0),
    ("grpc.ssl_target_name_override", "swarm-manager"),
)


class NotFoundError(CliError):
    """What was asked for is not there; the daemon's words."""


class UnusableError(CliError):
    """An address that can't be asked as things are here: there is no certificate for it."""


class OutdatedError(CliError):
    """Somebody else changed it between reading and writing: read again and repeat."""


@dataclass
class Stubs:
    """One endpoint's channel and methods."""

    channel: grpc.Channel
    control: ControlStub
    daemon: DaemonStub


class Client:
    """Calls methods at whichever of `endpoints` answers. Use as a context manager."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        certificates: Certificates | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        attempt_s: float = _ATTEMPT_S,
    ) -> None:
        self.endpoints = list(endpoints)
        self._certificates = certificates
        self._deadline_s = deadline_s
        self._attempt_s = attempt_s
        self._stubs: dict[int, Stubs] = {}
        self._current = 0
        self._answered = False
        self._closed = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        # A watch of another thread may be opening one.
        for stubs in list(self._stubs.values()):
            stubs.channel.close()

    def clone(self) -> Client:
        """Another client of the same managers with connections of its own, for a thread; it
        starts with the manager that answered last."""
        other = Client(self.endpoints, self._certificates, deadline_s=self._deadline_s)
        other._current = self._current
        return other

    def ask(
        self,
        method: Callable[[Stubs], UnaryCall[Request, Response]],
        request: Request,
        *,
        deadline_s: float | None = None,
    ) -> Response:
        """Call `method` at one manager after another until it is answered.

        Raises CliError: what the answer said, or that there was none.
        """

        def call(stubs: Stubs, timeout_s: float) -> Response:
            return method(stubs)(request, timeout=timeout_s)

        changes = hasattr(request, "request_id")
        return self._repeat(call, deadline_s or self._deadline_s, changes=changes)

    def converse(
        self,
        method: Callable[[Stubs], ConversationCall[Request, Response]],
        requests: Iterator[Request],
    ) -> Iterator[Response]:
        """A stream each way, with one manager and once. Raises CliError."""
        try:
            yield from method(self._connected())(requests)
        except grpc.RpcError as error:
            if _is_unreachable(error):
                raise self._no_connection(self.endpoints[:1], error) from error
            raise refusal(error) from error

    def ask_local(
        self,
        method: Callable[[Stubs], UnaryCall[Request, Response]],
        request: Request,
        *,
        timeout_s: float,
    ) -> Response:
        """Call a method of this machine's daemon (the first address) once."""
        return self._locally(lambda stubs: method(stubs)(request, timeout=timeout_s))

    def upload_local(
        self,
        method: Callable[[Stubs], UploadCall[Request, Response]],
        requests: Iterator[Request],
        *,
        timeout_s: float,
    ) -> Response:
        """As `ask_local`, with all that `requests` gives."""
        return self._locally(lambda stubs: method(stubs)(requests, timeout=timeout_s))

    def _locally(self, call: Callable[[Stubs], Response]) -> Response:
        try:
            return call(self._connected(0))
        except grpc.RpcError as error:
            if _is_unreachable(error):
                raise self._no_connection(self.endpoints[:1], error) from error
            raise refusal(error) from error

    def follow(
        self,
        method: Callable[[Stubs], StreamCall[Request, Response]],
        make_request: Callable[[], Request],
        *,
        resume: bool = True,
    ) -> Iterator[Response]:
        """A stream's answers; where its manager is lost, the stream of the next one, asked for
        with a new `make_request()`. Ends when a manager ends it. Raises CliError."""
        while True:
            stream = self._repeat(
                lambda stubs, _: _Opened(method(stubs)(make_request())), self._deadline_s
            )
            try:
                yield from stream
                return
            except grpc.RpcError as error:
                if not resume or self._closed or error.code() not in _RETRIED:
                    raise refusal(error) from error
                self._advance()

    def _repeat(
        self,
        call: Callable[[Stubs, float], Response],
        deadline_s: float,
        *,
        changes: bool = False,
    ) -> Response:
        rounds = _Rounds(len(self.endpoints), time.monotonic() + deadline_s, self._answered)
        while True:
            left = max(rounds.deadline - time.monotonic(), 0.0)
            timeout_s = min(left, self._attempt_s) if len(self.endpoints) > 1 else left
            try:
                answer = call(self._connected(), timeout_s)
                self._answered = True
                return answer
            except grpc.RpcError as error:
                rounds.failed(error)
            except UnusableError as error:
                rounds.passed_over(error)
            if not rounds.go_on():
                raise self._given_up(rounds, deadline_s, changes) from rounds.failure
            self._advance()
            rounds.pause()

    def _given_up(self, rounds: _Rounds, deadline_s: float, changes: bool) -> CliError:
        if rounds.failure is None:
            assert rounds.unusable is not None
            return rounds.unusable
        if rounds.refused:
            return refusal(rounds.failure)
        if rounds.nobody_there:
            return self._no_connection(self.endpoints, rounds.failure, rounds.unusable)
        details = _one_line(rounds.failure.details() or "").removesuffix(".")
        outcome = "; whether the request took effect is not known" if changes else ""
        return CliError(f"no answer within {deadline_s:g}s: {details}{outcome}")

    def _connected(self, index: int | None = None) -> Stubs:
        index = self._current if index is None else index
        stubs = self._stubs.get(index)
        if stubs is None:
            channel = self._open(self.endpoints[index])
            stubs = Stubs(channel, ControlStub(channel), DaemonStub(channel))
            self._stubs[index] = stubs
        return stubs

    def _open(self, endpoint: Endpoint) -> grpc.Channel:
        if endpoint.is_unix:
            return grpc.insecure_channel(endpoint.target, options=_CHANNEL_OPTIONS[:-1])
        if self._certificates is None:
            raise UnusableError(
                f"{endpoint.name} asks for a certificate: make one on a manager with 'swarmctl "
                "cert create' and set SWARM_CERT_PATH to its folder, or use a manager's unix socket"
            )
        try:
            root, key, certificate = self._certificates.read()
        except CliError as error:
            raise UnusableError(error.message) from error
        credentials = grpc.ssl_channel_credentials(root, key, certificate)
        return grpc.secure_channel(endpoint.target, credentials, options=_CHANNEL_OPTIONS)

    def _advance(self) -> None:
        self._current = (self._current + 1) % len(self.endpoints)

    def _no_connection(
        self,
        endpoints: Sequence[Endpoint],
        error: grpc.RpcError,
        unusable: UnusableError | None = None,
    ) -> CliError:
        names = ", ".join(endpoint.name for endpoint in endpoints)
        details = (error.details() or "").lower()
        if "permission denied" in details:
            return CliError(
                f"permission denied while connecting to swarmd at {names}: use sudo, or become a "
                "member of the socket's group"
            )
        shown = None if all(endpoint.is_unix for endpoint in endpoints) else self._certificates
        if shown is not None and (problem := shown.problem()):
            return CliError(f"cannot connect to swarmd at {names}: {problem}")
        if "handshake" in details or "certificate" in details:
            which = f"{shown.cert} or {shown.ca}" if shown is not None else "a certificate"
            return CliError(
                f"cannot connect to swarmd at {names}: the TLS handshake failed: {which} is of "
                "another cluster"
            )
        hint = " Start it with: swarmd --state-dir DIR" if endpoints[0].is_unix else ""
        if unusable is not None:
            hint = f" And {unusable.message}"
        return CliError(f"Cannot connect to swarmd at {names}. Is the daemon running?{hint}")


@dataclass
class _Rounds:
    """How often a call failed, and why, over the addresses in turn."""

    size: int
    deadline: float
    answered_before: bool
    tried: int = 0
    unreachable: int = 0
    foreign: int = 0
    refused: bool = False
    """An answer that no other manager would give differently."""
    failure: grpc.RpcError | None = None
    unusable: UnusableError | None = None

    def passed_over(self, error: UnusableError) -> None:
        self.tried += 1
        self.unreachable += 1
        self.unusable = self.unusable or error

    def failed(self, error: grpc.RpcError) -> None:
        self.tried += 1
        self.unreachable += _is_unreachable(error)
        self.foreign = self.foreign + 1 if _is_foreign(error) else 0
        others_may = 0 < self.foreign < self.size
        self.refused = error.code() not in _RETRIED and not others_may
        if self.failure is None or _says(error) >= _says(self.failure):
            self.failure = error

    @property
    def nobody_there(self) -> bool:
        return self.unreachable == self.tried

    def go_on(self) -> bool:
        if self.refused:
            return False
        if self.failure is None and self.tried >= self.size:
            return False  # none of the addresses is of use here
        enough = self.tried >= _UNREACHABLE_ROUNDS * self.size
        if self.nobody_there and enough and not self.answered_before:
            return False
        return time.monotonic() < self.deadline

    def pause(self) -> None:
        """Between two rounds."""
        if self.tried % self.size == 0:
            time.sleep(max(0.0, min(_ROUND_PAUSE_S, self.deadline - time.monotonic())))


class _Opened(Iterator[Response]):
    """A stream of which the first answer (or its end) is there already, so that a manager that
    can't serve it is found out while opening it."""

    def __init__(self, stream: Iterator[Response]) -> None:
        self._stream = stream
        self._first: list[Response] = []
        try:
            self._first.append(next(stream))
        except StopIteration:
            pass

    def __next__(self) -> Response:
        return self._first.pop() if self._first else next(self._stream)


def new_request_id() -> str:
    """The id of one change, the same however often it is asked for."""
    return secrets.token_hex(16)


def refusal(error: grpc.RpcError) -> CliError:
    """What the daemon answered, in one line."""
    details = _one_line(error.details() or "")
    match error.code():
        case grpc.StatusCode.NOT_FOUND:
            return NotFoundError(f"Error: {_no_such(details)}")
        case grpc.StatusCode.ABORTED:
            return OutdatedError(f"Error response from daemon: {details}")
        case grpc.StatusCode.UNIMPLEMENTED:
            return CliError(
                "this swarmd does not know the request: it is of another version, or this is its "
                "port for joining (users are served on the next one, 2378 unless told otherwise)"
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _TOO_LARGE in details:
            return CliError(
                "Error response from daemon: the request is larger than the 1.5 MiB that one "
                "request may change: make it smaller or split it up"
            )
        case _:
            return CliError(f"Error response from daemon: {details or error.code().name}")


def _no_such(details: str) -> str:
    """`service web not found` as Docker's client says it: no such service: web."""
    words = details.split(" ")
    if len(words) == 4 and details.endswith(" not found"):
        return f"no such {words[0]}: {words[1]}"
    return details


def _is_unreachable(error: grpc.RpcError) -> bool:
    """The channel could not connect, so nobody saw the request."""
    if error.code() != grpc.StatusCode.UNAVAILABLE:
        return False
    return (error.details() or "").startswith(("failed to connect", "connections to all backends"))


def _says(error: grpc.RpcError) -> int:
    """How much a failure tells: a manager's own words more than a closed door, and that more than
    silence, which for the last attempt is a short one."""
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return 0
    return 1 if _is_unreachable(error) else 2


def _is_foreign(error: grpc.RpcError) -> bool:
    """A worker, or a daemon outside of the cluster: another address may be a manager's."""
    details = error.details() or ""
    return error.code() == grpc.StatusCode.FAILED_PRECONDITION and _NOT_A_MANAGER in details


def _one_line(text: str) -> str:
    return " ".join(text.split())
