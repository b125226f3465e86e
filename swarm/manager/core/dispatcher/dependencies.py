"""The secrets, configs and logins that one session's tasks need: what is to be sent or forgotten.

Each is sent once, to nodes that need it alone, and withdrawn when no task there needs it any more.
A task needs them until it has ended or is to stop: what it runs with is laid out for it by then.
A service's login to its registry goes by the service's id; a new one goes out with the next task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swarm.api.v1.dispatcher_pb2 import Dependencies, RegistryLogin
from swarm.api.v1.store_pb2 import TABLE_CONFIG, TABLE_SECRET, TABLE_SERVICE, Table
from swarm.api.v1.task_pb2 import TASK_STATE_ASSIGNED, Task
from swarm.manager.core.store import FileKey, View, ended, files_of_container, wanted

# What is larger goes in several messages: a stream of many tasks is not to be held up for long.
MESSAGE_BYTES = 1 << 20


def needed_by(task: Task | None, view: View) -> tuple[FileKey, ...]:
    """What its node has to be given for it."""
    if task is None or task.status.state < TASK_STATE_ASSIGNED or ended(task) or not wanted(task):
        return ()
    spec = view.spec(task.service_id, task.revision)
    if spec is None:
        return ()
    login = [(TABLE_SERVICE, task.service_id)] if _login(view, task.service_id) else []
    return tuple(dict.fromkeys([*files_of_container(spec.task.container), *login]))


class SentDependencies:
    def __init__(self) -> None:
        self._needs: dict[str, tuple[FileKey, ...]] = {}
        self._users: dict[FileKey, dict[str, None]] = {}
        # Of a login what it was: all else is never another under its id.
        self._sent: dict[FileKey, str] = {}

    def needs(self, task_id: str) -> bool:
        """Whether something was needed for this task."""
        return task_id in self._needs

    def start_over(self) -> None:
        """The session is to be told all of it anew."""
        self._needs.clear()
        self._users.clear()
        self._sent.clear()

    def put(self, task_id: str, needed: tuple[FileKey, ...]) -> None:
        """What the task needs now."""
        for key in self._needs.pop(task_id, ()):
            users = self._users[key]
            del users[task_id]
            if not users:
                del self._users[key]
        if needed:
            self._needs[task_id] = needed
        for key in needed:
            self._users.setdefault(key, {})[task_id] = None

    def unsent(self, view: View) -> Iterator[Dependencies]:
        """Messages with all that is needed and was not sent."""
        message = Dependencies()
        for key in [key for key in self._users if self._sent.get(key) != _login_of(key, view)]:
            if not _add(message, key, view):
                continue  # removed meanwhile: the node rejects the task
            self._sent[key] = _login_of(key, view)
            if message.ByteSize() >= MESSAGE_BYTES:
                yield message
                message = Dependencies()
        if message.ByteSize():
            yield message

    def withdrawn(self) -> tuple[list[str], list[str], list[str]]:
        """Ids of secrets, of configs and of services with a login, that were sent and that no task
        needs any more."""
        gone = [key for key in self._sent if key not in self._users]
        for key in gone:
            del self._sent[key]
        return _ids(gone, TABLE_SECRET), _ids(gone, TABLE_CONFIG), _ids(gone, TABLE_SERVICE)


def _add(message: Dependencies, key: FileKey, view: View) -> bool:
    table, row_id = key
    if table == TABLE_SECRET:
        secret = view.secret(row_id)
        if secret is not None:
            message.secrets.append(secret)
        return secret is not None
    if table == TABLE_SERVICE:
        login = _login(view, row_id)
        if login:
            message.logins.append(RegistryLogin(service_id=row_id, registry_auth=login))
        return bool(login)
    config = view.config(row_id)
    if config is not None:
        message.configs.append(config)
    return config is not None


def _login_of(key: FileKey, view: View) -> str:
    table, row_id = key
    return _login(view, row_id) if table == TABLE_SERVICE else ""


def _login(view: View, service_id: str) -> str:
    """Empty where there is none, or no such service any more."""
    service = view.service(service_id)
    return service.registry_auth if service is not None else ""


def _ids(keys: Iterable[FileKey], wanted: Table.ValueType) -> list[str]:
    return [row_id for table, row_id in keys if table == wanted]
