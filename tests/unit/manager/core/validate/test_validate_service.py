"""Services: requests to transactions that apply, and what is refused."""

from random import Random

import pytest

from swarm.api.v1.service_pb2 import Service, ServiceSpec
from swarm.api.v1.store_pb2 import (
    VERDICT_NAME_TAKEN,
    VERDICT_PORT_TAKEN,
    Change,
    LogPayload,
    Object,
    Transaction,
    Verdict,
)
from swarm.api.v1.types_pb2 import PUBLISH_MODE_HOST, PUBLISH_MODE_INGRESS, PortConfig
from swarm.manager.core.store import RandomIds, Store
from swarm.manager.core.validate import ErrorCode, InvalidRequest, refusal, service


def web(name: str = "web", image: str = "nginx") -> ServiceSpec:
    spec = ServiceSpec()
    spec.annotations.name = name
    spec.task.container.image = image
    return spec


class Swarm:
    """A store to which requests are applied at once."""

    def __init__(self) -> None:
        self.store = Store(check_mutation=True)
        self.ids = RandomIds(Random(1).getrandbits)

    def apply(self, transaction: Transaction) -> Verdict:
        payload = LogPayload(proposed_at_ns=10**18, transactions=[transaction])
        (verdict,) = self.store.apply(self.store.applied_index + 1, 1, payload).verdicts
        self.store.check()
        return verdict

    def commit(self, transaction: Transaction) -> None:
        verdict = self.apply(transaction)
        assert not verdict.code, verdict.message

    def create(self, spec: ServiceSpec) -> Service:
        self.commit(service.create(self.store, spec, self.ids, 0, "uid 0"))
        return self.named(spec.annotations.name)

    def update(self, spec: ServiceSpec) -> Service:
        found = self.named(spec.annotations.name)
        self.commit(service.update(self.store, found.id, found.meta.version, spec, 0, "uid 1"))
        return self.named(found.name)

    def named(self, name: str) -> Service:
        found = self.store.service_by_name(name)
        assert found is not None
        return found

    def spec(self, name: str = "web") -> ServiceSpec:
        """A copy to change, as a client has it."""
        found = self.named(name)
        spec = ServiceSpec()
        stored = self.store.spec(found.id, found.revision)
        assert stored is not None
        spec.CopyFrom(stored)
        return spec


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


