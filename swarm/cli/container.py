"""`swarmctl run` and what follows it: one task, anywhere with room, as Docker users type it.

It is a service of one replica that is not restarted, named as the container is.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
import grpc

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.logs_pb2 import LOG_STREAM_STDERR, LogLine, LogOptions
from swarm.api.v1.service_pb2 import (
    MOUNT_TYPE_BIND,
    MOUNT_TYPE_VOLUME,
    RESTART_CONDITION_NONE,
    Mount,
    ServiceSpec,
)
from swarm.api.v1.store_pb2 import TABLE_TASK
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.cli.client import Client, NotFoundError, new_request_id
from swarm.cli.command import DockerCommand
from swarm.cli.errors import EXIT_INTERRUPTED, EXIT_USAGE, CliError
from swarm.cli.flags import (
    LIST,
    STRING,
    docker_bool_option,
    format_option,
    inspect_format_option,
    no_trunc_option,
    quiet_option,
)
from swarm.cli.names import display_image, random_name
from swarm.cli.output import print_inspect
from swarm.cli.service_flags import ENV, PORT
from swarm.cli.service_logs import print_logs
from swarm.cli.session import Session
from swarm.cli.specvalues import merge_env, resolve_env
from swarm.cli.tables import Column, print_list
from swarm.dockerapi.task import task_to_json
from swarm.dockerapi.words import PROTOCOL
from swarm.units import ellipsis, human_duration, truncate_id

RUN_LABEL = "swarm.run"
_COMMAND_WIDTH = 20
_COLUMNS = (
    Column("ID", "CONTAINER ID", truncate_id),
    Column("Image", "IMAGE", display_image),
    Column("Command", "COMMAND", lambda text: f'"{ellipsis(text, _COMMAND_WIDTH)}"'),
    Column("RunningFor", "CREATED"),
    Column("Status", "STATUS"),
    Column("Ports", "PORTS"),
    Column("Names", "NAMES"),
    Column("Node", "NODE"),
)


@click.command(
    "run",
    cls=DockerCommand,
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    help="Create and run a new container from an image, on a node with room",
    trailing_command=True,
    unsupported=("--interactive", "-i", "--tty", "-t", "--network=value", "--restart=value"),
)
@docker_bool_option("--detach", "-d", help="Run container in background and print container ID")
@click.option("--name", type=STRING, help="Assign a name to the container")
@docker_bool_option("--rm", help="Automatically remove the container when it exits")
@click.option("--env", "-e", type=ENV, multiple=True, help="Set environment variables")
@click.option("--publish", "-p", type=PORT, multiple=True, help="Publish a container's port")
@click.option("--volume", "-v", type=LIST, multiple=True, help="Bind mount a volume")
@click.option("--entrypoint", type=STRING, help="Overwrite the default ENTRYPOINT of the image")
@click.option("--workdir", "-w", type=STRING, help="Working directory inside the container")
@click.option("--user", "-u", type=STRING, help="Username or UID (format: NAME|UID[:GROUP|GID])")
@click.argument("image")
@click.argument("command", nargs=-1)
@click.pass_obj
def run(
    session: Session, image: str, command: tuple[str, ...], detach: bool, rm: bool, **flags: Any
) -> int:
    if detach and rm:
        raise CliError("--rm beside --detach is not supported yet: `swarmctl rm` removes it")
    flags["env"] = resolve_env(flags["env"], session.environment)
    spec = _spec(image, command, flags)
    client = session.client
    request = pb.CreateServiceRequest(request_id=new_request_id(), spec=spec)
    try:
        service_id = client.ask(lambda s: s.control.CreateService, request).service.service.id
    except CliError as error:
        raise CliError(error.message, EXIT_USAGE) from None
    if detach:
        click.echo(service_id)
        return 0
    try:
        return _attached(client, service_id)
    except KeyboardInterrupt:
        _scale_to_none(client, service_id)
        return EXIT_INTERRUPTED
    finally:
        if rm:
            _remove(client, service_id)


def _spec(image: str, command: Sequence[str], flags: Mapping[str, Any]) -> ServiceSpec:
    spec = ServiceSpec()
    spec.annotations.name = flags["name"] or random_name()
    spec.annotations.labels[RUN_LABEL] = "true"
    spec.replicated.replicas = 1
    spec.task.restart.condition = RESTART_CONDITION_NONE
    container = spec.task.container
    container.image = image
    container.args.extend(command)
    if flags["entrypoint"]:
        container.command.append(flags["entrypoint"])
    container.env.extend(merge_env(flags["env"]))
    container.mounts.extend(_mount(text) for text in flags["volume"])
    container.dir = flags["workdir"] or ""
    container.user = flags["user"] or ""
    spec.endpoint.ports.extend(port for ports in flags["publish"] for port in ports)
    return spec


def _mount(text: str) -> Mount:
    """SOURCE:TARGET[:ro], or TARGET alone. Raises CliError."""
    parts = text.split(":")
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    options = parts[2].split(",") if len(parts) > 2 else []
    if len(parts) > 3 or not target.startswith("/") or set(options) - {"ro", "rw"}:
        raise CliError(f"invalid volume specification: '{text}': SOURCE:TARGET[:ro]", EXIT_USAGE)
    kind = MOUNT_TYPE_BIND if source.startswith("/") else MOUNT_TYPE_VOLUME
    return Mount(type=kind, source=source, target=target, read_only="ro" in options)


# Attached


class _Output:
    """What the task writes, on this process's stdout and stderr, each line once."""

    def __init__(self, client: Client, service_id: str) -> None:
        self._client = client
        self._service_id = service_id
        self._newest_ns = -1
        self._following = client.clone()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for answer in self._following.follow(
                lambda stubs: stubs.control.ServiceLogs, lambda: self._request(follow=True)
            ):
                self._print(answer.lines)
        except (CliError, grpc.RpcError, ValueError):
            pass  # closed: the rest is asked for by `finish`

    def _request(self, *, follow: bool) -> pb.ServiceLogsRequest:
        options = LogOptions(follow=follow, tail=-1, stdout=True, stderr=True)
        options.since_ns = max(self._newest_ns, 0)
        return pb.ServiceLogsRequest(references=[self._service_id], options=options)

    def _print(self, lines: Sequence[LogLine]) -> None:
        for line in lines:
            if line.timestamp_ns > self._newest_ns:
                self._newest_ns = line.timestamp_ns
                stream = sys.stderr if line.stream == LOG_STREAM_STDERR else sys.stdout
                stream.buffer.write(line.data + b"\n")
                stream.flush()

    def finish(self) -> None:
        """The task has ended: what it wrote last."""
        self._following.close()
        self._thread.join()
        for answer in self._client.follow(
            lambda stubs: stubs.control.ServiceLogs, lambda: self._request(follow=False)
        ):
            self._print(answer.lines)


