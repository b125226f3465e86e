"""A stack's deployment and removal: one request, one transaction, whatever it is made of.

Each part is checked over a draft that has the parts before it, as if they had been asked for one
after the other; the whole takes effect, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from swarm.api.v1.config_pb2 import Config, ConfigSpec
from swarm.api.v1.control_pb2 import (
    STACK_ACTION_CREATED,
    STACK_ACTION_REMOVED,
    STACK_ACTION_UNCHANGED,
    STACK_ACTION_UPDATED,
    DeployStackRequest,
    StackAction,
    StackChange,
)
from swarm.api.v1.secret_pb2 import Secret, SecretSpec
from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
from swarm.api.v1.store_pb2 import TABLE_SERVICE, Change, Guard, Table, Transaction
from swarm.manager.core.orchestrator.dependencies import cycle_of
from swarm.manager.core.store import Draft, Ids, View, noun_of, table_of
from swarm.manager.core.store.objects import unwrap
from swarm.manager.core.validate import files, registry_login, service
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest
from swarm.stacks import STACK_LABEL

_Spec = TypeVar("_Spec", ServiceSpec, SecretSpec, ConfigSpec)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def deploy(
    view: View, request: DeployStackRequest, ids: Ids, now_ns: int, who: str
) -> tuple[Transaction, list[StackChange]]:
    """What the stack's parts become. Services come after what they depend on.

    Raises InvalidRequest.
    """
    check_name(request.name)
    work = _Deployment(view, request.name, ids, now_ns, who)
    for secret in request.secrets:
        work.secret(_of_stack(secret, SecretSpec(), request.name))
    for config in request.configs:
        work.config(_of_stack(config, ConfigSpec(), request.name))
    specs = [_of_stack(spec, ServiceSpec(), request.name) for spec in request.services]
    if request.HasField("check_index"):
        for old in services_of(view, request.name):
            service.check_version(view, old.id, 0, request.check_index)
    for spec in specs:
        work.service(spec, request.registry_auths.get(spec.annotations.name, ""))
    if request.prune:
        wanted = {spec.annotations.name for spec in specs}
        for old in services_of(view, request.name):
            if old.name not in wanted:
                work.remove_service(old)
    _check_dependencies(work.draft, request.name, specs)
    return work.transaction(), work.done


def remove(view: View, name: str, who: str) -> tuple[Transaction, list[StackChange]]:
    """Services, secrets and configs of the stack go; the brain removes the tasks.

    Raises InvalidRequest where there is nothing of that name, or where a service of another stack
    uses a secret or a config.
    """
    work = _Deployment(view, name, None, 0, who)
    for old in services_of(view, name):
        work.remove_service(old)
    rows: list[Secret | Config] = [
        *_labelled(view.secrets(), name),
        *_labelled(view.configs(), name),
    ]
    gone = {change.name for change in work.done}
    for row in rows:
        work.remove_file(row, gone)
    if not work.done:
        raise InvalidRequest(f"nothing found in stack: {name}", ErrorCode.NOT_FOUND)
    return work.transaction(), work.done


def check_name(name: str) -> None:
    """Raises InvalidRequest."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"invalid stack name '{name}': it is made of letters, digits, '.', '_' and '-'"
        )


def services_of(view: View, stack: str) -> list[Service]:
    """Those that a deployment of the stack made."""
    found: list[Service] = []
    for row in view.services():
        spec = view.spec(row.id, row.revision)
        if spec is not None and spec.annotations.labels.get(STACK_LABEL) == stack:
            found.append(row)
    return found


