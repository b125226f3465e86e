"""Changes are made by the leader: a follower passes a request on once, with who asked for it.

Where a request goes, and when it is asked again, is decided by `core.requests.Route`.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio

from swarm.manager.api.authorization import FORWARDED_FOR, who_of
from swarm.manager.api.interceptor import Context
from swarm.manager.core.requests import (
    LOOK_AGAIN_S,
    AskLeader,
    Here,
    NobodyLeads,
    Route,
    is_given_up,
)
from swarm.manager.manager import Manager, Unavailable

# For callers without a deadline. swarmctl has its own, and asks other managers too.
_DEADLINE_S = 15.0
# Before the caller's deadline, so that it is told why and not just that its time is up.
_ANSWER_S = 0.3

Request = TypeVar("Request")
Response = TypeVar("Response")
OpenChannel = Callable[[str], grpc.aio.Channel]


class Forwarding:
    """Runs a change here when this manager leads, else at the leader."""

    def __init__(self, manager: Manager, open_channel: OpenChannel) -> None:
        self.manager = manager
        self._open_channel = open_channel
        self._channel: tuple[str, grpc.aio.Channel] | None = None
        self._is_old = False

    async def on_leader(
        self,
        context: Context,
        request: Request,
        here: Callable[[Request, str], Awaitable[Response]],
        there: Callable[[grpc.aio.Channel], Callable[..., Awaitable[Response]]],
        patience_s: float = 3600.0,
    ) -> Response:
        """`here(request, who)` performs it on the leader; `there(channel)` gives the same method
        of another manager. Without a leader it waits as long as the caller does, but no longer
        than `patience_s`."""
        who, forwarded = who_of(context)
        if getattr(request, "request_id", None) == "":
            # Asked again after a change of leader, it must be known as the same request.
            request.request_id = secrets.token_hex(16)  # type: ignore[attr-defined]
        patience_s = min(context.time_remaining() or _DEADLINE_S, patience_s)
        route = Route(forwarded, time.monotonic() + patience_s - _ANSWER_S)
        while True:
            try:
                match self._next(route):
                    case Here():
                        return await here(request, who)
                    case AskLeader() as leader:
                        return await self._forward(request, who, there, leader)
                    case NobodyLeads():
                        raise Unavailable(self.manager.no_leader_message())
            except Unavailable:
                if not route.ask_again(time.monotonic()):
                    raise
            await self.manager.role_change(LOOK_AGAIN_S)

    def _next(self, route: Route) -> AskLeader | Here | NobodyLeads:
        core = self.manager.core
        return route.next(
            leads=core.leads_and_knows,
            leader=core.leader,
            myself=core.raft_id,
            now=time.monotonic(),
        )

    async def _forward(
        self,
        request: object,
        who: str,
        there: Callable[[grpc.aio.Channel], Callable[..., Awaitable[Response]]],
        leader: AskLeader,
    ) -> Response:
        address = self.manager.member_address(leader.raft_id)
        if not address:
            raise Unavailable(self.manager.no_leader_message())
        method = there(await self._channel_to(address))
        call = asyncio.ensure_future(
            method(request, metadata=((FORWARDED_FOR, who),), timeout=leader.timeout_s)
        )
        changed = asyncio.ensure_future(self._somebody_else_leads(leader))
        try:
            await asyncio.wait({call, changed}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise Unavailable("leadership changed while it was under way")
            return call.result()
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise Unavailable(error.details() or self.manager.no_leader_message()) from None
            raise
        finally:
            call.cancel()
            changed.cancel()

    async def _somebody_else_leads(self, asked: AskLeader) -> None:
        deadline = time.monotonic() + asked.timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            await self.manager.role_change(left_s)
            if is_given_up(asked.raft_id, self.manager.core.leader):
                return

    async def _channel_to(self, address: str) -> grpc.aio.Channel:
        if self._channel is None or self._channel[0] != address or self._is_old:
            await self.close()
            self._channel = (address, self._open_channel(address))
            self._is_old = False
        return self._channel[1]

    def reconnect(self) -> None:
        """This node's certificate changed: the next request goes over a new connection."""
        self._is_old = True

    async def close(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel[1], None
            await channel.close()
