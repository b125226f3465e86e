"""Images by name, and what becomes of names: tag, register, remove, prune."""

from __future__ import annotations

import pytest

from swarm.api.v1.image_pb2 import Image, ImageBlob
from swarm.api.v1.service_pb2 import ContainerSpec, Service, ServiceRevision
from swarm.api.v1.store_pb2 import VERDICT_NAME_TAKEN, VERDICT_OK, Change, LogPayload, Transaction
from swarm.manager.core.store import Store, wrap
from swarm.manager.core.validate import InvalidRequest, images

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
CONFIG = "sha256:" + "c" * 64


def image(digest: str, *names: str) -> Image:
    return Image(
        id=digest,
        names=names,
        config_digest=CONFIG,
        blobs=[ImageBlob(digest=digest, size_bytes=10), ImageBlob(digest=CONFIG, size_bytes=5)],
    )


@pytest.fixture
def store() -> Store:
    return Store(check_mutation=True)


def commit(store: Store, transaction: Transaction) -> None:
    applied = store.apply(store.revision + 1, 1, LogPayload(transactions=[transaction]))
    assert [verdict.code for verdict in applied.verdicts] == [VERDICT_OK]
    store.check()


def names(store: Store) -> dict[str, list[str]]:
    return {row.id: list(row.names) for row in store.images()}


def test_a_name_moves_to_what_was_built_last(store: Store) -> None:
    commit(store, images.register(store, [image(A, "web:1")], "me"))
    commit(store, images.register(store, [image(B, "web:1", "web:2")], "me"))
    assert names(store) == {A: [], B: ["web:1", "web:2"]}
    assert images.resolve(store, "docker.io/library/web:1").id == B
    commit(store, images.register(store, [image(A, "web:1")], "me"))
    assert names(store) == {A: ["web:1"], B: ["web:2"]}


@pytest.mark.parametrize("name", ["\x1b[31m:1", "-x:1", "a b:1", "", "web@" + A])
def test_a_name_that_is_none_is_not_made_known(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequest):
        images.register(store, [image(A, name)], "me")


@pytest.mark.parametrize("text", ["", "-x", "UPPER", "a b", "x@md5:00", "../../etc/passwd"])
def test_no_registry_is_asked_for_what_is_no_image(text: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid image reference: "):
        images.check_reference(text)


def test_the_same_image_twice_is_one(store: Store) -> None:
    commit(store, images.register(store, [image(A, "web:1")], "me"))
    commit(store, images.register(store, [image(A, "web:2")], "you"))
    assert names(store) == {A: ["web:1", "web:2"]}
    assert images.resolve(store, A[:12]).id == A
    assert images.resolve(store, "cccccc").id == A
    assert images.resolve(store, f"anything@{A}").id == A


def test_two_clients_can_not_both_have_a_name(store: Store) -> None:
    commit(store, images.register(store, [image(A, "web:1")], "me"))
    rival = Transaction(changes=[Change(create=wrap(image(B, "web:1")))])
    applied = store.apply(store.revision + 1, 1, LogPayload(transactions=[rival]))
    assert applied.verdicts[0].code == VERDICT_NAME_TAKEN
    store.check()


def test_a_tag_is_taken_from_whichever_had_it(store: Store) -> None:
    commit(store, images.register(store, [image(A, "web:1"), image(B, "other:latest")], "me"))
    commit(store, images.tag(store, "other", "web:1", "me"))
    assert names(store) == {A: [], B: ["other:latest", "web:1"]}
    with pytest.raises(InvalidRequest, match="must be lowercase"):
        images.tag(store, "other", "Web", "me")
    with pytest.raises(InvalidRequest, match="image nope not found"):
        images.tag(store, "nope", "web", "me")


def test_removal_untags_first_and_is_refused_while_a_service_uses_it(store: Store) -> None:
    commit(store, images.register(store, [image(A, "web:1", "web:2")], "me"))
    with pytest.raises(InvalidRequest, match="must be forced"):
        images.remove(store, A, False, "me")
    removal = images.remove(store, "web:1", False, "me")
    assert (removal.untagged, removal.deleted) == (["web:1"], [])
    commit(store, removal.transaction)
    container = ContainerSpec(image="web:2")
    images.pin(store, container)
    assert container.image == f"web:2@{A}"
    use(store, container)
    with pytest.raises(InvalidRequest, match=r"web:2.*used by the following service: front"):
        images.remove(store, "web:2", True, "me")
    assert images.prune(store, True, "me").deleted == []


def use(store: Store, container: ContainerSpec) -> None:
    row = ServiceRevision(id="s.1", service_id="s", revision=1)
    row.spec.task.container.CopyFrom(container)
    service = Service(id="s", name="front", revision=1)
    changes = [Change(create=wrap(service)), Change(create=wrap(row))]
    commit(store, Transaction(changes=changes))


def test_prune_takes_what_has_no_name_or_no_user(store: Store) -> None:
    commit(store, images.register(store, [image(A), image(B, "web:1")], "me"))
    dangling = images.prune(store, False, "me")
    assert (dangling.deleted, dangling.reclaimed_bytes) == ([A], 15)
    commit(store, dangling.transaction)
    commit(store, images.prune(store, True, "me").transaction)
    assert names(store) == {}


def test_names_that_are_no_image_of_the_cluster_stay_as_they_are(store: Store) -> None:
    for text in ("nginx", "nginx@" + B, "NOT A NAME"):
        container = ContainerSpec(image=text)
        images.pin(store, container)
        assert container.image == text


def test_an_archive_that_gives_a_name_twice(store: Store) -> None:
    """Nothing that a manager could stumble over is left in the log."""
    commit(store, images.register(store, [image(A, "web:1", "web:1")], "me"))
    assert names(store) == {A: ["web:1"]}
    commit(store, images.remove(store, "web:1", False, "me").transaction)

    twice = Transaction(changes=[Change(create=wrap(image(B, "db:1", "db:1")))])
    commit(store, twice)
    commit(store, images.remove(store, B, True, "me").transaction)
    assert names(store) == {}