def _attached(client: Client, service_id: str) -> int:
    """Until it has ended: its exit code, or 125 with the reason where it never ran."""
    output = _Output(client, service_id)
    ended = next(task for task in _tasks(client, service_id) if _has_ended(task))
    output.finish()
    if ended.status.container.HasField("exit_code"):
        code = ended.status.container.exit_code
        if code or not ended.status.err:
            return code
    raise CliError(f"swarmctl: {ended.status.err or ended.status.message}", EXIT_USAGE)


def _tasks(client: Client, service_id: str) -> Iterator[Task]:
    """The service's tasks, as they are and whenever one changes."""
    request = pb.WatchRequest(tables=[TABLE_TASK], service_id=service_id)
    for answer in client.follow(lambda stubs: stubs.control.Watch, lambda: request):
        for event in answer.events:
            if event.object.HasField("task"):
                yield event.object.task


def _wait_until_ended(client: Client, service_id: str) -> None:
    """Returns when none of its tasks runs any more."""
    seen = _Running()

    def request() -> pb.WatchRequest:
        seen.begin_anew()
        return pb.WatchRequest(tables=[TABLE_TASK], service_id=service_id)

    answers = client.follow(lambda stubs: stubs.control.Watch, request)
    any(seen.is_none(answer) for answer in answers)


