"""`swarmctl history service`, and `service rollback --to`."""

import json
import time

import pytest

from swarm.api.v1.service_pb2 import ServiceRevision, ServiceSpec
from swarm.api.v1.types_pb2 import Annotations, Meta
from swarm.cli.specdiff import differences
from swarm.dockerapi.service import service_spec_to_json

NS = 1_000_000_000


def spec(image: str = "nginx:1", replicas: int = 1, *env: str) -> ServiceSpec:
    made = ServiceSpec(annotations=Annotations(name="web"))
    made.task.container.image = image
    made.task.container.env.extend(env)
    made.replicated.replicas = replicas
    return made


@pytest.fixture
def web(cluster):
    service = cluster.create(spec())
    service.revision = 3
    specs = [("uid 0", spec()), ("ann", spec("nginx:2", 3, "A=1")), ("brain", spec())]
    cluster.history[service.id] = [
        ServiceRevision(
            revision=number,
            spec=one,
            who=who,
            meta=Meta(created_at_ns=time.time_ns() - (5 - number) * 60 * NS),
        )
        for number, (who, one) in enumerate(specs, start=1)
    ]
    return service


def test_history_says_who_when_and_what(manager, web, swarmctl) -> None:
    shown = swarmctl("history", "service", "web", "--no-trunc")
    assert shown.out == (
        "REVISION   CREATED         CREATED BY                   CHANGES\n"
        "3 *        2 minutes ago   swarm (automatic rollback)   as revision 1: "
        "~ Mode.Replicated.Replicas: 3 -> 1; - ContainerSpec.Env: A=1; "
        "~ ContainerSpec.Image: nginx:2 -> nginx:1\n"
        "2          3 minutes ago   ann                          "
        "~ Mode.Replicated.Replicas: 1 -> 3; + ContainerSpec.Env: A=1; "
        "~ ContainerSpec.Image: nginx:1 -> nginx:2\n"
        "1          4 minutes ago   uid 0                        created\n"
    )
    assert swarmctl("history", "service", "-q", "web").out == "3\n2\n1\n"
    newest = json.loads(
        swarmctl("history", "service", "--format", "json", "web").out.split("\n")[0]
    )
    assert (newest["Revision"], newest["Current"]) == (3, True)
    missing = swarmctl("history", "service", "nosuch")
    assert (missing.code, missing.err) == (1, "Error: no such service: nosuch\n")


def test_rollback_to_a_revision(manager, cluster, web, swarmctl) -> None:
    cluster.previous[web.id] = spec("nginx:2")
    result = swarmctl("service", "rollback", "--to", "2", "--detach", "web")
    assert result.code == 0, result
    asked = next(r for r in manager.requests if hasattr(r, "rollback_to"))
    assert (asked.rollback, asked.rollback_to) == (True, 2)
    bad = swarmctl("service", "rollback", "--to", "0", "web")
    assert bad.code == 125
    assert bad.err.startswith('invalid argument "0" for "--to" flag: revisions are counted from 1')


def test_what_differs_is_in_the_apis_words() -> None:
    old, new = spec("a", 1, "A=1", "B=2"), spec("a", 1, "B=2", "C=3")
    old.task.resources.reservations.nano_cpus = NS // 2
    new.task.resources.reservations.nano_cpus = 2 * NS
    new.update.monitor_ns = 5 * NS
    new.update.parallelism = 1
    texts = [str(d) for d in differences(service_spec_to_json(old), service_spec_to_json(new))]
    assert "- ContainerSpec.Env: A=1" in texts
    assert "+ ContainerSpec.Env: C=3" in texts
    assert "~ Resources.Reservations.NanoCPUs: 0.5 -> 2" in texts
    assert "+ UpdateConfig.Monitor: 5s" in texts
    assert differences(service_spec_to_json(old), service_spec_to_json(old)) == []
