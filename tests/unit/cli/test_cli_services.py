"""`swarmctl service …` against a manager, in Docker's words."""

import base64
import json

import pytest

from swarm.api.v1 import task_pb2
from swarm.api.v1.control_pb2 import ServiceLogsResponse
from swarm.api.v1.logs_pb2 import LOG_STREAM_STDERR, LogLine
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import Annotations

BAD_REPLICAS = (
    'invalid argument "-1" for "--replicas" flag: strconv.ParseUint: parsing "-1": invalid syntax'
)
BAD_SECRET = (
    'invalid argument "mode=9,source=x" for "--secret" flag: '
    "invalid mode specified: 9 is no octal number such as 0444"
)
BAD_MOUNT = (
    'invalid argument "foo" for "--mount" flag: invalid field \'foo\' must be a key=value pair'
)


def spec(name: str = "web", replicas: int = 3) -> ServiceSpec:
    made = ServiceSpec(annotations=Annotations(name=name))
    made.task.container.image = "nginx:1@sha256:abc"
    made.replicated.replicas = replicas
    return made


def test_create_prints_the_id_and_waits(manager, cluster, swarmctl) -> None:
    result = swarmctl("service", "create", "--name", "web", "--replicas", "2", "nginx")
    (service_id,) = cluster.services
    assert result.code == 0, result
    assert result.out.splitlines()[0] == service_id
    assert result.out.endswith(f"verify: Service {service_id} converged\n")
    assert "2 out of 2 tasks" in result.out


def test_create_detached_prints_the_id_alone(manager, cluster, swarmctl) -> None:
    result = swarmctl("service", "create", "-d", "--name", "web", "nginx")
    assert (result.code, result.out) == (0, "".join(f"{key}\n" for key in cluster.services))


def test_quiet_prints_no_progress(manager, cluster, swarmctl) -> None:
    result = swarmctl("service", "create", "-q", "nginx")
    assert result.out == "".join(f"{key}\n" for key in cluster.services)


def test_a_service_without_a_name_gets_one(manager, cluster, swarmctl) -> None:
    swarmctl("service", "create", "-d", "nginx")
    (service,) = cluster.services.values()
    assert "_" in service.name


def test_everything_after_the_image_is_the_command(manager, cluster, swarmctl) -> None:
    swarmctl("service", "create", "-d", "--name", "web", "alpine", "sh", "-c", "echo -d")
    (made,) = cluster.specs.values()
    assert list(made.task.container.args) == ["sh", "-c", "echo -d"]


def test_variables_of_a_file_come_first(manager, cluster, swarmctl, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HERE", "yes")
    file = tmp_path / "env"
    file.write_text("# comment\nA=1\nB=2\n\nHERE\nNOWHERE\n")
    swarmctl("service", "create", "-d", "--env-file", str(file), "-e", "B=3", "-e", "HERE", "x")
    (made,) = cluster.specs.values()
    assert list(made.task.container.env) == ["A=1", "HERE=yes", "B=3"]


def test_a_file_that_is_not_there(manager, cluster, swarmctl) -> None:
    result = swarmctl("service", "create", "--env-file", "/nosuch", "nginx")
    assert (result.code, result.err) == (1, "open /nosuch: no such file or directory\n")
    assert not cluster.services


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--secret", "mode=9,source=x"), BAD_SECRET),
        (("--network=n",), "--network is not supported yet"),
        (("--isolation", "x"), "--isolation is not supported yet"),
        (
            ("--publish", "abc"),
            'invalid argument "abc" for "-p, --publish" flag: invalid containerPort: abc',
        ),
        (
            ("--replicas", "-1"),
            BAD_REPLICAS,
        ),
        (
            ("--mount", "foo"),
            BAD_MOUNT,
        ),
    ],
)
def test_bad_flags_are_125(manager, cluster, swarmctl, words, message) -> None:
    result = swarmctl("service", "create", *words, "nginx")
    assert result.code == 125
    assert result.err.splitlines()[0] == message
    assert not manager.calls


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mode", "foo"), "Unknown mode: foo, only replicated and global supported"),
        (
            ("--mode", "global", "--replicas", "2"),
            "replicas can only be used with replicated or replicated-job mode",
        ),
        (
            ("--health-cmd", "x", "--no-healthcheck"),
            "--no-healthcheck conflicts with --health-* options",
        ),
    ],
)
def test_flags_that_do_not_fit(manager, cluster, swarmctl, words, message) -> None:
    result = swarmctl("service", "create", *words, "nginx")
    assert (result.code, result.err) == (1, f"{message}\n")
    assert not manager.calls


