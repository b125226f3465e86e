"""What tasks are given of secrets and configs, and that an agent has them in memory alone."""

from __future__ import annotations

import pytest

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.dispatcher_pb2 import Assignments
from swarm.api.v1.dispatcher_pb2 import Dependencies as DependenciesMessage
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import ContainerSpec, ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_PREPARING, TASK_STATE_REJECTED, TASK_STATE_RUNNING
from swarm.worker.core import effects as do
from swarm.worker.core.dependencies import Dependencies
from swarm.worker.core.files import task_files
from swarm.worker.runtime.port import RuntimeRefused

DATA = b"the secret's bytes"
VALUES = {"Service": {"Name": "web", "Labels": {"a": "b"}}, "Task": {"Slot": "3"}}
ENV = ["MODE=test", "EMPTY="]


def a_secret(key: str = "k", data: bytes = DATA, driver: str = "") -> Secret:
    secret = Secret(id=key)
    secret.spec.data, secret.spec.template_driver = data, driver
    return secret


def needs(*keys: str) -> ServiceSpec:
    spec = ServiceSpec()
    for key in keys:
        spec.task.container.secrets.add(secret_id=key, secret_name=key).file.name = key
    return spec


def filled(text: str, noun: str = "config") -> bytes:
    """A template in a task with secret `key` and config `other`."""
    container = needs("k").task.container
    container.secrets[0].file.name = "key"
    container.configs.add(config_id="o", config_name="o").file.name = "other"
    held = DependenciesMessage(secrets=[a_secret()])
    held.configs.add(id="o").spec.data = b"plain"
    row = getattr(held, f"{noun}s").add(id="t")
    row.spec.data, row.spec.template_driver = text.encode(), "golang"
    reference = getattr(container, f"{noun}s").add()
    setattr(reference, f"{noun}_id", "t")
    setattr(reference, f"{noun}_name", "templated")
    reference.file.name = "t"
    dependencies = Dependencies()
    dependencies.arrived(held)
    dependencies.take(Assignments(complete=True))
    files = {f.target: f.data for f in task_files(container, dependencies, VALUES, ENV)}
    return files["/t" if noun == "config" else "/run/secrets/t"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("no template", "no template"),
        ("{{ .Service.Name }}.{{ .Task.Slot }}", "web.3"),
        ('{{ secret "key" }}', DATA.decode()),
        ('{{ config "other" }}', "plain"),
        ('{{ env "MODE" }}{{ env "EMPTY" }}{{ env "NONE" }}', "test"),
        ('{{ index .Service.Labels "a" }}', "b"),
    ],
)
@pytest.mark.parametrize("noun", ["config", "secret"])
def test_templates(template: str, text: str, noun: str) -> None:
    assert filled(template, noun).decode() == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Nothing }}",
        '{{ secret "k" }}',
        '{{ index (secret "key") 99 }}',
        '{{ secret "key" | nofunction }}',
        '{{ printf "%d" (secret "key") | index .Service.Labels | len | index .Task }}',
        "{{",
    ],
)
@pytest.mark.parametrize("noun", ["config", "secret"])
def test_a_wrong_template_is_refused_without_a_word_of_the_secret(template: str, noun: str) -> None:
    with pytest.raises(RuntimeRefused) as refused:
        filled("hunter2 " + template, noun)
    message = str(refused.value)
    assert message.startswith(f"{noun} templated cannot be filled in")
    assert "bytes" not in message
    assert "\n" not in message
    if noun == "secret":
        assert "hunter2" not in message


def test_targets_modes_and_owners() -> None:
    container = ContainerSpec()
    secret = container.secrets.add(secret_id="k")
    secret.file.name, secret.file.mode, secret.file.uid, secret.file.gid = "a/b", 0o400, 5, 6
    container.secrets.add(secret_id="k").file.name = "/etc/key"
    container.configs.add(config_id="c").file.name = "conf"
    held = DependenciesMessage(secrets=[a_secret()], configs=[Config(id="c")])
    dependencies = Dependencies()
    dependencies.arrived(held)
    dependencies.take(Assignments())
    files = task_files(container, dependencies, VALUES, ENV)
    assert [(f.target, f.mode, f.uid, f.gid) for f in files] == [
        ("/run/secrets/a/b", 0o400, 5, 6),
        ("/etc/key", 0o444, 0, 0),
        ("/conf", 0o444, 0, 0),
    ]
    assert DATA.decode() not in repr(files)


def test_a_task_is_given_its_secret_and_the_database_is_not(world) -> None:
    world.receive(dependencies=DependenciesMessage(secrets=[a_secret()]))
    world.assign("t1", needs("k"))
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_RUNNING
    (prepare,) = world.of(do.Prepare)
    assert [file.data for file in prepare.run.files] == [DATA]
    assert not [row for row in world.rows.values() if DATA in row]


def test_a_task_is_pulled_with_its_services_login_and_the_database_has_none(world) -> None:
    held = DependenciesMessage()
    held.logins.add(service_id="svc-t2", registry_auth=DATA.decode())
    world.receive(dependencies=held)
    world.assign("t2", needs())
    world.pass_time(1)
    (prepare,) = world.of(do.Prepare)
    assert prepare.run.registry_auth == DATA.decode()
    assert DATA.decode() not in repr(prepare)
    assert not [row for row in world.rows.values() if DATA in row]


def test_a_secret_that_no_manager_has_is_named(world) -> None:
    world.assign("t1", needs("k"))
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_REJECTED
    assert "secret k is not in the cluster any more" in world.status("t1").err


def test_a_restarted_agent_waits_for_a_manager_before_it_prepares(world) -> None:
    """What is lost with the agent is asked of a manager again, and never guessed to be gone."""
    world.held = {do.Prepare}
    world.receive(dependencies=DependenciesMessage(secrets=[a_secret()]))
    world.assign("t1", needs("k"))
    world.settle()
    world.crash()
    world.held = set()
    world.manager_up = False
    world.done.clear()
    world.start()
    world.pass_time(5)
    assert not world.of(do.Prepare)
    assert world.core.tasks["t1"].status.state == TASK_STATE_PREPARING
    world.manager_up = True
    world.secrets_at_hello = [a_secret()]
    world.pass_time(30)
    (prepare,) = world.of(do.Prepare)
    assert [file.data for file in prepare.run.files] == [DATA]


def test_a_task_that_runs_is_adopted_without_its_secret(world) -> None:
    world.receive(dependencies=DependenciesMessage(secrets=[a_secret()]))
    world.assign("t1", needs("k"))
    world.pass_time(1)
    world.crash()
    world.manager_up = False
    world.done.clear()
    world.start()
    world.pass_time(5)
    assert world.core.tasks["t1"].status.state == TASK_STATE_RUNNING
    assert world.containers["t1"].starts == 1
    assert not world.of(do.Prepare)


def test_what_is_withdrawn_is_forgotten(world) -> None:
    world.receive(dependencies=DependenciesMessage(secrets=[a_secret("k"), a_secret("j")]))
    world.assign("t1", needs("k", "j"))
    world.pass_time(1)
    assert list(world.core.dependencies.secrets) == ["k", "j"]
    world.manager.revision += 1
    world.receive(
        assignments=Assignments(
            incarnation=1, revision=world.manager.revision, removed_secret_ids=["j"]
        )
    )
    assert list(world.core.dependencies.secrets) == ["k"]
    world.send_complete()
    assert not world.core.dependencies.secrets, "a complete set came without it"
