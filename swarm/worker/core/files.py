"""What a task's secrets and configs hold: their data, or what their templates make of it.

As in Docker, a template reads the task's own secrets and configs by their targets, and its own
environment: {{ secret "key" }}, {{ config "motd" }}, {{ env "MODE" }}, {{ .Service.Name }}.
No error has a word of what is in a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import ConfigReference, ContainerSpec, SecretReference
from swarm.file_target import target_path
from swarm.gotemplate import Limits, Template, TemplateError
from swarm.worker.core.dependencies import Dependencies
from swarm.worker.core.template import Values
from swarm.worker.runtime.port import RuntimeRefused, TaskFile

GOLANG = "golang"
# The agent's loop waits for it: some 20 ms of work, and no more than a config may have.
_LIMITS = Limits(steps=20_000, characters=1 << 20)


@dataclass(frozen=True, slots=True)
class _File:
    """A secret or a config of the task, before its template is filled in."""

    noun: str
    name: str
    reference: SecretReference | ConfigReference
    row: Secret | Config


def needs_files(container: ContainerSpec) -> bool:
    return bool(container.secrets or container.configs)


def task_files(
    container: ContainerSpec, dependencies: Dependencies, values: Values, env: Sequence[str]
) -> tuple[TaskFile, ...]:
    """Raises RuntimeRefused for what no manager has, and for a template that is wrong."""
    secrets = [_secret(reference, dependencies) for reference in container.secrets]
    configs = [_config(reference, dependencies) for reference in container.configs]
    expansion = _Expansion(secrets, configs, values, env)
    return tuple(
        TaskFile(
            target=target_path(file.reference),
            data=expansion.data(file),
            mode=file.reference.file.mode if file.reference.file.HasField("mode") else 0o444,
            uid=file.reference.file.uid,
            gid=file.reference.file.gid,
        )
        for file in (*secrets, *configs)
    )


def _secret(reference: SecretReference, dependencies: Dependencies) -> _File:
    row = dependencies.secrets.get(reference.secret_id)
    if row is None:
        raise _gone("secret", reference.secret_name)
    return _File("secret", reference.secret_name, reference, row)


def _config(reference: ConfigReference, dependencies: Dependencies) -> _File:
    row = dependencies.configs.get(reference.config_id)
    if row is None:
        raise _gone("config", reference.config_name)
    return _File("config", reference.config_name, reference, row)


def _gone(noun: str, name: str) -> RuntimeRefused:
    return RuntimeRefused(
        f"{noun} {name} is not in the cluster any more: update the service with another", f"{noun}s"
    )


class _Expansion:
    def __init__(
        self,
        secrets: Sequence[_File],
        configs: Sequence[_File],
        values: Values,
        env: Sequence[str],
    ) -> None:
        self._values = values
        self._functions = {
            "secret": _reader("secret", secrets),
            "config": _reader("config", configs),
            "env": _environment(env),
        }

    def data(self, file: _File) -> bytes:
        """Raises RuntimeRefused."""
        if file.row.spec.template_driver != GOLANG:
            return file.row.spec.data
        return self._expanded(file).encode()

    def _expanded(self, file: _File) -> str:
        try:
            template = Template.parse(file.row.spec.data.decode())
        except (UnicodeDecodeError, TemplateError) as error:
            # The text itself is no secret in a config.
            why = f" ({error})" if file.noun == "config" else ""
            raise _bad_template(file, f"it is no Go template{why}") from None
        try:
            return template.render(
                self._values, strict=True, functions=self._functions, limits=_LIMITS
            )
        except TemplateError:
            # What it says may quote what it read from a secret.
            raise _bad_template(
                file, "it names what this task does not have, or is too large"
            ) from None


def _bad_template(file: _File, why: str) -> RuntimeRefused:
    return RuntimeRefused(
        f"{file.noun} {file.name} cannot be filled in: {why}; see to its template", f"{file.noun}s"
    )


def _reader(noun: str, files: Sequence[_File]) -> Callable[[str], str]:
    """The template's function: as it is in the store, by its target in the task."""
    texts = {file.reference.file.name: file.row.spec.data for file in files}

    def read(target: str) -> str:
        if target not in texts:
            raise ValueError(f"{noun} target {target} not found")
        return texts[target].decode()

    return read


def _environment(env: Sequence[str]) -> Callable[[str], str]:
    variables = {name: value for name, _, value in (line.partition("=") for line in env)}
    return lambda name: variables.get(name, "")
