"""The client loses managers and leaders, and the user does not notice."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.logs_pb2 import LogLine
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import Annotations
from swarm.cli.client import Client, new_request_id
from swarm.cli.endpoints import (
    Certificates,
    certificates,
    default_endpoint,
    parse_endpoints,
)
from swarm.cli.errors import CliError
from swarm.security.certificates import (
    ADMIN_LIFETIME,
    KeyPair,
    create_request,
    create_root,
    issue_admin_certificate,
    issue_node_certificate,
    node_id_of,
)
from swarm.security.roles import Role


def spec(name: str = "web", replicas: int = 1) -> ServiceSpec:
    made = ServiceSpec(annotations=Annotations(name=name))
    made.replicated.replicas = replicas
    return made


@contextlib.contextmanager
def client_of(*hosts: str, **settings: float) -> Iterator[Client]:
    with Client(parse_endpoints(hosts), **settings) as client:
        yield client


def list_services(client: Client) -> list[str]:
    answer = client.ask(lambda stubs: stubs.control.ListServices, pb.ListServicesRequest())
    return [view.service.name for view in answer.services]


def test_hosts() -> None:
    endpoints = parse_endpoints(["unix:///a.sock, tcp://h:1", "/b.sock", "[::1]:5", "h"])
    assert [endpoint.name for endpoint in endpoints] == [
        "unix:///a.sock",
        "h:1",
        "unix:///b.sock",
        "[::1]:5",
        "h:2378",
    ]


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(CliError, match="has 107 bytes at most"):
        parse_endpoints(["unix:///" + "a" * 107])


@pytest.mark.parametrize("text", ["unix://", "http://h", "h:x", "h:0", ":5", "h:99999"])
def test_hosts_that_are_none(text: str) -> None:
    with pytest.raises(CliError, match="invalid host"):
        parse_endpoints([text])


def test_the_users_own_daemon_is_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("swarm.cli.endpoints.SYSTEM_SOCKET", tmp_path / "none")
    own = tmp_path / "swarm" / "swarmd.sock"
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert default_endpoint(environment).name == f"unix://{tmp_path}/none"
    own.parent.mkdir()
    own.touch()
    assert default_endpoint(environment).name == f"unix://{own}"


def test_an_address_asks_for_a_certificate() -> None:
    with client_of("127.0.0.1:1") as client, pytest.raises(CliError, match="set SWARM_CERT_PATH"):
        list_services(client)


@pytest.fixture
def node_listener(cluster, sockets: Path, manager_class) -> Iterator[tuple[str, KeyPair]]:
    """A manager's listener with mutual TLS, and its cluster's root."""
    now = datetime.now(UTC)
    root = create_root("cluster1", now=now - timedelta(days=30))
    request = create_request()
    certificate = issue_node_certificate(
        root,
        request.csr_pem,
        node_id=node_id_of(request.csr_pem),
        cluster_id="cluster1",
        role=Role.MANAGER,
        now=now,
    )
    manager = manager_class(cluster, None, "m1")
    credentials = grpc.ssl_server_credentials(
        [(request.key_pem, certificate)], root.certificate_pem, require_client_auth=True
    )
    port = manager.server.add_secure_port("127.0.0.1:0", credentials)
    manager.server.start()
    yield f"127.0.0.1:{port}", root
    manager.stop()


def admin_folder(
    folder: Path,
    root: KeyPair,
    server_root: KeyPair,
    now: datetime | None = None,
    lifetime: timedelta = ADMIN_LIFETIME,
) -> Path:
    """An administrator's certificate of `root`, beside the root that the server has."""
    request = create_request()
    certificate = issue_admin_certificate(
        root,
        request.csr_pem,
        name="ann",
        cluster_id="cluster1",
        now=now or datetime.now(UTC),
        lifetime=lifetime,
    )
    (folder / "ca.pem").write_bytes(server_root.certificate_pem)
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(request.key_pem)
    return folder


def test_an_administrators_certificate(node_listener, tmp_path: Path, cluster) -> None:
    host, root = node_listener
    cluster.create(spec())
    found = certificates({"SWARM_CERT_PATH": str(admin_folder(tmp_path, root, root))})
    with Client(parse_endpoints([host]), found) as client:
        assert list_services(client) == ["web"]


