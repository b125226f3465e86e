"""Secrets and configs: what is taken, what is refused, and who holds them."""

from random import Random

import pytest

from swarm.api.v1.config_pb2 import ConfigSpec
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.secret_pb2 import Secret, SecretSpec
from swarm.api.v1.service_pb2 import (
    UPDATE_STATE_COMPLETED,
    UPDATE_STATE_PAUSED,
    UPDATE_STATE_UPDATING,
    Service,
    ServiceSpec,
    UpdateState,
)
from swarm.api.v1.store_pb2 import (
    TABLE_SECRET,
    VERDICT_IN_USE,
    VERDICT_NAME_TAKEN,
    VERDICT_NOT_FOUND,
    LogPayload,
    Transaction,
    Verdict,
)
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, TASK_STATE_SHUTDOWN, Task
from swarm.manager.core.store import Draft, RandomIds, Store
from swarm.manager.core.validate import ErrorCode, InvalidRequest, files, service

WHO = "uid 7"


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

    def secret(self, name: str, data: bytes = b"data") -> Secret:
        self.commit(files.create_secret(self.store, secret(name, data), self.ids, WHO))
        found = self.store.secret_by_name(name)
        assert found is not None
        return found

    def serve(self, *secrets: str) -> str:
        self.commit(service.create(self.store, web(*secrets), self.ids, 0, WHO))
        found = self.store.service_by_name("web")
        assert found is not None
        return found.id

    def update(self, spec: ServiceSpec) -> None:
        found = self.store.service_by_name("web")
        assert found is not None
        self.commit(service.update(self.store, found.id, found.meta.version, spec, 0, WHO))

    def remove(self, name: str) -> Transaction:
        found = self.store.secret_by_name(name)
        assert found is not None
        return files.remove_secret(self.store, found.id, WHO)


def secret(name: str, data: bytes = b"data", **fields: str) -> SecretSpec:
    spec = SecretSpec(data=data, **fields)
    spec.annotations.name = name
    return spec


def config(name: str, data: bytes = b"data") -> ConfigSpec:
    spec = ConfigSpec(data=data)
    spec.annotations.name = name
    return spec


def web(*secrets: str) -> ServiceSpec:
    spec = ServiceSpec()
    spec.annotations.name = "web"
    spec.task.container.image = "nginx"
    for name in secrets:
        spec.task.container.secrets.add(secret_name=name)
    return spec


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


def test_what_is_made_says_by_whom(swarm: Swarm) -> None:
    made = swarm.secret("key")
    assert (made.who, made.spec.data, made.meta.version) == (WHO, b"data", 1)