def test_a_name_in_use(manager, cluster, swarmctl) -> None:
    cluster.create(spec())
    result = swarmctl("service", "create", "--name", "web", "nginx")
    assert (result.code, result.err) == (
        1,
        "Error response from daemon: service web already exists\n",
    )


def test_ls(manager, cluster, swarmctl) -> None:
    web = spec()
    web.endpoint.ports.add(target_port=80, published_port=8080)
    web.task.placement.max_replicas_per_node = 2
    cluster.create(web)
    global_spec = spec("agent10")
    getattr(global_spec, "global").SetInParent()
    cluster.create(global_spec)
    cluster.create(spec("agent9", 1))
    lines = swarmctl("service", "ls").out.splitlines()
    assert [line.split() for line in lines] == [
        ["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"],
        ["svc000000000", "agent9", "replicated", "1/1", "nginx:1"],
        ["svc000000000", "agent10", "global", "2/2", "nginx:1"],
        [
            "svc000000000",
            "web",
            "replicated",
            "3/3",
            "(max",
            "2",
            "per",
            "node)",
            "nginx:1",
            "*:8080->80/tcp",
        ],
    ]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=we"], ["web"]),
        (["mode=global"], ["agent"]),
        (["label=tier"], ["web"]),
        (["label=tier=back"], []),
        (["name=web", "name=agent"], ["agent", "web"]),
        (["id=svc0000000000000000000000"], ["web"]),
    ],
)
def test_ls_filters(manager, cluster, swarmctl, filters, names) -> None:
    web = spec()
    web.annotations.labels["tier"] = "front"
    cluster.create(web)
    global_spec = spec("agent")
    getattr(global_spec, "global").SetInParent()
    cluster.create(global_spec)
    words = [word for text in filters for word in ("--filter", text)]
    result = swarmctl("service", "ls", *words, "--format", "{{.Name}}")
    assert result.out.split() == names


def test_ls_as_json_and_quiet(manager, cluster, swarmctl) -> None:
    cluster.create(spec())
    assert json.loads(swarmctl("service", "ls", "--format", "json").out) == {
        "ID": "svc000000000",
        "Image": "nginx:1",
        "Mode": "replicated",
        "Name": "web",
        "Ports": "",
        "Replicas": "3/3",
    }
    assert swarmctl("service", "ls", "-q").out == "svc000000000\n"


def test_ps_shows_a_slots_history(manager, cluster, swarmctl) -> None:
    cluster.place = lambda *_: None
    service = cluster.create(spec(replicas=1))
    cluster.add_task(
        service,
        1,
        "w1",
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_SHUTDOWN,
        err="task: non-zero exit (3) because of something long",
    )
    cluster.add_task(service, 1, "m1")
    out = swarmctl("service", "ps", "web").out.splitlines()
    assert out[0].split("  ")[0] == "ID"
    assert out[1].startswith("task00000000   web.1       nginx:1   alpha     Running         Runn")
    assert out[2].startswith("task00000000    \\_ web.1   nginx:1   beta      Shutdown        Fail")
    assert '"task: non-zero exit (3) becau…"' in out[2]
    assert "Failed 5 seconds ago" in out[2]
    full = swarmctl("service", "ps", "--no-trunc", "web").out
    assert '"task: non-zero exit (3) because of something long"' in full
    assert "nginx:1@sha256:abc" in full
    names = swarmctl("service", "ps", "web", "--format", "{{.Name}}@{{.Node}}").out
    assert names == "web.1@alpha\nweb.1@beta\n"


