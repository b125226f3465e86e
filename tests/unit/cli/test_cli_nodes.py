"""`swarmctl node …`, `swarmctl swarm …`, `info`, `version`, `task`, in Docker's words."""

import json

import pytest

from swarm.api.v1 import daemon_pb2, node_pb2
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import Annotations

_ZERO = (
    'invalid argument "0" for "--max-unavailable" flag: at least one task must be allowed to move\n'
)


def test_node_ls(manager, cluster, swarmctl) -> None:
    cluster.add_node("m10", "alpha10", leader=False)
    cluster.nodes["m10"].manager.learner = True
    cluster.add_node("m9", "alpha9", leader=False)
    out = swarmctl("node", "ls").out
    assert out == (
        "ID        HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION\n"
        "m1 *      alpha      Ready     Active         Leader           1.0\n"
        "m9        alpha9     Ready     Active         Reachable        1.0\n"
        "m10       alpha10    Ready     Active         Joining          1.0\n"
        "w1        beta       Ready     Active                          1.0\n"
    )
    assert swarmctl("node", "list", "-q").out == "m1\nm9\nm10\nw1\n"
    assert swarmctl("node", "ls", "-f", "role=worker", "--format", "{{.Hostname}}").out == "beta\n"
    shown = swarmctl("node", "ls", "-f", "id=m1", "--format", "json").out.splitlines()[0]
    assert json.loads(shown)["Self"] is True


def test_node_update(manager, cluster, swarmctl) -> None:
    result = swarmctl("node", "update", "--availability", "drain", "--label-add", "zone=a", "beta")
    assert (result.code, result.out) == (0, "beta\n"), result
    spec = cluster.nodes["w1"].node.spec
    assert spec.availability == node_pb2.NODE_AVAILABILITY_DRAIN
    assert dict(spec.annotations.labels) == {"zone": "a"}
    gone = swarmctl("node", "update", "--label-rm", "zz", "beta")
    assert (gone.code, gone.err) == (1, "key zz doesn't exist in node's labels\n")
    bad = swarmctl("node", "update", "--availability", "foo", "beta")
    assert (bad.code, bad.err) == (1, 'invalid availability: "foo": use active, pause, drain\n')


def test_promote_and_demote(manager, cluster, swarmctl) -> None:
    result = swarmctl("node", "promote", "alpha", "nosuch", "beta")
    assert result.out == (
        "Node alpha is already a manager.\nNode beta promoted to a manager in the swarm.\n"
    )
    assert (result.code, result.err) == (1, "Error: no such node: nosuch\n")
    assert cluster.nodes["w1"].node.spec.role == node_pb2.NODE_ROLE_MANAGER
    assert swarmctl("node", "demote", "beta").out == "Manager beta demoted in the swarm.\n"


def test_node_rm(manager, cluster, swarmctl) -> None:
    refused = swarmctl("node", "rm", "beta")
    assert (refused.code, refused.err) == (
        1,
        "Error response from daemon: node w1 is not down: use --force\n",
    )
    assert swarmctl("node", "rm", "--force", "beta").out == "beta\n"
    assert "w1" not in cluster.nodes
    assert swarmctl("node", "rm", "-f", "self").out == "self\n"
    assert not cluster.nodes


def test_node_inspect(manager, cluster, swarmctl) -> None:
    (shown,) = json.loads(swarmctl("node", "inspect", "self").out)
    assert (shown["ID"], shown["ManagerStatus"]["Addr"]) == ("m1", "alpha:2377")
    pretty = swarmctl("node", "inspect", "--pretty", "self").out
    assert pretty.startswith("ID:\t\t\tm1\nHostname:              \talpha\nJoined at:")
    assert " Raft Status:\t\tReachable\n Leader:\t\tYes\nPlatform:\n" in pretty
    missing = swarmctl("node", "inspect", "nosuch")
    assert (missing.code, missing.out, missing.err) == (1, "[]\n", "Error: no such node: nosuch\n")


