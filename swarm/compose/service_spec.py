"""A service of a compose file as the ServiceSpec that it means.

What this reads is used; the rest is named with its line. Docker's own reading of the same keys
for `docker stack deploy` (docker/cli, cli/compose/convert) is followed where it has one.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from swarm.api.v1.service_pb2 import (
    DEPENDENCY_CONDITION_COMPLETED,
    DEPENDENCY_CONDITION_HEALTHY,
    DEPENDENCY_CONDITION_STARTED,
    ContainerSpec,
    DependencyCondition,
    HealthCheck,
    LogDriver,
    ServiceDependency,
    ServiceSpec,
    TaskSpec,
    Ulimit,
)
from swarm.api.v1.types_pb2 import Annotations, Platform
from swarm.compose.deploy import apply_deploy, apply_restart
from swarm.compose.errors import ComposeError
from swarm.compose.fields import Fields
from swarm.compose.mounts import apply_mounts
from swarm.compose.names import Names
from swarm.compose.ports import apply_ports
from swarm.compose.project import Note, Project
from swarm.compose.stack_files import apply_files
from swarm.compose.tree import Listing, Mapping, Node, as_mapping, as_text
from swarm.stacks import STACK_LABEL

IMAGE_LABEL = "com.docker.stack.image"
NO_ISOLATION = "there is no isolation between networks yet: every service of the stack reaches it"

# Why keys have no effect. A key that is read but not here is named without a reason.
_WHY = {
    "container_name": "tasks are named after their service and slot",
    "network_mode": "a task has a network of its own",
    "privileged": "tasks run without; cap_add gives single capabilities",
    "devices": "tasks are given no devices",
    "links": "a service is reached by its name",
    "pull_policy": "an image is pulled where a node has not got it",
    "attach": "output is shown by logs",
    "develop": "files are not watched",
    "volumes_from": "name a volume in both services",
    "domainname": "hostname may hold it",
    "security_opt": "the runtime's defaults hold",
    "shm_size": "mount a tmpfs at /dev/shm",
    "annotations": "labels are kept",
    "external_links": "services of other stacks are reached as STACK_SERVICE",
}
_CONDITIONS: dict[str, DependencyCondition.ValueType] = {
    "service_started": DEPENDENCY_CONDITION_STARTED,
    "service_healthy": DEPENDENCY_CONDITION_HEALTHY,
    "service_completed_successfully": DEPENDENCY_CONDITION_COMPLETED,
}


def service_spec(
    name: str, node: Mapping, project: Project, names: Names, *, completes: bool = False
) -> tuple[ServiceSpec, list[Note]]:
    """`completes`: others wait for it to have done its work, so that it is not to begin anew
    unless the file says so. Raises ComposeError."""
    fields = Fields(node, f"services.{name}")
    notes: list[Note] = []
    fields.take("build")  # who deploys builds it first
    container = _container(name, fields, names)
    task = TaskSpec(container=container)
    spec = ServiceSpec(
        annotations=Annotations(name=names.scoped(name), labels={STACK_LABEL: names.stack}),
        task=task,
    )
    spec.annotations.labels[IMAGE_LABEL] = container.image
    apply_restart(spec.task, fields, completes=completes)
    apply_deploy(spec, fields)
    apply_ports(spec, fields, notes)
    apply_mounts(spec.task.container, fields, project, names, notes)
    apply_files(spec.task.container, fields, project, names)
    _apply_log_driver(spec.task, fields)
    _apply_dependencies(spec, fields, names)
    _apply_networks(spec, fields, notes)
    _apply_platform(spec.task, fields)
    return spec, [*notes, *fields.unread(_WHY)]


def image_of(name: str, node: Mapping, stack: str) -> str:
    """The image's name; one that is built and given none is named as docker compose does.

    Raises ComposeError.
    """
    image = node.get("image")
    written = as_text(image, f"services.{name}.image") if image is not None else ""
    if written:
        return written
    if node.get("build") is None:
        raise ComposeError(node.place, f"services.{name} has neither image nor build")
    return f"{stack}-{name}"


def _container(name: str, fields: Fields, names: Names) -> ContainerSpec:
    image = image_of(name, fields.node, names.stack)
    fields.take("image")
    container = ContainerSpec(
        image=image,
        labels=fields.pairs("labels") | {STACK_LABEL: names.stack},
        command=_words(fields, "entrypoint"),
        args=_words(fields, "command"),
        hostname=fields.text("hostname"),
        env=_environment(fields),
        dir=fields.text("working_dir"),
        user=fields.text("user"),
        groups=fields.texts("group_add"),
        tty=bool(fields.boolean("tty")),
        open_stdin=bool(fields.boolean("stdin_open")),
        read_only=bool(fields.boolean("read_only")),
        stop_signal=fields.text("stop_signal"),
        hosts=_hosts(fields),
        capability_add=sorted(_capability(c) for c in fields.texts("cap_add")),
        capability_drop=sorted(_capability(c) for c in fields.texts("cap_drop")),
        sysctls=fields.pairs("sysctls"),
        ulimits=_ulimits(fields),
    )
    container.dns.nameservers.extend(fields.texts("dns"))
    container.dns.search.extend(fields.texts("dns_search"))
    container.dns.options.extend(fields.texts("dns_opt"))
    optional: tuple[tuple[str, Callable[[str], int | bool | None], str], ...] = (
        ("init", fields.boolean, "init"),
        ("stop_grace_period_ns", fields.duration_ns, "stop_grace_period"),
        ("oom_score_adj", fields.integer, "oom_score_adj"),
    )
    for field, read, key in optional:
        value = read(key)
        if value is not None:
            setattr(container, field, value)
    health = _health_check(fields.fields("healthcheck"))
    if health is not None:
        container.health_check.CopyFrom(health)
    return container


def _environment(fields: Fields) -> list[str]:
    node = as_mapping(fields.take("environment"), fields.named("environment"))
    return [f"{k}={as_text(v, fields.named('environment'))}" for k, v in node.entries.items()]


def _words(fields: Fields, key: str) -> list[str]:
    """A list as it is; a line split as a shell does."""
    node = fields.take(key)
    if node is None:
        return []
    if isinstance(node, Listing):
        return [as_text(item, fields.named(key)) for item in node]
    try:
        return shlex.split(as_text(node, fields.named(key)))
    except ValueError:
        raise ComposeError(node.place, f"{fields.named(key)}: a quote is not closed") from None


def _hosts(fields: Fields) -> list[str]:
    node = as_mapping(fields.take("extra_hosts"), fields.named("extra_hosts"))
    return [
        f"{as_text(address, fields.named('extra_hosts'))} {name}"
        for name, addresses in node.entries.items()
        for address in (addresses.items if isinstance(addresses, Listing) else (addresses,))
    ]


def _capability(text: str) -> str:
    name = text.strip().upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def _ulimits(fields: Fields) -> list[Ulimit]:
    node = as_mapping(fields.take("ulimits"), fields.named("ulimits"))
    found: list[Ulimit] = []
    for name, value in node.entries.items():
        path = f"{fields.named('ulimits')}.{name}"
        whole = value if isinstance(value, Mapping) else _same_twice(value)
        limits = Fields(whole, path)
        soft, hard = limits.integer("soft"), limits.integer("hard")
        if soft is None or hard is None:
            raise ComposeError(value.place, f"{path} needs soft and hard")
        found.append(Ulimit(name=name, soft=soft, hard=hard))
    return found


def _same_twice(value: Node) -> Mapping:
    return Mapping({"soft": value, "hard": value}, value.place)


def _health_check(fields: Fields | None) -> HealthCheck | None:
    if fields is None:
        return None
    if fields.boolean("disable"):
        return HealthCheck(test=["NONE"])
    test = fields.take("test")
    health = HealthCheck(retries=fields.integer("retries") or 0)
    if isinstance(test, Listing):
        health.test.extend(as_text(item, fields.named("test")) for item in test)
        if health.test and health.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
            raise ComposeError(
                test.place, f"{fields.named('test')} begins with CMD, CMD-SHELL or NONE"
            )
    elif test is not None:
        health.test.extend(["CMD-SHELL", as_text(test, fields.named("test"))])
    for key in ("interval", "timeout", "start_period", "start_interval"):
        setattr(health, f"{key}_ns", fields.duration_ns(key) or 0)
    return health


def _apply_log_driver(task: TaskSpec, fields: Fields) -> None:
    logging = fields.fields("logging")
    if logging is None:
        return
    driver, options = logging.text("driver"), logging.pairs("options")
    if driver or options:
        task.log_driver.CopyFrom(LogDriver(name=driver or "json-file", options=options))


def _apply_dependencies(spec: ServiceSpec, fields: Fields, names: Names) -> None:
    node = as_mapping(fields.take("depends_on"), fields.named("depends_on"))
    for name, how in node.entries.items():
        one = Fields(as_mapping(how, "depends_on"), f"{fields.named('depends_on')}.{name}")
        condition = one.word("condition", _CONDITIONS)
        spec.depends_on.append(
            ServiceDependency(
                service_name=names.scoped(name), condition=condition or DEPENDENCY_CONDITION_STARTED
            )
        )


def _apply_networks(spec: ServiceSpec, fields: Fields, notes: list[Note]) -> None:
    node = fields.take("networks")
    if node is None:
        return
    networks = as_mapping(node, fields.named("networks"))
    if networks.entries:
        notes.append(fields.note("networks", f"is accepted, but {NO_ISOLATION}"))
    aliases: dict[str, None] = {}
    for name, how in networks.entries.items():
        one = Fields(as_mapping(how, "networks"), f"{fields.named('networks')}.{name}")
        aliases |= dict.fromkeys(one.texts("aliases"))
        notes += one.unread({})
    spec.aliases.extend(aliases)


def _apply_platform(task: TaskSpec, fields: Fields) -> None:
    """OS/ARCHITECTURE[/VARIANT]."""
    written: Sequence[str] = fields.text("platform").split("/")
    if len(written) >= 2:
        task.placement.platforms.append(Platform(os=written[0], architecture=written[1]))
    elif written[0]:
        raise fields.error("platform", f"is {written[0]}: write OS/ARCHITECTURE")