def test_ps_filters(manager, cluster, swarmctl) -> None:
    cluster.place = lambda *_: None
    service = cluster.create(spec())
    cluster.add_task(service, 1, "m1")
    cluster.add_task(service, 2, "w1", task_pb2.TASK_STATE_SHUTDOWN, task_pb2.TASK_STATE_SHUTDOWN)

    def names(*filters: str) -> list[str]:
        words = [word for text in filters for word in ("-f", text)]
        return swarmctl("service", "ps", "web", *words, "--format", "{{.Name}}").out.split()

    assert names("desired-state=running") == ["web.1"]
    assert names("node=beta") == ["web.2"]
    assert names("name=web.1") == ["web.1"]
    assert names("id=task") == ["web.1", "web.2"]
    bad = swarmctl("service", "ps", "web", "-f", "desired-state=foo")
    assert (bad.code, bad.err) == (1, "Invalid desired-state filter: 'foo'\n")


def test_ps_of_one_that_is_not_there_shows_the_others(manager, cluster, swarmctl) -> None:
    cluster.create(spec())
    result = swarmctl("service", "ps", "-q", "nosuch", "web")
    assert (result.code, result.err) == (1, "no such service: nosuch\n")
    assert len(result.out.split()) == 3


def test_inspect(manager, cluster, swarmctl) -> None:
    service = cluster.create(spec())
    shown = json.loads(swarmctl("service", "inspect", "web").out)
    assert shown[0]["ID"] == service.id
    assert shown[0]["Spec"]["Mode"] == {"Replicated": {"Replicas": 3}}
    assert swarmctl("service", "inspect", "-f", "{{.Spec.Name}}", "web").out == "web\n"
    missing = swarmctl("service", "inspect", "nosuch")
    assert (missing.code, missing.out) == (1, "[]\n")
    assert missing.err == "Error: no such service: nosuch\n"


def test_inspect_pretty(manager, cluster, swarmctl) -> None:
    made = spec()
    made.endpoint.ports.add(target_port=80, published_port=8080)
    made.task.container.env.append("A=1")
    cluster.create(made)
    out = swarmctl("service", "inspect", "--pretty", "web").out
    assert "Name:\t\tweb\nService Mode:\tReplicated\n Replicas:\t3\nPlacement:\n" in out
    assert " Env:\t\tA=1 \n" in out
    assert out.endswith(
        "Ports:\n PublishedPort = 8080\n  Protocol = tcp\n  TargetPort = 80\n"
        "  PublishMode = ingress\n\n"
    )


def test_scale(manager, cluster, swarmctl) -> None:
    cluster.create(spec("a", 1))
    cluster.create(spec("b", 4))
    result = swarmctl("service", "scale", "a=3", "b=2")
    assert result.code == 0, result
    assert result.out.startswith("a scaled to 3\nb scaled to 2\n")
    assert "verify: Service a converged" in result.out
    assert [made.replicated.replicas for made in cluster.specs.values()] == [3, 2]


def test_scale_of_what_can_not_be(manager, cluster, swarmctl) -> None:
    made = spec("glob")
    getattr(made, "global").SetInParent()
    cluster.create(made)
    cluster.create(spec("web", 1))
    result = swarmctl("service", "scale", "-d", "glob=2", "nosuch=1", "web=2")
    assert result.code == 1
    assert result.out == "web scaled to 2\n"
    assert result.err == (
        "glob: scale can only be used with replicated or replicated-job mode\n"
        "nosuch: Error: no such service: nosuch\n"
    )


def test_a_bad_number_changes_nothing(manager, cluster, swarmctl) -> None:
    cluster.create(spec("web", 1))
    result = swarmctl("service", "scale", "web=2", "web=x")
    assert result.code == 1
    assert result.err == (
        'web: invalid replicas value x: strconv.ParseUint: parsing "x": invalid syntax\n'
    )
    assert cluster.specs[next(iter(cluster.specs))].replicated.replicas == 1


def test_update_is_repeated_when_somebody_else_came_between(manager, cluster, swarmctl) -> None:
    service = cluster.create(spec())
    answer = type(manager).GetService

    def and_then_changed(self, request, context):
        view = answer(self, request, context)
        type(manager).GetService = answer
        cluster.bump(service.meta)
        return view

    type(manager).GetService = and_then_changed
    try:
        result = swarmctl("service", "update", "-d", "--env-add", "A=1", "web")
    finally:
        type(manager).GetService = answer
    assert (result.code, result.out) == (0, "web\n"), result
    assert list(cluster.specs[service.id].task.container.env) == ["A=1"]


