"""The login that a service's image is pulled with: part of its row and of no spec, so that a new
one replaces no task."""

from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.core.validate.errors import InvalidRequest

_BYTES_MAX = 64 << 10


def give(transaction: Transaction, registry_auth: str) -> None:
    """To the service that the transaction creates or replaces; an empty one leaves what it has.

    Raises InvalidRequest.
    """
    if not registry_auth:
        return
    if len(registry_auth) > _BYTES_MAX:
        raise InvalidRequest(f"the login to the registry is larger than {_BYTES_MAX >> 10} KiB")
    for change in transaction.changes:
        operation = change.WhichOneof("operation")
        row = change.create if operation == "create" else change.replace
        if operation != "delete" and row.HasField("service"):
            row.service.registry_auth = registry_auth


def without_login(service: Service) -> Service:
    """As users see it."""
    if not service.registry_auth:
        return service
    public = Service()
    public.CopyFrom(service)
    public.ClearField("registry_auth")
    return public
