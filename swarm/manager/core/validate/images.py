"""Images as users name them, and what they ask for them: requests to transactions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.service_pb2 import ContainerSpec
from swarm.api.v1.store_pb2 import TABLE_IMAGE, Change, Deletion, Transaction
from swarm.manager.core.store import View, wrap
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest
from swarm.manager.core.validate.reference import InvalidReference, Reference, parse

_SHORTEST_ID = 4
_SHA256 = "sha256:"


@dataclass(slots=True)
class Removal:
    """What a removal comes to, in Docker's words."""

    transaction: Transaction = field(default_factory=Transaction)
    untagged: list[str] = field(default_factory=list[str])
    deleted: list[str] = field(default_factory=list[str])
    reclaimed_bytes: int = 0


def size_of(image: Image) -> int:
    """Bytes on a node's disk."""
    return sum(blob.size_bytes for blob in image.blobs)


def normal_name(text: str) -> str:
    """NAME:TAG as a person writes it. Raises InvalidRequest."""
    reference = _parsed(text)
    if reference.digest:
        raise InvalidRequest(f"'{text}' has a digest: an image is named NAME[:TAG]")
    return reference.with_default_tag().familiar


def check_reference(text: str) -> None:
    """Of a registry's image. Raises InvalidRequest."""
    _parsed(text)


def find(view: View, text: str) -> Image | None:
    """By name, by name and digest (the digest decides), or by the beginning of an id."""
    by_id = _by_id(view, text)
    if by_id is not None:
        return by_id
    try:
        reference = parse(text)
    except InvalidReference:
        return None
    if reference.digest:
        return view.image(reference.digest)
    return view.image_by_name(reference.with_default_tag().familiar)


def resolve(view: View, text: str) -> Image:
    """Raises InvalidRequest."""
    found = find(view, text)
    if found is None:
        if not text.startswith(_SHA256):
            _parsed(text)
        raise InvalidRequest(f"image {text} not found", ErrorCode.NOT_FOUND)
    return found


def pin(view: View, container: ContainerSpec) -> None:
    """A name that is an image's of the cluster now means this very image, on all nodes and for
    good: NAME:TAG@DIGEST. Other names are left for a registry, or the node's engine."""
    try:
        reference = parse(container.image)
    except InvalidReference:
        return
    image = named(view, container.image)
    if image is not None:
        container.image = f"{reference.with_default_tag().familiar}@{image.id}"


def named(view: View, text: str) -> Image | None:
    """By its name alone; a text with a digest is no name."""
    try:
        reference = parse(text)
    except InvalidReference:
        return None
    if reference.digest:
        return None
    return view.image_by_name(reference.with_default_tag().familiar)


def register(view: View, images: Iterable[Image], who: str) -> Transaction:
    """Makes known what a node took in; a name leaves whichever image had it. Raises InvalidRequest:
    the names in an archive are whatever its maker wrote."""
    rows = _Rows(view)
    for image in images:
        names = [normal_name(name) for name in image.names]
        for name in names:
            rows.take_name(name, image.id)
        row = rows.get(image.id)
        if row is None:
            row = Image()
            row.CopyFrom(image)
            row.names[:] = dict.fromkeys(names)
            row.keeper_node_ids[:] = dict.fromkeys(image.keeper_node_ids)
            row.who = who
            rows.put(row)
        else:
            row.names[:] = dict.fromkeys([*row.names, *names])
            rows.put(row)
    return rows.transaction(who)


def tag(view: View, source: str, target: str, who: str) -> Transaction:
    """Raises InvalidRequest."""
    name = normal_name(target)
    rows = _Rows(view)
    image_id = resolve(view, source).id
    rows.take_name(name, image_id)
    row = rows.get(image_id)
    assert row is not None, "it was resolved a moment ago"
    row.names[:] = dict.fromkeys([*row.names, name])
    rows.put(row)
    return rows.transaction(who)


def remove(view: View, text: str, force: bool, who: str) -> Removal:
    """The name; with the last one, or by its id, the image. Raises InvalidRequest."""
    image = resolve(view, text)
    name = "" if _by_id(view, text) is not None else _name_in(image, text)
    removal, rows = Removal(), _Rows(view)
    if name and len(image.names) > 1:
        row = rows.get(image.id)
        assert row is not None, "it was resolved a moment ago"
        row.names.remove(name)
        rows.put(row)
        removal.untagged.append(name)
    else:
        if not name and len(image.names) > 1 and not force:
            raise InvalidRequest(
                f"conflict: unable to delete {short_id(image.id)} (must be forced) - image is "
                "referenced in multiple repositories",
                ErrorCode.FAILED_PRECONDITION,
            )
        users = services_using(view, image)
        if users:
            which = "service" if len(users) == 1 else "services"
            raise InvalidRequest(
                f"conflict: unable to remove image '{text}' (cannot be forced) - it is used by the "
                f"following {which}: {', '.join(users)}",
                ErrorCode.FAILED_PRECONDITION,
            )
        _delete(rows, image, removal)
    removal.transaction = rows.transaction(who)
    return removal