def test_node_ps_and_task_ls(manager, cluster, swarmctl) -> None:
    spec = ServiceSpec(annotations=Annotations(name="web"))
    spec.replicated.replicas = 2
    cluster.create(spec)
    assert swarmctl("node", "ps", "--format", "{{.Name}}").out == "web.1\nweb.2\n"
    assert swarmctl("node", "ps", "-q", "beta").out == ""
    assert swarmctl("task", "ls", "--format", "{{.Name}} {{.Node}}").out == (
        "web.1 alpha\nweb.2 alpha\n"
    )
    (task, *_) = cluster.tasks
    assert json.loads(swarmctl("task", "inspect", task).out)[0]["Slot"] == 1
    missing = swarmctl("task", "inspect", "nosuch")
    assert (missing.code, missing.err) == (1, "Error: no such task: nosuch\n")


@pytest.mark.parametrize("words", [("init",), ("swarm", "init")])
def test_init(manager, swarmctl, words) -> None:
    result = swarmctl(*words, "--advertise-addr", "10.0.0.1", "--task-history-limit", "0")
    assert result.code == 0, result
    assert result.out == (
        "Swarm initialized: current node (m1) is now a manager.\n\n"
        "To add a worker to this swarm, run the following command:\n\n"
        "    swarmctl swarm join --token SWMTKN-1-d-w 10.0.0.1:2377\n\n"
        "To add a manager to this swarm, run 'swarmctl swarm join-token manager' and follow the "
        "instructions.\n"
    )
    (request,) = manager.requests
    assert (request.advertise_address, request.task_history_limit) == ("10.0.0.1", 0)
    assert (request.heartbeat_period_ns, request.snapshot_interval) == (1_000_000_000, 10_000)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("init", "--autolock"), 125, "--autolock is not supported yet"),
        (
            ("init", "--force-new-cluster", "--cert-expiry", "2h"),
            1,
            (
                "--cert-expiry does not go with --force-new-cluster, which keeps what is set: use "
                "'swarmctl swarm update --cert-expiry' afterwards"
            ),
        ),
        (
            ("cluster", "backup", "file"),
            1,
            "--passphrase-file is needed where there is no terminal to ask at",
        ),
        (
            ("init", "--availability", "foo"),
            1,
            'invalid availability "foo", only active, pause and drain are supported',
        ),
        (("swarm", "ca"), 125, "'swarmctl swarm ca' is not supported yet"),
        (("volume", "ls"), 125, "'swarmctl volume' is not supported yet"),
        (("run", "-it", "alpine"), 125, "-i is not supported yet"),
        (("swarm", "join-token", "king"), 1, "unknown role king"),
        (
            ("-H", "foo://x", "node", "ls"),
            125,
            'invalid host "foo://x": write unix://PATH or HOST:PORT',
        ),
    ],
)
def test_what_is_refused_without_asking(manager, swarmctl, words, code, message) -> None:
    result = swarmctl(*words)
    assert (result.code, result.err.splitlines()[0]) == (code, message)
    assert not manager.calls


def test_the_daemons_refusal_is_one_line(manager, swarmctl) -> None:
    manager.refuse = "This node is already part of a swarm.\nLeave it first."
    result = swarmctl("init")
    assert (result.code, result.err) == (
        1,
        "Error response from daemon: This node is already part of a swarm. Leave it first.\n",
    )


def test_join(manager, swarmctl) -> None:
    result = swarmctl("join", "--token", "SWMTKN-1-m", "10.0.0.1,10.0.0.2:2377")
    assert (result.code, result.out) == (0, "This node joined a swarm as a manager.\n")
    assert list(manager.requests[0].remote_addresses) == ["10.0.0.1", "10.0.0.2:2377"]
    without = swarmctl("join", "10.0.0.1")
    assert without.code == 1
    assert without.err.startswith("a join token is needed: --token SWMTKN-1-")


def test_join_token(manager, swarmctl) -> None:
    assert swarmctl("join-token", "worker").out == (
        "To add a worker to this swarm, run the following command:\n\n"
        "    swarmctl swarm join --token SWMTKN-1-d-w 10.0.0.1:2377\n\n"
    )
    assert swarmctl("swarm", "join-token", "-q", "manager").out == "SWMTKN-1-d-m\n"
    rotated = swarmctl("join-token", "--rotate", "worker").out
    assert rotated.startswith("Successfully rotated worker join token.\n\n")
    assert "SWMTKN-1-d-new" in rotated


