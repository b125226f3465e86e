"""What every call passes before its handler: who calls, whether that may be, and how errors
are said.

A handler raises `InvalidRequest`, `Unavailable` or a `SecurityError`; the caller gets a gRPC
status with one line. Anything else is a bug: it is logged here, and the caller is told where to
look, without a traceback.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from swarm.manager.core.validate import ErrorCode, InvalidRequest
from swarm.manager.manager import Unavailable
from swarm.security.errors import AccessDenied, SecurityError

log = logging.getLogger(__name__)

_STATUS = {
    ErrorCode.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.CONFLICT: grpc.StatusCode.ABORTED,
    ErrorCode.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
}

Context = grpc.aio.ServicerContext[Any, Any]
_Handler = Callable[[Any, Context], Any]


Check = Callable[[Context, str], Awaitable[None]]


class Interceptor(grpc.aio.ServerInterceptor):
    """`check(context, method)` raises a SecurityError for a call that may not be made."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._guards: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = str(handler_call_details.method)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]
        guarded = self._guards.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            guarded = self._guards[method] = self._guarded(handler, method)
        return guarded

    def _guarded(self, handler: Any, method: str) -> Any:
        kinds = {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
        }
        name, make = kinds[handler.request_streaming, handler.response_streaming]
        behaviour: _Handler = getattr(handler, name)
        guard = self._guard_stream if handler.response_streaming else self._guard_unary
        return make(
            guard(behaviour, method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guard_unary(self, behaviour: _Handler, method: str) -> _Handler:
        async def guarded(request: Any, context: Context) -> Any:
            try:
                await self._check(context, method)
                return await behaviour(request, context)
            except Exception as error:
                await _abort(context, method, error)

        return guarded

    def _guard_stream(self, behaviour: _Handler, method: str) -> _Handler:
        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                await self._check(context, method)
                async for answer in behaviour(request, context):
                    yield answer
            except Exception as error:
                await _abort(context, method, error)

        return guarded


async def _abort(context: Context, method: str, error: Exception) -> NoReturn:
    match error:
        case grpc.aio.AbortError():
            raise error
        case InvalidRequest():
            code = _STATUS[error.code]
        case Unavailable():
            code = grpc.StatusCode.UNAVAILABLE
        case AccessDenied():
            code = grpc.StatusCode.PERMISSION_DENIED
        case SecurityError():
            code = grpc.StatusCode.UNAUTHENTICATED
        case grpc.aio.AioRpcError():
            # What another manager answered to a request that was passed on.
            await context.abort(error.code(), error.details() or "")
        case _:
            log.exception("%s failed", method)
            await context.abort(
                grpc.StatusCode.INTERNAL,
                f"internal error in {method.rsplit('/', 1)[-1]}; this manager's log says more",
            )
    await context.abort(code, str(error))