def prune(view: View, every: bool, who: str) -> Removal:
    """Dangling images, or (`every`) all that no service uses."""
    removal, rows = Removal(), _Rows(view)
    for image in view.images():
        if (every or not image.names) and not services_using(view, image):
            _delete(rows, image, removal)
    removal.transaction = rows.transaction(who)
    return removal


def services_using(view: View, image: Image) -> list[str]:
    """The names of the services that run it, or may be rolled back to it."""
    users: list[str] = []
    for service in view.services():
        specs = (view.spec(service.id, r) for r in (service.revision, service.previous_revision))
        if any(spec is not None and image.id in spec.task.container.image for spec in specs):
            users.append(service.name)
    return sorted(users)


def saved_name(view: View, text: str) -> str:
    """The name that an archive of this image gives it: the one it was asked by, or none."""
    return "" if _by_id(view, text) is not None else _name_in(resolve(view, text), text)


def short_id(digest: str) -> str:
    return digest.removeprefix(_SHA256)[:12]


def _delete(rows: "_Rows", image: Image, removal: Removal) -> None:
    rows.delete(image)
    removal.untagged += image.names
    removal.deleted.append(image.id)
    removal.reclaimed_bytes += size_of(image)


def _name_in(image: Image, text: str) -> str:
    reference = _parsed(text)
    name = Reference(reference.domain, reference.path, reference.tag, "")
    familiar = name.familiar if reference.digest else name.with_default_tag().familiar
    return familiar if familiar in image.names else ""


def _by_id(view: View, text: str) -> Image | None:
    digits = text.removeprefix(_SHA256)
    if len(digits) < _SHORTEST_ID or not set(digits) <= set("0123456789abcdef"):
        return None
    ids: Sequence[str] = view.ids_with_prefix(TABLE_IMAGE, _SHA256 + digits)
    if len(ids) == 1:
        return view.image(ids[0])
    by_config = [row for row in view.images() if row.config_digest.startswith(_SHA256 + digits)]
    return by_config[0] if len(by_config) == 1 else None


def _parsed(text: str) -> Reference:
    try:
        return parse(text)
    except InvalidReference as error:
        raise InvalidRequest(f"invalid image reference: {error}") from None


class _Rows:
    """Rows as they will be: each is changed once in a transaction, however often here."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._changed: dict[str, Image] = {}
        self._deleted: dict[str, Image] = {}

    def get(self, image_id: str) -> Image | None:
        """A copy to change and put."""
        if image_id in self._changed:
            return self._changed[image_id]
        row = self._view.image(image_id)
        if row is None:
            return None
        copy = Image()
        copy.CopyFrom(row)
        return copy

    def put(self, row: Image) -> None:
        self._changed[row.id] = row

    def delete(self, row: Image) -> None:
        self._deleted[row.id] = row

    def take_name(self, name: str, for_id: str) -> None:
        """From whichever has it, unless that is the image that gets it."""
        holders = [row.id for row in self._changed.values() if name in row.names]
        stored = self._view.image_by_name(name)
        if stored is not None and stored.id not in self._changed:
            holders.append(stored.id)
        for image_id in holders:
            row = self.get(image_id)
            if row is not None and image_id != for_id:
                row.names.remove(name)
                self.put(row)

    def transaction(self, who: str) -> Transaction:
        """Rows that lose a name come first: a name is one row's at any moment."""
        creates: list[Change] = []
        replaces: list[tuple[bool, Change]] = []
        for row in self._changed.values():
            stored = self._view.image(row.id)
            if stored is None:
                creates.append(Change(create=wrap(row)))
            elif stored != row:
                gains = bool(set(row.names) - set(stored.names))
                change = Change(replace=wrap(row), expected_version=stored.meta.version)
                replaces.append((gains, change))
        replaces.sort(key=lambda pair: pair[0])
        deletes = [
            Change(delete=Deletion(table=TABLE_IMAGE, id=row.id), expected_version=row.meta.version)
            for row in self._deleted.values()
        ]
        return Transaction(who=who, changes=[*deletes, *(c for _, c in replaces), *creates])