def refused(call: object, *args: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        call(*args)  # type: ignore[operator]
    assert "\n" not in error.value.message
    return error.value


def test_create_fills_in_dockers_defaults(swarm: Swarm) -> None:
    spec = web()
    created = swarm.create(spec)
    assert len(created.id) == 25
    assert (created.name, created.revision, created.task_revision) == ("web", 1, 1)
    assert created.previous_revision == 0
    full = swarm.spec()
    assert full.replicated.replicas == 1
    assert full.task.container.stop_grace_period_ns == 10 * 10**9
    assert (full.task.restart.condition, full.task.restart.delay_ns) == (0, 5 * 10**9)
    for config in (full.update, full.rollback):
        assert (config.parallelism, config.monitor_ns) == (1, 5 * 10**9)
    row = swarm.store.revision_row(created.id, 1)
    assert row is not None
    assert row.who == "uid 0"
    assert spec == web(), "the request is left as it was"


def test_what_is_given_stays(swarm: Swarm) -> None:
    spec = web()
    spec.replicated.replicas = 0
    spec.update.parallelism = 0
    spec.task.restart.delay_ns = 0
    spec.task.container.stop_grace_period_ns = 0
    swarm.create(spec)
    full = swarm.spec()
    assert (full.replicated.replicas, full.update.parallelism) == (0, 0)
    assert (full.task.restart.delay_ns, full.task.container.stop_grace_period_ns) == (0, 0)


def test_a_name_is_had_once(swarm: Swarm) -> None:
    swarm.create(web())
    taken = refused(service.create, swarm.store, web(), swarm.ids, 0, "x")
    assert taken.code is ErrorCode.ALREADY_EXISTS
    assert taken.message.startswith("service web already exists")


def test_two_creates_at_once_are_told_apart_where_they_are_applied(swarm: Swarm) -> None:
    both = [service.create(swarm.store, web(), swarm.ids, 0, "x") for _ in range(2)]
    verdicts = swarm.store.apply(1, 1, LogPayload(transactions=both)).verdicts
    assert [v.code for v in verdicts] == [0, VERDICT_NAME_TAKEN]
    assert refusal(verdicts[1]).code is ErrorCode.ALREADY_EXISTS


def test_scaling_keeps_the_tasks_and_an_image_replaces_them(swarm: Swarm) -> None:
    swarm.create(web())
    spec = swarm.spec()
    spec.replicated.replicas = 3
    spec.annotations.labels["a"] = "b"
    scaled = swarm.update(spec)
    assert (scaled.revision, scaled.task_revision, scaled.previous_revision) == (2, 1, 1)
    spec.task.container.image = "nginx:2"
    updated = swarm.update(spec)
    assert (updated.revision, updated.task_revision, updated.previous_revision) == (3, 3, 2)
    row = swarm.store.revision_row(updated.id, 3)
    assert row is not None
    assert row.who == "uid 1"


def test_going_back_names_the_tasks_that_were(swarm: Swarm) -> None:
    swarm.create(web())
    first = swarm.spec()
    changed = swarm.spec()
    changed.task.container.image = "nginx:2"
    swarm.update(changed)
    back = swarm.update(first)
    assert (back.revision, back.task_revision, back.previous_revision) == (3, 1, 2)


def test_the_same_again_is_a_version_but_no_revision(swarm: Swarm) -> None:
    created = swarm.create(web())
    again = swarm.update(web())
    assert again.revision == 1
    assert again.meta.version == created.meta.version + 1
    assert list(swarm.store.revisions_of_service(created.id)) == [1]


def test_ports_are_filled_in_kept_and_given_back(swarm: Swarm) -> None:
    spec = web()
    spec.endpoint.ports.add(target_port=80)
    picked = swarm.create(spec).ports[0].published_port
    assert 30_000 <= picked <= 32_767
    spec.endpoint.ports.add(target_port=81, published_port=8081)
    assert [p.published_port for p in swarm.update(spec).ports] == [picked, 8081]
    assert swarm.store.port_holder(0, 8081) == swarm.named("web").id
    del spec.endpoint.ports[:]
    swarm.update(spec)
    assert swarm.store.port_holder(0, picked) is None


def test_an_ingress_number_can_change_under_running_tasks(swarm: Swarm) -> None:
    spec = web()
    port = spec.endpoint.ports.add(target_port=80, published_port=8080)
    swarm.create(spec)
    port.published_port = 8081
    assert swarm.update(spec).task_revision == 1
    port.publish_mode = PUBLISH_MODE_HOST
    assert swarm.update(spec).task_revision == 3
    port.published_port = 8082
    assert swarm.update(spec).task_revision == 4


def test_a_port_of_another_service_is_refused_with_its_name(swarm: Swarm) -> None:
    spec = web()
    spec.endpoint.ports.add(target_port=80, published_port=8080)
    created = swarm.create(spec)
    swarm.create(web("other"))
    spec.annotations.name = "other"
    other = swarm.named("other")
    clash = refused(service.update, swarm.store, other.id, other.meta.version, spec, 0, "x")
    assert clash.code is ErrorCode.FAILED_PRECONDITION
    assert f"port '8080' is already in use by service 'web' ({created.id})" in clash.message


def test_an_ingress_port_is_nobody_elses_in_host_mode_either(swarm: Swarm) -> None:
    spec = web()
    spec.endpoint.ports.add(target_port=80, published_port=8080, publish_mode=PUBLISH_MODE_HOST)
    created = swarm.create(spec)
    held = f"'8080' is already in use by service 'web' ({created.id}) as a host-published port"
    ingress = web("other")
    ingress.endpoint.ports.add(target_port=80, published_port=8080)
    clash = refused(service.create, swarm.store, ingress, swarm.ids, 0, "x")
    assert clash.code is ErrorCode.FAILED_PRECONDITION
    assert held in clash.message
    other = swarm.create(web("other"))
    clash = refused(service.update, swarm.store, other.id, other.meta.version, ingress, 0, "x")
    assert held in clash.message
    # Its own port may change its mode.
    spec.endpoint.ports[0].publish_mode = PUBLISH_MODE_INGRESS
    assert swarm.update(spec).ports[0].published_port == 8080


def test_of_two_at_once_one_gets_the_port(swarm: Swarm) -> None:
    on_hosts, everywhere = web("hosts"), web("everywhere")
    on_hosts.endpoint.ports.add(target_port=80, published_port=8080, publish_mode=PUBLISH_MODE_HOST)
    everywhere.endpoint.ports.add(target_port=80, published_port=8080)
    made = [service.create(swarm.store, spec, swarm.ids, 0, "x") for spec in (on_hosts, everywhere)]
    swarm.commit(made[0])
    verdict = swarm.apply(made[1])
    assert verdict.code == VERDICT_PORT_TAKEN
    assert "in use by service 'hosts'" in verdict.message


def test_what_an_update_can_not_change(swarm: Swarm) -> None:
    created = swarm.create(web())
    args = (created.id, created.meta.version)
    renamed = refused(service.update, swarm.store, *args, web("new"), 0, "x")
    assert renamed.message.startswith("renaming services is not supported")
    everywhere = web()
    everywhere.__getattribute__("global").SetInParent()
    moved = refused(service.update, swarm.store, *args, everywhere, 0, "x")
    assert moved.message.startswith("service mode change is not allowed")


def test_an_update_of_an_older_version_is_refused(swarm: Swarm) -> None:
    created = swarm.create(web())
    spec = web(image="nginx:2")
    stale = refused(service.update, swarm.store, created.id, 99, spec, 0, "x")
    assert stale.code is ErrorCode.CONFLICT
    assert "update out of sequence" in stale.message


def test_a_reason_that_managers_note_meanwhile_does_not_refuse_an_update(swarm: Swarm) -> None:
    created = swarm.create(web())
    waiting = Service()
    waiting.CopyFrom(created)
    waiting.pending.message = "no suitable node"
    replace = Change(replace=Object(service=waiting), expected_version=created.meta.version)
    swarm.commit(Transaction(changes=[replace]))
    spec = web(image="nginx:2")
    version = created.meta.version
    swarm.commit(service.update(swarm.store, created.id, version, spec, 0, "x"))
    assert swarm.named("web").revision == 2
    stale = refused(service.update, swarm.store, created.id, version, web(image="nginx:3"), 0, "x")
    assert stale.code is ErrorCode.CONFLICT
    gone = refused(service.update, swarm.store, "none", 1, spec, 0, "x")
    assert gone.code is ErrorCode.NOT_FOUND


def test_remove(swarm: Swarm) -> None:
    created = swarm.create(web())
    transaction = service.remove(swarm.store, created.id, "x")
    swarm.update(web(image="nginx:2"))
    swarm.commit(transaction)
    assert swarm.store.service(created.id) is None
    assert list(swarm.store.services_to_prune()) == [created.id]
    assert refused(service.remove, swarm.store, created.id, "x").code is ErrorCode.NOT_FOUND


def test_two_services_created_at_once_rarely_pick_one_port(swarm: Swarm) -> None:
    picked: set[int] = set()
    for n in range(20):
        spec = web(f"web{n}")
        spec.endpoint.ports.append(PortConfig(target_port=80))
        made = service.create(swarm.store, spec, swarm.ids, 0, "x")
        picked.add(made.changes[0].create.service.ports[0].published_port)
    assert len(picked) >= 19


def test_going_back_to_any_revision_that_is_kept(swarm: Swarm) -> None:
    created = swarm.create(web(image="one"))
    for image in ("two", "three"):
        swarm.update(web(image=image))
    found = swarm.named("web")
    swarm.commit(service.rollback(swarm.store, found.id, found.meta.version, 5, "uid 2", to=1))
    back = swarm.named("web")
    assert swarm.spec().task.container.image == "one"
    assert (back.revision, back.task_revision, back.previous_revision) == (4, 1, 3)
    assert back.update.message == "manually requested rollback to revision 1"
    row = swarm.store.revision_row(created.id, 4)
    assert row is not None
    assert row.who == "uid 2"
    with pytest.raises(InvalidRequest, match="service web is at revision 4 already"):
        service.rollback(swarm.store, back.id, back.meta.version, 6, "uid 2", to=4)
    with pytest.raises(InvalidRequest, match="has no revision 9: it has 1, 2, 3, 4 "):
        service.rollback(swarm.store, back.id, back.meta.version, 6, "uid 2", to=9)


def test_check_index_refuses_what_was_changed_after_it(swarm: Swarm) -> None:
    swarm.create(web(image="one"))
    seen = swarm.store.revision
    found = swarm.named("web")
    version = found.meta.version
    swarm.commit(service.update(swarm.store, found.id, version, web(image="two"), 0, "uid 1", seen))
    found = swarm.named("web")
    for change in (
        lambda: service.update(
            swarm.store, found.id, found.meta.version, web(image="three"), 0, "uid 1", seen
        ),
        lambda: service.rollback(
            swarm.store, found.id, found.meta.version, 0, "uid 1", check_index=seen
        ),
    ):
        with pytest.raises(InvalidRequest) as refused:
            change()
        assert refused.value.message == (
            f"service web was changed at index {seen + 1}, after --check-index {seen}: "
            "look at it again with --plan"
        )
        assert refused.value.code is ErrorCode.INVALID
