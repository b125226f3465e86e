"""The ingress table tells nodes the names of a stack's services, published ports or none."""

from swarm.api.v1.service_pb2 import (
    ENDPOINT_MODE_DNSRR,
    EndpointSpec,
    Service,
    ServiceRevision,
    ServiceSpec,
)
from swarm.api.v1.store_pb2 import TABLE_SERVICE, LogPayload
from swarm.api.v1.types_pb2 import Annotations
from swarm.manager.core.dispatcher.ingress import IngressTable
from swarm.manager.core.store import Draft, Store
from swarm.stacks import STACK_LABEL


def store_with(*specs):
    store = Store()
    draft = Draft(store)
    for number, spec in enumerate(specs):
        key = f"s{number}"
        name = spec.annotations.name
        draft.create(Service(id=key, name=name, revision=1, task_revision=1))
        draft.create(ServiceRevision(id=f"{key}.1", service_id=key, revision=1, spec=spec))
    store.apply(1, 1, LogPayload(transactions=draft.transactions("me")))
    return store


def spec(name, stack="", **fields):
    labels = {STACK_LABEL: stack} if stack else {}
    return ServiceSpec(annotations=Annotations(name=name, labels=labels), **fields)


def test_services_of_stacks_and_no_others():
    store = store_with(spec("shop_db", "shop", aliases=["data"]), spec("alone"))
    table = IngressTable()
    table.start(store)
    table.refresh(store)
    (entry,) = table.since(0)
    assert (entry.stack, list(entry.names), entry.each_task) == ("shop", ["db", "data"], False)


def test_a_service_without_an_address_of_its_own():
    endpoint = EndpointSpec(mode=ENDPOINT_MODE_DNSRR)
    store = store_with(spec("shop_db", "shop", endpoint=endpoint))
    table = IngressTable()
    table.start(store)
    table.refresh(store)
    (entry,) = table.since(0)
    assert entry.each_task


def test_a_service_that_is_removed_is_told():
    store = store_with(spec("shop_db", "shop"))
    table = IngressTable()
    table.start(store)
    table.refresh(store)
    number = table.number
    draft = Draft(store)
    draft.delete(TABLE_SERVICE, "s0")
    applied = store.apply(2, 1, LogPayload(transactions=draft.transactions("me")))
    for change in applied.changes:
        table.changed(change, store)
    table.refresh(store)
    (entry,) = table.since(number)
    assert (entry.service_id, list(entry.names)) == ("s0", [])