def test_leave(manager, swarmctl) -> None:
    refused = swarmctl("leave")
    assert (refused.code, refused.err) == (
        1,
        "Error response from daemon: this is the last manager: use --force\n",
    )
    assert swarmctl("leave", "-f").out == "Node left the swarm.\n"


def test_swarm_update(manager, cluster, swarmctl) -> None:
    assert swarmctl("swarm", "update", "--task-history-limit", "3").out == "Swarm updated.\n"
    assert cluster.cluster.spec.task_history_limit == 3
    swarmctl("swarm", "update", "--max-snapshots", "2", "--snapshot-interval", "500")
    assert cluster.cluster.spec.max_snapshots == 2
    assert cluster.cluster.spec.snapshot_interval == 500
    nothing = swarmctl("swarm", "update")
    assert nothing.out.startswith("Usage:  swarmctl swarm update [OPTIONS]")


def test_info(manager, cluster, swarmctl) -> None:
    out = swarmctl("info").out
    assert " Swarm: active\n  NodeID: m1\n  Is Manager: true\n  ClusterID: cluster1\n" in out
    assert "  Manager Addresses:\n   alpha:2377\n" in out
    assert swarmctl("info", "-f", "{{.Swarm.LocalNodeState}}").out == "active\n"
    assert json.loads(swarmctl("info", "-f", "json").out)["Swarm"]["Managers"] == 1


def test_info_without_a_cluster(manager, swarmctl) -> None:
    manager.info = daemon_pb2.InfoResponse(hostname="h", version="0.1.0", runtime="oci")
    assert " Swarm: inactive\n Default Runtime: oci\n" in swarmctl("info").out


def test_version(manager, swarmctl) -> None:
    result = swarmctl("version")
    assert result.code == 0
    assert result.out.startswith("Client:\n Version:           0.1.0\n")
    assert "\nServer:\n Version:           0.1.0\n" in result.out
    assert swarmctl("version", "-f", "{{.Server.Version}}").out == "0.1.0\n"
    assert swarmctl("--version").out == "swarmctl version 0.1.0\n"


def test_version_without_a_daemon(sockets, swarmctl) -> None:
    result = swarmctl("-H", f"unix://{sockets}/none", "version")
    assert result.code == 1
    assert result.out.startswith("Client:\n")
    assert result.err.startswith(f"Cannot connect to swarmd at unix://{sockets}/none. ")


def test_a_drain_in_turn_waits_until_the_node_is_empty(manager, cluster, swarmctl) -> None:
    spec = ServiceSpec(annotations=Annotations(name="web"))
    spec.replicated.replicas = 2
    cluster.create(spec)
    words = ("node", "update", "--availability", "drain", "--max-unavailable", "2")
    waited = swarmctl(*words, "--wait-timeout", "1s", "alpha")
    assert (waited.code, waited.out) == (1, "alpha\n2 tasks left: web.1, web.2\n")
    assert waited.err == (
        "node alpha is not empty after 1s: 2 tasks left: web.1, web.2. The drain goes on: see "
        "`swarmctl node ps alpha`, or end it with `swarmctl node update --availability active "
        "alpha`\n"
    )
    assert cluster.nodes["m1"].node.spec.drain.max_unavailable == 2
    for task in cluster.tasks.values():
        task.node_id = "w1"
    assert swarmctl(*words, "alpha").out == "alpha\nverify: Node alpha is empty\n"
    assert swarmctl(*words, "-d", "beta").out == "beta\n"
    assert swarmctl("node", "update", "--label-add", "a=b", "beta").code == 0
    assert cluster.nodes["w1"].node.spec.drain.max_unavailable == 2
    # Docker's drain, at once.
    assert swarmctl("node", "update", "--availability", "drain", "beta").out == "beta\n"
    assert not cluster.nodes["w1"].node.spec.HasField("drain")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--max-unavailable", "1"), "--max-unavailable goes with --availability drain\n"),
        (
            ("--availability", "drain", "--max-unavailable", "0"),
            _ZERO,
        ),
    ],
)
def test_what_max_unavailable_goes_with(manager, cluster, swarmctl, words, error) -> None:
    refused = swarmctl("node", "update", *words, "beta")
    assert (refused.code, refused.err) == (125, error)
    assert not manager.calls
