"""A stack is one change: all of it, or nothing."""

import random

import pytest

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.config_pb2 import ConfigSpec
from swarm.api.v1.secret_pb2 import SecretSpec
from swarm.api.v1.service_pb2 import (
    ContainerSpec,
    SecretReference,
    ServiceDependency,
    ServiceSpec,
    TaskSpec,
)
from swarm.api.v1.store_pb2 import VERDICT_OK, LogPayload
from swarm.api.v1.types_pb2 import Annotations
from swarm.manager.core.store import RandomIds, Store
from swarm.manager.core.validate import InvalidRequest, service, stack
from swarm.manager.core.validate.registry_login import without_login


class Cluster:
    def __init__(self) -> None:
        self.store = Store(check_mutation=True)
        self.ids = RandomIds(random.Random(1).getrandbits)
        self.index = 0
        self.logins: dict[str, str] = {}

    def apply(self, transaction) -> None:
        self.index += 1
        applied = self.store.apply(self.index, 1, LogPayload(transactions=[transaction]))
        assert [v.code for v in applied.verdicts] == [VERDICT_OK], applied.verdicts

    def deploy(self, *parts, name="s", prune=False):
        request = pb.DeployStackRequest(name=name, prune=prune, registry_auths=self.logins)
        for part in parts:
            kinds = {ServiceSpec: "services", SecretSpec: "secrets", ConfigSpec: "configs"}
            getattr(request, kinds[type(part)]).append(part)
        transaction, changes = stack.deploy(self.store, request, self.ids, 0, "me")
        self.apply(transaction)
        return [(c.name, c.action) for c in changes]

    def remove(self, name="s"):
        transaction, changes = stack.remove(self.store, name, "me")
        self.apply(transaction)
        return [(c.name, c.action) for c in changes]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def spec(name, *, image="x", secrets=(), needs=()):
    references = [SecretReference(secret_name=secret) for secret in secrets]
    made = ServiceSpec(
        annotations=Annotations(name=name),
        task=TaskSpec(container=ContainerSpec(image=image, secrets=references)),
        depends_on=[ServiceDependency(service_name=other) for other in needs],
    )
    made.replicated.replicas = 1
    return made


def secret(name, data=b"hush"):
    return SecretSpec(annotations=Annotations(name=name), data=data)


CREATED, UPDATED = pb.STACK_ACTION_CREATED, pb.STACK_ACTION_UPDATED
UNCHANGED, REMOVED = pb.STACK_ACTION_UNCHANGED, pb.STACK_ACTION_REMOVED


def test_services_use_secrets_of_the_same_deployment(cluster):
    done = cluster.deploy(secret("s_key"), spec("s_web", secrets=["s_key"]))
    assert done == [("s_key", CREATED), ("s_web", CREATED)]
    web = cluster.store.service_by_name("s_web")
    (reference,) = cluster.store.spec(web.id, 1).task.container.secrets
    assert reference.secret_id == cluster.store.secret_by_name("s_key").id


def test_the_same_again_changes_nothing(cluster):
    parts = [secret("s_key"), spec("s_web", secrets=["s_key"])]
    cluster.deploy(*parts)
    revision = cluster.store.revision
    assert cluster.deploy(*parts) == [("s_key", UNCHANGED), ("s_web", UNCHANGED)]
    assert cluster.store.service_by_name("s_web").revision == 1
    assert cluster.store.revision <= revision + 1


def test_what_differs_is_updated_and_the_rest_stays_unless_pruned(cluster):
    cluster.deploy(spec("s_web"), spec("s_db"))
    assert cluster.deploy(spec("s_web", image="y")) == [("s_web", UPDATED)]
    assert cluster.store.service_by_name("s_db") is not None
    assert cluster.deploy(spec("s_web", image="y"), prune=True) == [
        ("s_web", UNCHANGED),
        ("s_db", REMOVED),
    ]
    assert cluster.store.service_by_name("s_db") is None