@dataclass(slots=True)
class _Deployment:
    """The transaction as far as it has come, and the draft that shows it."""

    view: View
    stack: str
    ids: Ids | None
    now_ns: int
    who: str
    draft: Draft = field(init=False)
    done: list[StackChange] = field(default_factory=list[StackChange])
    changes: list[Change] = field(default_factory=list[Change])
    guards: list[Guard] = field(default_factory=list[Guard])

    def __post_init__(self) -> None:
        self.draft = Draft(self.view)

    def secret(self, spec: SecretSpec) -> None:
        old = self.draft.secret_by_name(spec.annotations.name)
        self._file(
            old,
            spec,
            lambda ids: files.create_secret(self.draft, spec, ids, self.who),
            lambda row: files.update_secret(self.draft, row.id, row.meta.version, spec, self.who),
        )

    def config(self, spec: ConfigSpec) -> None:
        old = self.draft.config_by_name(spec.annotations.name)
        self._file(
            old,
            spec,
            lambda ids: files.create_config(self.draft, spec, ids, self.who),
            lambda row: files.update_config(self.draft, row.id, row.meta.version, spec, self.who),
        )

    def _file(
        self,
        old: Secret | Config | None,
        spec: SecretSpec | ConfigSpec,
        create: Callable[[Ids], Transaction],
        update: Callable[[Secret | Config], Transaction],
    ) -> None:
        if old is None:
            assert self.ids is not None, "only a deployment creates"
            self._perform(create(self.ids))
            return
        noun, name = noun_of(table_of(old)), spec.annotations.name
        self._check_ours(noun, name, old.spec.annotations.labels.get(STACK_LABEL))
        if old.spec.data != spec.data or old.spec.template_driver != spec.template_driver:
            raise InvalidRequest(
                f"{noun} {name} has other content now, and {noun}s can't be changed: give it "
                f"another name (name: {name}_v2), and the services follow",
                ErrorCode.FAILED_PRECONDITION,
            )
        if old.spec == spec:
            self._note(old.id, table_of(old), name, STACK_ACTION_UNCHANGED)
            return
        self._perform(update(old))

    def service(self, spec: ServiceSpec, registry_auth: str) -> None:
        name = spec.annotations.name
        old = self.draft.service_by_name(name)
        if old is None:
            assert self.ids is not None, "only a deployment creates"
            made = service.create(self.draft, spec, self.ids, self.now_ns, self.who)
            registry_login.give(made, registry_auth)
            self._perform(made)
            return
        before = self.draft.spec(old.id, old.revision)
        assert before is not None, "a service's current revision is never pruned"
        self._check_ours("service", name, before.annotations.labels.get(STACK_LABEL))
        # `service update --force` of the past is no difference.
        spec.task.force_update = spec.task.force_update or before.task.force_update
        same_login = registry_auth in ("", old.registry_auth)
        if same_login and service.whole(self.draft, spec) == before:
            self._note(old.id, TABLE_SERVICE, name, STACK_ACTION_UNCHANGED)
            return
        version = old.meta.version
        update = service.update(self.draft, old.id, version, spec, self.now_ns, self.who)
        registry_login.give(update, registry_auth)
        self._perform(update)

    def remove_service(self, old: Service) -> None:
        self._perform(service.remove(self.draft, old.id, self.who))

    def remove_file(self, row: Secret | Config, gone: set[str]) -> None:
        """Services that go in the same transaction do not use it any more."""
        table = table_of(row)
        users = [name for name in self.view.services_using(table, row.id) if name not in gone]
        if users:
            raise InvalidRequest(
                f"{noun_of(table)} {row.spec.annotations.name} of the stack is in use by "
                f"{', '.join(users)}: remove that service first",
                ErrorCode.FAILED_PRECONDITION,
            )
        self._perform(files.deletion(row, self.who))

    def transaction(self) -> Transaction:
        return Transaction(who=self.who, guards=self.guards, changes=self.changes)

    def _check_ours(self, noun: str, name: str, stack: str | None) -> None:
        if stack == self.stack:
            return
        holder = f"of stack {stack}" if stack else "of no stack"
        raise InvalidRequest(
            f"{noun} {name} exists and is {holder}: remove it, or choose another stack name",
            ErrorCode.ALREADY_EXISTS,
        )

    def _perform(self, part: Transaction) -> None:
        """Into the draft, and into the whole."""
        for change in part.changes:
            operation = change.WhichOneof("operation")
            if operation == "create":
                row = unwrap(change.create)[1]
                self.draft.create(row)
                self._note_row(row, STACK_ACTION_CREATED)
            elif operation == "replace":
                row = unwrap(change.replace)[1]
                self.draft.replace(row)
                self._note_row(row, STACK_ACTION_UPDATED)
            else:
                gone = change.delete
                self._note_row(self._row(gone.id), STACK_ACTION_REMOVED)
                self.draft.delete(gone.table, gone.id)
            if isinstance(row := self._revision_of(change), ServiceRevision):
                self.done[-1].after.CopyFrom(row.spec)
        self.changes += part.changes
        # What this transaction makes is not there yet when its guards are looked at.
        self.guards += [g for g in part.guards if g.version and g not in self.guards]

    @staticmethod
    def _revision_of(change: Change) -> ServiceRevision | None:
        """Its row comes after its service's."""
        has = change.WhichOneof("operation") == "create"
        return (
            change.create.service_revision
            if has and change.create.HasField("service_revision")
            else None
        )

    def _row(self, key: str) -> object:
        return self.draft.service(key) or self.draft.secret(key) or self.draft.config(key)

    def _note_row(self, row: object, action: StackAction.ValueType) -> None:
        if isinstance(row, Service):
            self._note(row.id, TABLE_SERVICE, row.name, action)
            old = self.view.service(row.id)
            if old is not None:
                self.done[-1].before.CopyFrom(self.view.spec(old.id, old.revision) or ServiceSpec())
        elif isinstance(row, Secret | Config):
            self._note(row.id, table_of(row), row.spec.annotations.name, action)

    def _note(
        self, key: str, table: Table.ValueType, name: str, action: StackAction.ValueType
    ) -> None:
        self.done.append(StackChange(table=table, id=key, name=name, action=action))


def _of_stack(spec: _Spec, copy: _Spec, stack: str) -> _Spec:
    copy.CopyFrom(spec)
    copy.annotations.labels[STACK_LABEL] = stack
    return copy


def _labelled(rows: Iterable[Secret] | Iterable[Config], stack: str) -> list[Secret | Config]:
    return [row for row in rows if row.spec.annotations.labels.get(STACK_LABEL) == stack]


def _check_dependencies(draft: Draft, stack: str, specs: Sequence[ServiceSpec]) -> None:
    for spec in specs:
        for dependency in spec.depends_on:
            if draft.service_by_name(dependency.service_name) is None:
                raise InvalidRequest(
                    f"service {spec.annotations.name} depends on {dependency.service_name}, "
                    "which is not there",
                    ErrorCode.NOT_FOUND,
                )
    # Services that this deployment does not name may wait as well.
    of_stack = [draft.spec(row.id, row.revision) for row in services_of(draft, stack)]
    cycle = cycle_of([spec for spec in of_stack if spec is not None])
    if cycle:
        raise InvalidRequest(f"a cycle of depends_on: {' -> '.join(cycle)}")