class _Running:
    """Which tasks run, by what a watch answers."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        self._ids: set[str] = set()
        self._is_known = False

    def is_none(self, answer: pb.WatchResponse) -> bool:
        """Is it known after this answer that none runs?"""
        tasks = ((e.object.task, e.deleted) for e in answer.events if e.object.HasField("task"))
        for task, deleted in tasks:
            if deleted or _has_ended(task):
                self._ids.discard(task.id)
            else:
                self._ids.add(task.id)
        self._is_known |= answer.current
        return self._is_known and not self._ids


def _has_ended(task: Task) -> bool:
    return task.status.state > TASK_STATE_RUNNING


# What follows


@click.command("ps", cls=DockerCommand, usage="[OPTIONS]", help="List containers made by run")
@docker_bool_option("--all", "-a", help="Show all containers (default shows just running)")
@format_option()
@no_trunc_option()
@quiet_option("Only display container IDs")
@click.pass_obj
def ps(
    session: Session,
    all: bool,  # noqa: A002 - the flag's name
    format: str | None,  # noqa: A002
    no_trunc: bool,
    quiet: bool,
) -> None:
    client = session.client
    services = client.ask(lambda s: s.control.ListServices, pb.ListServicesRequest()).services
    ran = {v.service.id: v for v in services if RUN_LABEL in v.spec.annotations.labels}
    nodes = client.ask(lambda s: s.control.ListNodes, pb.ListNodesRequest()).nodes
    hostnames = {view.node.id: view.node.description.hostname for view in nodes}
    newest: dict[str, pb.TaskView] = {}
    if ran:
        request = pb.ListTasksRequest(service_ids=list(ran))
        tasks = client.ask(lambda s: s.control.ListTasks, request).tasks
        newest = {v.task.service_id: v for v in sorted(tasks, key=_age)}
    rows = [
        _row(view, newest.get(service_id), hostnames)
        for service_id, view in sorted(ran.items(), key=lambda item: -_created(item[1]))
        if all or _is_up(newest.get(service_id))
    ]
    print_list(rows, _COLUMNS, format=format, quiet=quiet, no_trunc=no_trunc)


@click.command(
    "logs", cls=DockerCommand, usage="[OPTIONS] CONTAINER", help="Fetch the logs of a container"
)
@docker_bool_option("--follow", "-f", help="Follow log output")
@click.option("--since", type=STRING, help="Show logs since timestamp or relative")
@click.option("--until", type=STRING, help="Show logs before a timestamp or relative")
@click.option("--tail", "-n", type=STRING, default="all", help="Number of lines from the end")
@docker_bool_option("--timestamps", "-t", help="Show timestamps")
@click.argument("reference", metavar="CONTAINER")
@click.pass_obj
def logs(session: Session, reference: str, **flags: Any) -> None:
    service = _find(session.client, reference)
    print_logs(
        session.client, [service.service.id], raw=True, details=False, no_resolve=False,
        no_task_ids=True, no_trunc=False, **flags,
    )  # fmt: skip


@click.command(
    "stop", cls=DockerCommand, usage="CONTAINER [CONTAINER...]", help="Stop running containers"
)
@click.argument("references", metavar="CONTAINER", nargs=-1, required=True)
@click.pass_obj
def stop(session: Session, references: tuple[str, ...]) -> None:
    for reference in references:
        service_id = _find(session.client, reference).service.id
        _scale_to_none(session.client, service_id)
        _wait_until_ended(session.client, service_id)
        click.echo(reference)


@click.command(
    "rm", cls=DockerCommand, usage="[OPTIONS] CONTAINER [CONTAINER...]", help="Remove containers"
)
@docker_bool_option("--force", "-f", help="Force the removal of a running container")
@click.argument("references", metavar="CONTAINER", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, references: tuple[str, ...], force: bool) -> None:
    errors: list[str] = []
    for reference in references:
        try:
            service_id = _find(session.client, reference).service.id
            if not force and _is_up(_task(session.client, service_id)):
                errors.append(
                    f"cannot remove container {reference}: container is running: stop the "
                    "container before removing or force remove"
                )
                continue
            _remove(session.client, service_id)
        except CliError as error:
            errors.append(error.message)
            continue
        click.echo(reference)
    if errors:
        raise CliError("\n".join(errors))


@click.command(
    "inspect",
    cls=DockerCommand,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    help="Return low-level information on containers made by run",
)
@inspect_format_option()
@click.argument("references", metavar="CONTAINER", nargs=-1, required=True)
@click.pass_obj
def inspect(
    session: Session,
    references: tuple[str, ...],
    format: str | None,  # noqa: A002 - the flag's name
) -> None:
    objects: list[object] = []
    errors: list[str] = []
    for reference in references:
        try:
            task = _task(session.client, _find(session.client, reference).service.id)
        except CliError as error:
            errors.append(error.message)
            continue
        if task is not None:
            objects.append(task_to_json(task))
    print_inspect(objects, errors, format=format)


def _find(client: Client, reference: str) -> pb.ServiceView:
    """By the container's name, its service's id, or its task's. Raises CliError."""
    request = pb.GetServiceRequest(reference=reference)
    try:
        found = client.ask(lambda stubs: stubs.control.GetService, request).service
    except NotFoundError:
        try:
            task = pb.GetTaskRequest(reference=reference)
            owner = client.ask(lambda stubs: stubs.control.GetTask, task).task.task.service_id
            request = pb.GetServiceRequest(reference=owner)
            found = client.ask(lambda stubs: stubs.control.GetService, request).service
        except NotFoundError:
            raise NotFoundError(f"Error: no such container: {reference}") from None
    if RUN_LABEL not in found.spec.annotations.labels:
        raise CliError(f"{reference} is a service: use `swarmctl service` for it")
    return found