@pytest.mark.parametrize("name", ["a", "a.b-c_d", "9", "x" * 64])
def test_names(swarm: Swarm, name: str) -> None:
    swarm.secret(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a/b", "x" * 65, "a b"])
def test_names_that_are_refused(swarm: Swarm, name: str) -> None:
    with pytest.raises(InvalidRequest):
        files.create_secret(swarm.store, secret(name), swarm.ids, WHO)


def test_sizes(swarm: Swarm) -> None:
    swarm.secret("key", b"x" * (500 * 1024 - 1))
    for size in (0, 500 * 1024):
        with pytest.raises(InvalidRequest, match="less than 512000 bytes"):
            files.create_secret(swarm.store, secret("k", b"x" * size), swarm.ids, WHO)
    files.create_config(swarm.store, config("c", b"x" * (1000 * 1024 - 1)), swarm.ids, WHO)
    with pytest.raises(InvalidRequest, match="less than 1024000 bytes"):
        files.create_config(swarm.store, config("c", b"x" * 1000 * 1024), swarm.ids, WHO)


def test_a_template_driver_is_golang_or_none(swarm: Swarm) -> None:
    files.create_secret(swarm.store, secret("k", template_driver="golang"), swarm.ids, WHO)
    with pytest.raises(InvalidRequest, match="there is golang"):
        files.create_secret(swarm.store, secret("k", template_driver="perl"), swarm.ids, WHO)


def test_a_name_is_taken_once_for_each_noun(swarm: Swarm) -> None:
    racing = files.create_secret(swarm.store, secret("key"), swarm.ids, WHO)
    swarm.secret("key")
    swarm.commit(files.create_config(swarm.store, config("key"), swarm.ids, WHO))
    with pytest.raises(InvalidRequest, match="secret key already exists") as refused:
        files.create_secret(swarm.store, secret("key"), swarm.ids, WHO)
    assert refused.value.code is ErrorCode.ALREADY_EXISTS
    assert swarm.apply(racing).code == VERDICT_NAME_TAKEN
    swarm.commit(swarm.remove("key"))
    swarm.secret("key")


def test_labels_alone_are_changed(swarm: Swarm) -> None:
    made = swarm.secret("key")
    spec = SecretSpec()
    spec.annotations.labels["a"] = "b"
    swarm.commit(files.update_secret(swarm.store, made.id, made.meta.version, spec, WHO))
    found = swarm.store.secret(made.id)
    assert found is not None
    assert (dict(found.spec.annotations.labels), found.spec.data) == ({"a": "b"}, b"data")
    with pytest.raises(InvalidRequest, match="only updates to Labels are allowed") as refused:
        files.update_secret(
            swarm.store, made.id, found.meta.version, secret("key", b"replaced"), WHO
        )
    assert "replaced" not in str(refused.value)
    with pytest.raises(InvalidRequest, match="out of sequence"):
        files.update_secret(swarm.store, made.id, made.meta.version, spec, WHO)


def test_a_service_gets_ids_names_and_targets(swarm: Swarm) -> None:
    made = swarm.secret("key")
    spec = swarm.store.spec(swarm.serve("key"), 1)
    assert spec is not None
    (reference,) = spec.task.container.secrets
    assert (reference.secret_id, reference.secret_name) == (made.id, "key")
    assert (reference.file.name, reference.file.mode) == ("key", 0o444)


def test_what_is_not_there_is_named(swarm: Swarm) -> None:
    swarm.secret("key")
    with pytest.raises(InvalidRequest, match="secrets not found: a, b") as refused:
        service.create(swarm.store, web("a", "key", "b"), swarm.ids, 0, WHO)
    assert refused.value.code is ErrorCode.NOT_FOUND


def test_a_target_is_taken_once(swarm: Swarm) -> None:
    swarm.secret("one")
    swarm.secret("two")
    spec = web("one", "two")
    spec.task.container.secrets[0].file.name = "/run/secrets/two"
    with pytest.raises(InvalidRequest, match="'one' and 'two' have a conflicting target: 'two'"):
        service.create(swarm.store, spec, swarm.ids, 0, WHO)


def test_what_a_service_uses_stays(swarm: Swarm) -> None:
    swarm.secret("key")
    racing = swarm.remove("key")
    swarm.serve("key")
    with pytest.raises(InvalidRequest, match="in use by the following service: web") as refused:
        swarm.remove("key")
    assert refused.value.code is ErrorCode.FAILED_PRECONDITION
    verdict = swarm.apply(racing)
    assert verdict.code == VERDICT_IN_USE
    assert "secret 'key' is in use by the following service: web" in verdict.message
    swarm.update(web())
    swarm.commit(swarm.remove("key"))


def test_tasks_of_the_spec_before_hold_it_while_they_are_wanted(swarm: Swarm) -> None:
    swarm.secret("key")
    service_id = swarm.serve("key")
    task = Task(id="t", service_id=service_id, revision=1, desired_state=TASK_STATE_RUNNING)
    draft = Draft(swarm.store)
    draft.create(task)
    swarm.commit(draft.transactions()[0])
    swarm.update(web())
    with pytest.raises(InvalidRequest, match="in use"):
        swarm.remove("key")
    stored = swarm.store.task("t")
    assert stored is not None
    stopped = Task()
    stopped.CopyFrom(stored)
    stopped.desired_state = TASK_STATE_SHUTDOWN
    draft = Draft(swarm.store)
    draft.replace(stopped)
    swarm.commit(draft.transactions()[0])
    swarm.commit(swarm.remove("key"))


def test_an_update_that_may_be_rolled_back_holds_what_the_spec_before_names(swarm: Swarm) -> None:
    swarm.secret("key")
    service_id = swarm.serve("key")
    swarm.update(web())
    for state in (UPDATE_STATE_UPDATING, UPDATE_STATE_PAUSED):
        set_update(swarm, service_id, state)
        with pytest.raises(InvalidRequest, match="in use by the following service: web"):
            swarm.remove("key")
    set_update(swarm, service_id, UPDATE_STATE_COMPLETED)
    swarm.commit(swarm.remove("key"))


def test_what_is_gone_cannot_be_rolled_back_to(swarm: Swarm) -> None:
    swarm.secret("key")
    service_id = swarm.serve("key")
    swarm.update(web())
    swarm.commit(swarm.remove("key"))
    found = swarm.store.service(service_id)
    assert found is not None
    with pytest.raises(InvalidRequest, match="secret not found: key"):
        service.rollback(swarm.store, service_id, found.meta.version, 0, WHO)


def set_update(swarm: Swarm, service_id: str, state: UpdateState.ValueType) -> None:
    found = swarm.store.service(service_id)
    assert found is not None
    changed = Service()
    changed.CopyFrom(found)
    changed.update.state = state
    draft = Draft(swarm.store)
    draft.replace(changed)
    swarm.commit(draft.transactions()[0])


def test_a_service_loses_to_a_removal_that_came_first(swarm: Swarm) -> None:
    swarm.secret("key")
    racing = service.create(swarm.store, web("key"), swarm.ids, 0, WHO)
    swarm.commit(swarm.remove("key"))
    assert swarm.apply(racing).code == VERDICT_NOT_FOUND


def test_a_snapshot_has_them_and_what_is_known_of_them(swarm: Swarm) -> None:
    made = swarm.secret("key")
    swarm.serve("key")
    restored = Store.restore(swarm.store.snapshot(1, 1, ConfState()).pieces())
    assert restored.secret_by_name("key") == made
    assert restored.services_using(TABLE_SECRET, made.id) == ["web"]
