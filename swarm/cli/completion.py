"""`swarmctl completion`, and the names that Tab offers: of services, nodes, secrets and the like.

The script of each shell is click's; it runs swarmctl again with the line so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from swarm.cli.command import DockerCommand
from swarm.cli.errors import EXIT_USAGE, CliError
from swarm.cli.session import Session

if TYPE_CHECKING:
    from swarm.cli.client import Client

_TIMEOUT_S = 2.0
"""Whoever pressed Tab does not wait longer."""
_SHELLS = ("bash", "fish", "zsh")
_STACK_LABEL = "com.docker.stack.namespace"


@click.command(
    "completion",
    cls=DockerCommand,
    usage="(bash|fish|zsh)",
    help="Generate the autocompletion script for a shell",
)
@click.argument("shell")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    if shell not in _SHELLS:
        raise CliError(f'unknown shell "{shell}": takes {", ".join(_SHELLS)}', EXIT_USAGE)
    found = get_completion_class(shell)
    assert found is not None
    program = ctx.find_root().info_name or "swarmctl"
    script = found(ctx.find_root().command, {}, program, "_SWARMCTL_COMPLETE")
    # Without `source`, which in bash's case runs bash to look at its version.
    click.echo(script.source_template % script.source_vars())


def offer_names(command: click.Command) -> None:
    """Arguments and flags that name something of the cluster complete to its names."""
    for parameter in command.params:
        words = _words_of(command, parameter)
        list_names = next((ask for word, ask in _NAMES if word in words), None)
        if list_names is not None:
            _complete_with(parameter, list_names)


def _words_of(command: click.Command, parameter: click.Parameter) -> set[str]:
    """What the help calls the parameter: SERVICE, NODE and so on."""
    if isinstance(parameter, click.Option):
        return {_FLAGS[name] for name in parameter.opts if name in _FLAGS}
    if command.name == "create":
        return set()  # a name that is not there yet
    text = parameter.metavar or str(getattr(command, "usage", None) or "")
    return set(re.findall(r"[A-Za-z]+", text))


def _complete_with(
    parameter: click.Parameter, list_names: Callable[[Client], Iterable[str]]
) -> None:
    def complete(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        prefix, comma, start = incomplete.rpartition(",")
        names = sorted(set(_ask(ctx, list_names)))
        return [CompletionItem(prefix + comma + name) for name in names if name.startswith(start)]

    parameter.shell_complete = complete


def _ask(ctx: click.Context, list_names: Callable[[Client], Iterable[str]]) -> list[str]:
    """Nothing where nobody answers: a completion is no place for an error."""
    hosts = ctx.find_root().params.get("host") or ()
    session = Session(tuple(hosts))
    try:
        return list(list_names(session.client))
    except CliError:
        return []
    finally:
        session.close()


def _services(client: Client) -> Iterable[str]:
    from swarm.api.v1.control_pb2 import ListServicesRequest

    answer = client.ask(
        lambda s: s.control.ListServices, ListServicesRequest(), deadline_s=_TIMEOUT_S
    )
    return [view.spec.annotations.name for view in answer.services]


def _stacks(client: Client) -> Iterable[str]:
    from swarm.api.v1.control_pb2 import ListServicesRequest

    answer = client.ask(
        lambda s: s.control.ListServices, ListServicesRequest(), deadline_s=_TIMEOUT_S
    )
    labels = [view.spec.annotations.labels for view in answer.services]
    return [found[_STACK_LABEL] for found in labels if _STACK_LABEL in found]


def _nodes(client: Client) -> Iterable[str]:
    from swarm.api.v1.control_pb2 import ListNodesRequest

    answer = client.ask(lambda s: s.control.ListNodes, ListNodesRequest(), deadline_s=_TIMEOUT_S)
    return [view.node.description.hostname for view in answer.nodes]


def _secrets(client: Client) -> Iterable[str]:
    from swarm.api.v1.control_pb2 import ListSecretsRequest

    answer = client.ask(
        lambda s: s.control.ListSecrets, ListSecretsRequest(), deadline_s=_TIMEOUT_S
    )
    return [secret.spec.annotations.name for secret in answer.secrets]


def _configs(client: Client) -> Iterable[str]:
    from swarm.api.v1.control_pb2 import ListConfigsRequest

    answer = client.ask(
        lambda s: s.control.ListConfigs, ListConfigsRequest(), deadline_s=_TIMEOUT_S
    )
    return [config.spec.annotations.name for config in answer.configs]


_NAMES: tuple[tuple[str, Callable[[Client], Iterable[str]]], ...] = (
    ("SERVICE", _services),
    ("NODE", _nodes),
    ("SECRET", _secrets),
    ("CONFIG", _configs),
    ("STACK", _stacks),
    ("worker", lambda _: ("worker", "manager")),
    ("bash", lambda _: _SHELLS),
)
_FLAGS = {
    "--secret": "SECRET",
    "--secret-add": "SECRET",
    "--secret-rm": "SECRET",
    "--config": "CONFIG",
    "--config-add": "CONFIG",
    "--config-rm": "CONFIG",
}