def _task(client: Client, service_id: str) -> pb.TaskView | None:
    request = pb.ListTasksRequest(service_ids=[service_id])
    tasks = client.ask(lambda stubs: stubs.control.ListTasks, request).tasks
    return max(tasks, key=_age, default=None)


def _scale_to_none(client: Client, service_id: str) -> None:
    request = pb.GetServiceRequest(reference=service_id)
    view = client.ask(lambda stubs: stubs.control.GetService, request).service
    update = pb.UpdateServiceRequest(
        request_id=new_request_id(),
        service_id=service_id,
        version=view.service.meta.version,
        spec=view.spec,
    )
    update.spec.replicated.replicas = 0
    client.ask(lambda stubs: stubs.control.UpdateService, update)


def _remove(client: Client, service_id: str) -> None:
    request = pb.RemoveServiceRequest(request_id=new_request_id(), reference=service_id)
    client.ask(lambda stubs: stubs.control.RemoveService, request)


def _row(
    view: pb.ServiceView, task: pb.TaskView | None, hostnames: Mapping[str, str]
) -> dict[str, object]:
    container = view.spec.task.container
    return {
        "ID": task.task.id if task is not None else view.service.id,
        "Image": container.image,
        "Command": " ".join([*container.command, *container.args]),
        "RunningFor": f"{_since(_created(view))} ago",
        "Status": _status(task),
        "Ports": ", ".join(
            f"*:{port.published_port}->{port.target_port}/{PROTOCOL.word(port.protocol)}"
            for port in view.service.ports
        ),
        "Names": view.spec.annotations.name,
        "Node": hostnames.get(task.task.node_id, "") if task is not None else "",
    }


def _status(task: pb.TaskView | None) -> str:
    if task is None:
        return "Exited"
    status = task.task.status
    since = _since(status.timestamp_ns)
    if status.state > TASK_STATE_RUNNING:
        code = status.container.exit_code if status.container.HasField("exit_code") else 125
        return f"Exited ({code}) {since} ago"
    return f"Up {since}" if status.state == TASK_STATE_RUNNING else "Created"


def _is_up(task: pb.TaskView | None) -> bool:
    return task is not None and task.task.status.state == TASK_STATE_RUNNING


def _since(at_ns: int) -> str:
    return human_duration(max(time.time_ns() - at_ns, 0))


def _created(view: pb.ServiceView) -> int:
    return view.service.meta.created_at_ns


def _age(view: pb.TaskView) -> int:
    return view.task.meta.created_at_ns