def test_update_waits_for_tasks_of_the_new_spec(manager, cluster, swarmctl) -> None:
    cluster.create(spec())
    result = swarmctl("service", "update", "--image", "nginx:2", "web")
    assert result.code == 0, result
    assert result.out.endswith("verify: Service web converged\n")
    running = [
        task.revision
        for task in cluster.tasks.values()
        if task.desired_state == task_pb2.TASK_STATE_RUNNING
    ]
    assert running == [2, 2, 2]


def test_rm(manager, cluster, swarmctl) -> None:
    cluster.create(spec())
    result = swarmctl("service", "remove", "nosuch", "web")
    assert (result.code, result.out) == (1, "web\n")
    assert result.err == "Error: no such service: nosuch\n"
    assert not cluster.services


def lines_of(cluster, *texts: str) -> list[LogLine]:
    task = next(iter(cluster.tasks.values()))
    return [
        LogLine(
            task_id=task.id,
            node_id=task.node_id,
            timestamp_ns=1795472472000000000 + number,
            data=text.encode(),
            stream=LOG_STREAM_STDERR if text.startswith("err") else 0,
        )
        for number, text in enumerate(texts)
    ]


def test_logs(manager, cluster, swarmctl) -> None:
    cluster.create(spec(replicas=12))
    lines = lines_of(cluster, "hello", "err one")
    cluster.log_answers = [ServiceLogsResponse(lines=lines, warnings=["beta is silent"])]
    result = swarmctl("service", "logs", "web")
    assert result.out == "web.1.task00000000@alpha     | hello\n"
    assert result.err == ("web.1.task00000000@alpha     | err one\nwarning: beta is silent\n")
    assert swarmctl("service", "logs", "--raw", "web").out == "hello\n"
    assert swarmctl("service", "logs", "--no-task-ids", "-t", "web").out == (
        "2026-11-23T22:21:12.000000000Z web.1@alpha     | hello\n"
    )
    assert "@m1 " in swarmctl("service", "logs", "--no-resolve", "web").out
    options = cluster.log_requests[-1].options
    assert (options.tail, options.stdout, options.stderr, options.follow) == (-1, True, True, False)


def test_what_logs_are_asked_for(manager, cluster, swarmctl) -> None:
    cluster.create(spec())
    swarmctl("service", "logs", "-f", "-n", "5", "--since", "2026-11-23T22:21:12.5Z", "web")
    options = cluster.log_requests[-1].options
    assert (options.follow, options.tail) == (True, 5)
    assert options.since_ns == 1795472472500000000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-n", "x", "web"), 'tail value must be a positive integer or "all"'),
        (
            ("--since", "foo", "web"),
            'invalid value for "since": failed to parse value as time or duration: "foo"',
        ),
        (("nosuch",), "no such task or service: nosuch"),
    ],
)
def test_logs_that_can_not_be_had(manager, cluster, swarmctl, words, message) -> None:
    cluster.create(spec())
    result = swarmctl("service", "logs", *words)
    assert (result.code, result.err) == (1, f"{message}\n")


@pytest.mark.parametrize("words", [("rollback",), ("update", "--rollback")])
def test_rollback_goes_back_to_the_previous_spec(manager, cluster, swarmctl, words) -> None:
    created = cluster.create(spec())
    swarmctl("service", "update", "--image", "nginx:2", "web")
    result = swarmctl("service", *words, "web")
    assert result.code == 0, result
    assert result.out.splitlines()[0] == "web"
    assert result.out.endswith("verify: Service web converged\n")
    assert cluster.specs[created.id].task.container.image == "nginx:1@sha256:abc"


def test_rollback_stands_alone(manager, cluster, swarmctl) -> None:
    cluster.create(spec())
    result = swarmctl("service", "update", "--rollback", "--image", "nginx:2", "web")
    assert (result.code, result.err) == (1, "other flags may not be combined with --rollback\n")


def test_an_update_that_is_paused_ends_the_waiting(manager, cluster, swarmctl) -> None:
    created = cluster.create(spec())
    created.update.state = 2
    created.update.message = "update paused due to failure or early termination of task t"
    result = swarmctl("service", "update", "--image", "nginx:2", "web")
    assert result.code == 1
    assert result.err == f"service update paused: {created.update.message}\n"