def test_a_cluster_of_somebody_else(node_listener, tmp_path: Path) -> None:
    host, _ = node_listener
    other = create_root("cluster2", now=datetime.now(UTC))
    found = certificates({"SWARM_CERT_PATH": str(admin_folder(tmp_path, other, other))})
    with Client(parse_endpoints([host]), found) as client, pytest.raises(CliError) as error:
        list_services(client)
    assert error.value.message == (
        f"cannot connect to swarmd at {host}: the TLS handshake failed: {tmp_path}/cert.pem or "
        f"{tmp_path}/ca.pem is of another cluster"
    )


def test_a_certificate_of_somebody_else(node_listener, tmp_path: Path) -> None:
    host, root = node_listener
    other = create_root("cluster2", now=datetime.now(UTC))
    found = certificates({"SWARM_CERT_PATH": str(admin_folder(tmp_path, other, root))})
    with Client(parse_endpoints([host]), found) as client, pytest.raises(CliError) as error:
        list_services(client)
    assert error.value.message.endswith("key.pem do not belong together")


@pytest.mark.parametrize(
    ("days", "reason"), [(-3, "expired at"), (3, "only: set this machine's clock")]
)
def test_a_clock_and_a_certificate_that_do_not_agree(
    node_listener, tmp_path: Path, days: int, reason: str
) -> None:
    host, root = node_listener
    day = timedelta(days=1)
    moment = datetime.now(UTC) + days * day
    folder = admin_folder(tmp_path, root, root, now=moment, lifetime=day)
    found = certificates({"SWARM_CERT_PATH": str(folder)})
    with Client(parse_endpoints([host]), found) as client, pytest.raises(CliError) as error:
        list_services(client)
    assert f"{tmp_path}/cert.pem" in error.value.message
    assert reason in error.value.message


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    found = certificates({"SWARM_CERT_PATH": str(tmp_path)})
    assert found == Certificates(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises(CliError, match=r"cannot read .*ca\.pem: No such file"):
        found.read()


def test_an_address_without_a_certificate_is_passed_over(start, cluster) -> None:
    cluster.create(spec())
    manager = start()
    with client_of("127.0.0.1:1", manager.host) as client:
        assert list_services(client) == ["web"]
    manager.stop()
    with client_of("127.0.0.1:1", manager.host) as client, pytest.raises(CliError) as error:
        list_services(client)
    assert error.value.message.startswith(
        f"Cannot connect to swarmd at 127.0.0.1:1, {manager.host}. Is the daemon running? "
        "And 127.0.0.1:1 asks for a certificate"
    )


def test_a_request_that_no_manager_reads(start) -> None:
    request = pb.CreateServiceRequest(request_id="r", spec=spec("a" * (5 << 20)))
    with client_of(start().host) as client, pytest.raises(CliError, match=r"the 1\.5 MiB that one"):
        client.ask(lambda stubs: stubs.control.CreateService, request)


def test_nobody_there(sockets: Path) -> None:
    hosts = [f"unix://{sockets}/a", f"unix://{sockets}/b"]
    with client_of(*hosts) as client, pytest.raises(CliError) as error:
        list_services(client)
    assert error.value.message == (
        f"Cannot connect to swarmd at {hosts[0]}, {hosts[1]}. Is the daemon running? "
        "Start it with: swarmd --state-dir DIR"
    )


def test_the_first_manager_is_down(start, sockets: Path, cluster) -> None:
    cluster.create(spec())
    with client_of(f"unix://{sockets}/none", start().host) as client:
        assert list_services(client) == ["web"]


def test_a_manager_is_killed_between_calls(start, cluster) -> None:
    cluster.create(spec())
    first, second = start(), start()
    with client_of(f"{first.host},{second.host}") as client:
        assert list_services(client) == ["web"]
        first.stop()
        assert list_services(client) == ["web"]
    assert (first.calls, second.calls) == (["ListServices"], ["ListServices"])


def test_a_change_whose_answer_was_lost_is_made_once(start, cluster) -> None:
    first, second = start(), start()
    first.lose_answers = 1
    with client_of(first.host, second.host) as client:
        request = pb.CreateServiceRequest(request_id=new_request_id(), spec=spec())
        answer = client.ask(lambda stubs: stubs.control.CreateService, request)
    assert list(cluster.services) == [answer.service.service.id]
    assert len(cluster.request_ids) == 2
    assert len(set(cluster.request_ids)) == 1


def test_without_a_leader_it_is_asked_again_until_there_is_one(start, cluster) -> None:
    only = start()
    only.refuse = "there is no leader"
    enter = only._enter

    def until_the_third(name, request, context) -> None:
        if len(only.calls) == 2:
            only.refuse = ""
        enter(name, request, context)

    only._enter = until_the_third
    with client_of(only.host) as client:
        assert list_services(client) == []
    assert len(only.calls) == 3


def test_no_leader_for_good(start) -> None:
    only = start()
    only.refuse = "The swarm does not have a leader."
    removal = pb.RemoveServiceRequest(request_id="r", reference="web")
    with client_of(only.host, deadline_s=0.4) as client:
        with pytest.raises(CliError) as error:
            list_services(client)
        assert error.value.message == "no answer within 0.4s: The swarm does not have a leader"
        with pytest.raises(CliError) as error:
            client.ask(lambda stubs: stubs.control.RemoveService, removal)
    assert error.value.message == (
        "no answer within 0.4s: The swarm does not have a leader; whether the request took "
        "effect is not known"
    )


def test_what_a_manager_said_counts_more_than_that_another_is_gone(start, sockets: Path) -> None:
    only = start()
    only.refuse = "The swarm does not have a leader."
    gone = [f"unix://{sockets}/gone-{number}" for number in (1, 2)]
    hosts = (gone[0], only.host, gone[1])
    with (
        client_of(*hosts, deadline_s=0.4) as client,
        pytest.raises(CliError, match="The swarm does not have a leader"),
    ):
        list_services(client)


def test_a_worker_is_passed_over(start, cluster) -> None:
    worker, manager = start(), start()
    worker.foreign = True
    with client_of(worker.host, manager.host) as client:
        assert list_services(client) == []
    with client_of(worker.host) as client, pytest.raises(CliError) as error:
        list_services(client)
    assert error.value.message == (
        "Error response from daemon: This node is not a swarm manager: ask one"
    )


def test_a_silent_manager_is_passed_over(start, sockets: Path) -> None:
    """As one that is stopped (SIGSTOP): the kernel accepts, and nothing is ever answered."""
    path = sockets / "silent"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with client_of(f"unix://{path}", start().host, attempt_s=0.3) as client:
            assert list_services(client) == []


def test_refusals_are_not_asked_again(start, cluster) -> None:
    first, second = start(), start()
    with client_of(first.host, second.host) as client, pytest.raises(CliError) as error:
        client.ask(lambda stubs: stubs.control.GetService, pb.GetServiceRequest(reference="nosuch"))
    assert error.value.message == "Error: no such service: nosuch"
    assert not second.calls


def test_a_watch_goes_on_at_the_next_manager(start, cluster) -> None:
    first, second = start(), start()
    with client_of(first.host, second.host) as client:
        stream = client.follow(lambda stubs: stubs.control.Watch, lambda: pb.WatchRequest())
        assert next(stream).current
        first.stop()
        assert next(stream).current
        cluster.create(spec())
        assert next(stream).events
        stream.close()
    assert second.calls == ["Watch"]


def test_waiting_outlives_the_manager(start, cluster, swarmctl) -> None:
    first, second = start(), start()
    cluster.place = lambda *_: None

    def kill_then_run() -> None:
        while "Watch" not in first.calls:
            pass
        first.stop()
        (service_id,) = cluster.services
        cluster.run_all(service_id)

    killer = threading.Thread(target=kill_then_run)
    killer.start()
    result = swarmctl(
        "-H", f"{first.host},{second.host}", "service", "create", "--name", "web", "nginx"
    )
    killer.join()
    assert result.code == 0, result
    assert "converged" in result.out


def test_logs_go_on_where_they_were(start, cluster, swarmctl) -> None:
    first, second = start(), start()
    service = cluster.create(spec())
    (task_id,) = cluster.tasks
    cluster.log_answers = [
        pb.ServiceLogsResponse(
            lines=[LogLine(task_id=task_id, node_id="m1", timestamp_ns=moment, data=data)],
            warnings=["node w1 can't be reached"] if data == b"one" else ["node w2 is gone"],
        )
        for moment, data in ((5, b"one"), (6, b"two"))
    ]
    first.lose_answers = 1
    result = swarmctl("-H", f"{first.host},{second.host}", "service", "logs", "--raw", service.name)
    assert (result.code, result.out) == (0, "one\ntwo\n"), result
    # The next manager can't reach that node either: that was said already.
    assert result.err == "warning: node w1 can't be reached\nwarning: node w2 is gone\n"
    assert cluster.log_requests[1].options.since_ns == 5