def test_one_part_that_is_wrong_and_nothing_is_there(cluster):
    with pytest.raises(InvalidRequest, match="image"):
        cluster.deploy(secret("s_key"), spec("s_web"), spec("s_db", image=""))
    assert not list(cluster.store.services())
    assert not list(cluster.store.secrets())


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([spec("s_a", needs=["s_b"])], "service s_a depends on s_b, which is not there"),
        (
            [spec("s_a", needs=["s_b"]), spec("s_b", needs=["s_a"])],
            "a cycle of depends_on: s_a -> s_b -> s_a",
        ),
        ([spec("s_a", secrets=["none"])], "secret not found: none"),
    ],
)  # fmt: skip
def test_what_can_never_start(cluster, parts, said):
    with pytest.raises(InvalidRequest, match=said):
        cluster.deploy(*parts)


def test_no_ring_is_closed_with_a_service_of_an_earlier_deployment(cluster):
    cluster.deploy(spec("s_db"), spec("s_a", needs=["s_db"]), spec("s_b", needs=["s_a"]))
    with pytest.raises(InvalidRequest, match="a cycle of depends_on: s_a -> s_b -> s_a"):
        cluster.deploy(spec("s_a", needs=["s_b"]))
    cluster.deploy(spec("s_a", needs=["s_db"]), spec("s_db", needs=[]), prune=True)
    cluster.deploy(spec("s_db"), spec("s_a", needs=["s_db"]))


def test_a_secret_does_not_change_its_content(cluster):
    cluster.deploy(secret("s_key"))
    with pytest.raises(InvalidRequest, match=r"secret s_key has other content now.*s_key_v2"):
        cluster.deploy(secret("s_key", b"other"))


def test_a_service_of_somebody_else_is_left_alone(cluster):
    cluster.apply(service.create(cluster.store, spec("s_web"), cluster.ids, 0, "me"))
    with pytest.raises(InvalidRequest, match="service s_web exists and is of no stack"):
        cluster.deploy(spec("s_web", image="y"))


def test_the_stack_goes_as_one(cluster):
    cluster.deploy(secret("s_key"), spec("s_web", secrets=["s_key"]))
    cluster.deploy(spec("other_web"), name="other")
    assert cluster.remove() == [("s_web", REMOVED), ("s_key", REMOVED)]
    assert [s.name for s in cluster.store.services()] == ["other_web"]
    with pytest.raises(InvalidRequest, match="nothing found in stack: s"):
        cluster.remove()


def test_a_secret_that_another_service_uses_keeps_the_stack(cluster):
    cluster.deploy(secret("s_key"), spec("s_web", secrets=["s_key"]))
    cluster.deploy(spec("other_web", secrets=["s_key"]), name="other")
    with pytest.raises(InvalidRequest, match="s_key of the stack is in use by other_web"):
        cluster.remove()


def test_a_service_that_depends_on_others_begins_held(cluster):
    cluster.deploy(spec("s_db"), spec("s_web", needs=["s_db"]))
    assert cluster.store.service_by_name("s_web").held
    assert not cluster.store.service_by_name("s_db").held


def test_what_somebody_changed_meanwhile(cluster):
    cluster.deploy(spec("s_web"))
    index = cluster.store.revision
    cluster.deploy(spec("s_web", image="y"))
    request = pb.DeployStackRequest(name="s", services=[spec("s_web")], check_index=index)
    with pytest.raises(InvalidRequest, match=f"after --check-index {index}"):
        stack.deploy(cluster.store, request, cluster.ids, 0, "me")
    request.check_index = cluster.store.revision
    stack.deploy(cluster.store, request, cluster.ids, 0, "me")


def test_a_login_is_the_services_and_of_no_spec(cluster) -> None:
    cluster.logins = {"a": "login"}
    cluster.deploy(spec("a"), spec("b"))
    first, other = (cluster.store.service_by_name(name) for name in "ab")
    assert (first.registry_auth, other.registry_auth) == ("login", "")
    unchanged = [("a", pb.STACK_ACTION_UNCHANGED)]
    assert cluster.deploy(spec("a")) == unchanged
    cluster.logins = {}
    assert cluster.deploy(spec("a")) == unchanged
    cluster.logins = {"a": "another"}
    assert cluster.deploy(spec("a")) == [("a", pb.STACK_ACTION_UPDATED)]
    again = cluster.store.service_by_name("a")
    assert (again.registry_auth, again.revision) == ("another", first.revision)
    assert without_login(again).registry_auth == ""
    cluster.logins = {"a": "x" * (65 << 10)}
    with pytest.raises(InvalidRequest, match="larger than 64 KiB"):
        cluster.deploy(spec("a"))
