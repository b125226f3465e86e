"""Who may call what: every method of a manager's listeners, with the roles it is for.

A method that is not in the table is refused. A role is what a certificate says (OU), or LOCAL
for the unix socket, whose file rights are the guard.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import grpc.aio

from swarm.security.errors import AccessDenied
from swarm.security.local_peer import uid_of_peer
from swarm.security.roles import (
    Caller,
    Role,
    authorize,
    caller_from_auth_context,
    local_caller,
)

_USERS: Final = frozenset({Role.LOCAL, Role.ADMIN})
_ON_THE_NODE: Final = frozenset({Role.LOCAL})
_MANAGERS: Final = frozenset({Role.MANAGER})
_NODES: Final = frozenset({Role.MANAGER, Role.WORKER})
_CONTROL = "/swarm.api.v1.Control/"

CONTROL_METHODS: Final = (
    "GetCluster",
    "UpdateCluster",
    "JoinTokens",
    "CreateAdminCertificate",
    "GetNode",
    "ListNodes",
    "UpdateNode",
    "RemoveNode",
    "CreateService",
    "GetService",
    "ListServices",
    "UpdateService",
    "RemoveService",
    "ServiceHistory",
    "Plan",
    "Explain",
    "CreateSecret",
    "GetSecret",
    "ListSecrets",
    "UpdateSecret",
    "RemoveSecret",
    "CreateConfig",
    "GetConfig",
    "ListConfigs",
    "UpdateConfig",
    "RemoveConfig",
    "DeployStack",
    "RemoveStack",
    "ListImages",
    "GetImage",
    "TagImage",
    "RemoveImage",
    "PruneImages",
    "RegisterImages",
    "LoadImage",
    "SaveImage",
    "PullImage",
    "BuildImage",
    "GetTask",
    "ListTasks",
    "ServiceLogs",
    "Watch",
    "Events",
    "Backup",
)
STREAMED_METHODS: Final = frozenset(
    {"ServiceLogs", "Watch", "Events", "Backup", "SaveImage", "PullImage", "BuildImage"}
)

ALLOWED: Final[Mapping[str, Collection[Role]]] = {
    "/swarm.api.v1.Raft/Stream": _MANAGERS,
    "/swarm.api.v1.Raft/SendSnapshot": _MANAGERS,
    "/swarm.api.v1.Managers/JoinRaft": _MANAGERS,
    "/swarm.api.v1.Managers/Relay": _MANAGERS,
    "/swarm.api.v1.Managers/Logs": _MANAGERS,
    "/swarm.api.v1.Dispatcher/Session": _NODES,
    "/swarm.api.v1.Dispatcher/FindImage": _NODES,
    "/swarm.api.v1.Certificates/RenewCertificate": _NODES,
    # What a node becomes is its own machine's affair.
    "/swarm.api.v1.Daemon/Init": _ON_THE_NODE,
    "/swarm.api.v1.Daemon/Join": _ON_THE_NODE,
    "/swarm.api.v1.Daemon/Leave": _ON_THE_NODE,
    "/swarm.api.v1.Daemon/Restore": _ON_THE_NODE,
    "/swarm.api.v1.Daemon/Info": _USERS,
    # A manager calls these with a user's request that it passes on.
    **{_CONTROL + name: _USERS | _MANAGERS for name in CONTROL_METHODS},
    # Any manager answers it itself, so none has a request of it to pass on.
    _CONTROL + "Backup": _USERS,
    # What their nodes have taken in, and nobody else's word.
    _CONTROL + "RegisterImages": _MANAGERS,
    # By the node of the manager that is asked.
    **{_CONTROL + name: _USERS for name in ("LoadImage", "SaveImage", "PullImage", "BuildImage")},
}

# Set by a manager that passes a user's request on; believed from a manager's certificate only.
FORWARDED_FOR: Final = "swarm-forwarded-for"


def caller_of(context: "grpc.aio.ServicerContext[object, object]") -> Caller:
    """Who calls, by certificate or socket. SecurityError when nobody can be made out."""
    caller = caller_from_auth_context(context.auth_context())
    if caller.role is Role.LOCAL:
        return local_caller(uid_of_peer(context.peer()))
    return caller


def who_of(context: "grpc.aio.ServicerContext[object, object]") -> tuple[str, bool]:
    """On whose behalf the call is, and whether another manager passed it on."""
    caller = caller_of(context)
    metadata = dict(context.invocation_metadata() or ())
    forwarded_for = metadata.get(FORWARDED_FOR)
    if caller.role is Role.MANAGER:
        if not forwarded_for:
            raise AccessDenied("a manager calls the control API only to pass a request on")
        return str(forwarded_for), True
    return caller.who, False


def check_certificates(
    cluster_id: Callable[[], str], refuse: Callable[[Caller], Awaitable[str]]
) -> "Callable[[grpc.aio.ServicerContext[object, object], str], Awaitable[None]]":
    """For an `Interceptor`. `refuse` says why a caller whose certificate is in order is not let
    in all the same (its node was removed), or gives an empty string."""

    async def check(context: "grpc.aio.ServicerContext[object, object]", method: str) -> None:
        caller = caller_of(context)
        authorize(caller, method, ALLOWED, cluster_id=cluster_id())
        refused = await refuse(caller)
        if refused:
            raise AccessDenied(refused)

    return check


async def refuse_nobody(caller: Caller) -> str:  # noqa: ARG001
    """For the unix socket: its callers are no nodes."""
    return ""


async def check_nothing(context: object, method: str) -> None:
    """For the join listener: its callers have no certificate yet."""