def test_inspect_shows_how_far_an_update_is(manager, cluster, swarmctl) -> None:
    created = cluster.create(spec())
    created.update.state, created.update.message = 3, "update completed"
    created.update.started_at_ns = 1_700_000_000_000_000_000
    created.update.completed_at_ns = 1_700_000_001_000_000_000
    (shown,) = json.loads(swarmctl("service", "inspect", "web").out)
    assert shown["UpdateStatus"] == {
        "State": "completed",
        "StartedAt": "2023-11-14T22:13:20Z",
        "CompletedAt": "2023-11-14T22:13:21Z",
        "Message": "update completed",
    }
    pretty = swarmctl("service", "inspect", "--pretty", "web").out
    assert "UpdateStatus:\n State:\t\tcompleted\n Started:\t" in pretty
    assert " ago\n Message:\tupdate completed\n" in pretty


def complete(cluster, service_id: str) -> None:
    """A brain that runs jobs: the first of three slots is complete, the second at work."""
    service = cluster.services[service_id]
    for slot, state in ((1, task_pb2.TASK_STATE_COMPLETE), (2, task_pb2.TASK_STATE_RUNNING)):
        cluster.add_task(service, slot, "m1").status.state = state


def test_a_job_with_its_completions_and_what_runs_at_once(manager, cluster, swarmctl) -> None:
    cluster.place = complete
    words = ("--mode", "replicated-job", "--replicas", "3", "--max-concurrent", "2")
    result = swarmctl("service", "create", "-d", "--name", "work", *words, "alpine")
    assert result.code == 0, result
    (made,) = cluster.specs.values()
    assert (made.replicated_job.total_completions, made.replicated_job.max_concurrent) == (3, 2)
    listed = swarmctl("service", "ls", "--format", "{{.Mode}} {{.Replicas}}")
    assert listed.out == "replicated job 1/2 (1/3 completed)\n"
    tasks = swarmctl("service", "ps", "--format", "{{.Name}} {{.DesiredState}}", "work")
    assert tasks.out == "work.1 Complete\nwork.2 Complete\n"
    (shown,) = json.loads(swarmctl("service", "inspect", "work").out)
    assert shown["JobStatus"]["JobIteration"] == {"Index": 0}
    assert "UpdateConfig" not in shown["Spec"]


def test_a_job_is_scaled_by_its_completions(manager, cluster, swarmctl) -> None:
    made = spec()
    made.replicated_job.total_completions = made.replicated_job.max_concurrent = 1
    created = cluster.create(made)
    assert swarmctl("service", "scale", "-d", "web=4").code == 0
    assert cluster.specs[created.id].replicated_job.total_completions == 4
    assert swarmctl("service", "update", "-d", "--max-concurrent", "2", "web").code == 0
    assert cluster.specs[created.id].replicated_job.max_concurrent == 2


def test_max_concurrent_is_for_jobs(manager, swarmctl) -> None:
    result = swarmctl("service", "create", "--max-concurrent", "2", "alpine")
    assert (result.code, result.err) == (
        1,
        "max-concurrent can only be used with replicated-job mode\n",
    )


def test_with_registry_auth_sends_the_login_to_the_images_registry(
    manager, swarmctl, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    pair = base64.b64encode(b"me:secret").decode()
    auths = {"registry.example:5000": {"auth": pair}, "other.example": {"auth": "!"}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))

    def sent(*words: str) -> str:
        assert swarmctl("service", words[0], "--detach", *words[1:]).code == 0
        auth = manager.requests[-1].registry_auth
        return json.loads(base64.urlsafe_b64decode(auth))["serveraddress"] if auth else ""

    image = "registry.example:5000/app:1"
    assert sent("create", "--name", "a", "--with-registry-auth", image) == "registry.example:5000"
    assert sent("create", "--name", "b", image) == ""
    assert sent("create", "--name", "c", "--with-registry-auth", "redis") == ""
    assert sent("update", "--with-registry-auth", "a") == "registry.example:5000"
    assert sent("update", "--with-registry-auth", "--image", "other.example/x", "a") == ""
    assert sent("update", "--label-add", "x=y", "a") == ""
