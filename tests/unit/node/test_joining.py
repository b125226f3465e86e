"""What a user is told of a manager that could not be joined."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from swarm.node.joining import why_not

_NOWHERE = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:2377: "


@pytest.mark.parametrize(
    ("code", "details", "said"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", "not a manager's join address"),
        (grpc.StatusCode.UNAVAILABLE, _NOWHERE + "Ssl handshake failed", "not a manager's join"),
        (grpc.StatusCode.UNAVAILABLE, _NOWHERE + "Timeout: timed out", "answers too slowly"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "answers too slowly"),
        (grpc.StatusCode.UNAVAILABLE, "no leader", "10.0.0.1:2377: no leader"),
    ],
)
def test_a_slow_manager_is_told_from_one_that_is_none(
    code: grpc.StatusCode, details: str, said: str
) -> None:
    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(code, nothing, nothing, details=details)
    assert said in why_not("10.0.0.1:2377", error)
