"""A real manager's listeners on loopback: who may call what, over real TLS."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from swarm.api.v1 import control_pb2 as control
from swarm.api.v1.cluster_pb2 import AdminCertificate
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.daemon_pb2 import InitRequest
from swarm.api.v1.daemon_pb2_grpc import DaemonStub
from swarm.api.v1.dispatcher_pb2 import AgentMessage, SessionHello, StatusReport, TaskStatusUpdate
from swarm.api.v1.dispatcher_pb2_grpc import DispatcherStub
from swarm.api.v1.join_pb2 import JoinClusterRequest, RenewCertificateRequest
from swarm.api.v1.join_pb2_grpc import CertificatesStub, JoinStub
from swarm.api.v1.managers_pb2 import JoinRaftRequest
from swarm.api.v1.managers_pb2_grpc import ManagersStub
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER, NodeDescription
from swarm.api.v1.raft_pb2 import RaftBatch
from swarm.api.v1.raft_pb2_grpc import RaftStub
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, TaskStatus
from swarm.manager.api.authorization import FORWARDED_FOR
from swarm.node.addresses import Addresses
from swarm.node.bootstrap import create_cluster
from swarm.node.config import NodeConfig
from swarm.node.joining import JoinError, join_cluster
from swarm.node.manager_role import ManagerRole
from swarm.node.state import StateFolder
from swarm.security.certificates import (
    KeyPair,
    create_request,
    create_root,
    identity_of,
    issue_admin_certificate,
    issue_node_certificate,
    node_id_of,
    validity_of,
)
from swarm.security.errors import SecurityError
from swarm.security.node_keys import NodeBundle
from swarm.security.roles import Role
from swarm.security.tls import admin_channel, join_channel, manager_channel
from swarm.security.tokens import generate_token


class OneManager:
    """A cluster of one, without an agent."""

    def __init__(self, folder: Path, addresses: Addresses) -> None:
        self.config = NodeConfig(state_dir=folder, socket=folder / "sock", hostname="m1")
        self.addresses = addresses
        self.state, self.bundle = create_cluster(
            self.config, StateFolder(folder), addresses, InitRequest()
        )
        self.stopped: list[str] = []
        self.role = ManagerRole(
            self.config,
            StateFolder(folder),
            addresses,
            self.state.raft_id,
            lambda: self.bundle,
            self.stopped.append,
        )

    @property
    def store(self):
        return self.role.manager.store

    @property
    def root(self) -> KeyPair:
        cluster = self.store.cluster()
        assert cluster is not None
        return KeyPair(cluster.root_certificate_pem, cluster.secrets.root_key_pem)

    def token(self, role: str) -> str:
        cluster = self.store.cluster()
        assert cluster is not None
        both = cluster.secrets
        return both.worker_token if role == "worker" else both.manager_token

    async def join(self, token: str, hostname: str = "w1"):
        keys = create_request()
        request = JoinClusterRequest(
            token=token,
            csr_pem=keys.csr_pem,
            description=NodeDescription(hostname=hostname),
            address="127.0.0.1",
        )
        return await join_cluster([self.addresses.join_address], request, keys)

    def channel(self, bundle: NodeBundle) -> grpc.aio.Channel:
        return manager_channel(self.addresses.node_address, bundle)

    def admin(self, name: str = "alice") -> grpc.aio.Channel:
        keys = create_request()
        certificate = issue_admin_certificate(
            self.root,
            keys.csr_pem,
            name=name,
            cluster_id=self.state.cluster_id,
            now=datetime.now(UTC),
        )
        pair = KeyPair(certificate, keys.key_pem)
        return admin_channel(self.addresses.node_address, self.root.certificate_pem, pair)


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[OneManager]:
    number = secrets.randbelow(200) + 20
    one = OneManager(tmp_path, Addresses(f"127.9.{number}.1", f"127.9.{number}.1", 2377))
    await one.role.start()
    await one.role.manager.read(10)
    yield one
    await one.role.stop()


async def refused(call: "asyncio.Future[object]") -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def a_service(name: str) -> control.CreateServiceRequest:
    spec = ServiceSpec()
    spec.annotations.name = name
    spec.task.container.image = "swarm/demo"
    spec.replicated.replicas = 0
    return control.CreateServiceRequest(request_id=secrets.token_hex(8), spec=spec)


async def test_an_admin_certificate_uses_the_control_api_and_is_written_down(
    manager: OneManager,
) -> None:
    async with manager.admin("alice") as channel:
        answer = await ControlStub(channel).CreateService(a_service("web"), timeout=10)
    row = manager.store.revision_row(answer.service.service.id, 1)
    assert row is not None
    assert row.who == "admin alice"


async def test_a_worker_is_no_user_and_no_manager(manager: OneManager) -> None:
    bundle, _ = await manager.join(manager.token("worker"))
    async with manager.channel(bundle) as channel:
        code, said = await refused(ControlStub(channel).ListServices(control.ListServicesRequest()))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "\n" not in said
        code, _ = await refused(ManagersStub(channel).JoinRaft(JoinRaftRequest()))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        metadata = ((FORWARDED_FOR, "uid 0"),)
        code, _ = await refused(
            ControlStub(channel).CreateService(a_service("evil"), metadata=metadata)
        )
        assert code is grpc.StatusCode.PERMISSION_DENIED
        stream = RaftStub(channel).Stream()
        await stream.wait_for_connection()
        code, _ = await refused(_write_and_finish(stream))
        assert code is grpc.StatusCode.PERMISSION_DENIED
    assert manager.store.service_by_name("evil") is None


async def _write_and_finish(stream: grpc.aio.StreamUnaryCall) -> object:
    try:
        await stream.write(RaftBatch())
        await stream.done_writing()
    except asyncio.InvalidStateError:
        pass
    return await stream


async def test_a_manager_certificate_calls_the_control_api_only_for_somebody(
    manager: OneManager,
) -> None:
    bundle, _ = await manager.join(manager.token("manager"))
    async with manager.channel(bundle) as channel:
        code, _ = await refused(ControlStub(channel).CreateService(a_service("web")))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        metadata = ((FORWARDED_FOR, "uid 1000"),)
        answer = await ControlStub(channel).CreateService(a_service("web"), metadata=metadata)
    row = manager.store.revision_row(answer.service.service.id, 1)
    assert row is not None
    assert row.who == "uid 1000"


def admin_request(name: str = "ann", **fields: object) -> control.CreateAdminCertificateRequest:
    return control.CreateAdminCertificateRequest(
        request_id=secrets.token_hex(8), csr_pem=create_request().csr_pem, name=name, **fields
    )


async def test_an_administrators_certificate_is_made_for_users_only_and_noted(
    manager: OneManager,
) -> None:
    worker, _ = await manager.join(manager.token("worker"))
    other, _ = await manager.join(manager.token("manager"), "m2")
    denied = grpc.StatusCode.PERMISSION_DENIED
    for_somebody = ((FORWARDED_FOR, "uid 1000"),)
    async with manager.channel(worker) as channel:
        ask = ControlStub(channel).CreateAdminCertificate
        assert (await refused(ask(admin_request())))[0] is denied
        assert (await refused(ask(admin_request(), metadata=for_somebody)))[0] is denied
    async with manager.channel(other) as channel:
        ask = ControlStub(channel).CreateAdminCertificate
        assert (await refused(ask(admin_request())))[0] is denied
        assert not noted(manager)
        request = admin_request(lifetime_ns=3600 * 10**9)
        answer = await ask(request, metadata=for_somebody)
        again = await ask(request, metadata=for_somebody)
    assert validity_of(again.certificate_pem) == validity_of(answer.certificate_pem)
    start, end = validity_of(answer.certificate_pem)
    assert end - start == timedelta(hours=2)  # backdated by an hour, as all are
    identity = identity_of(answer.certificate_pem)
    assert (identity.role, identity.name, identity.node_id) == (Role.ADMIN, "ann", "")
    assert answer.manager_addresses == [manager.addresses.node_address]
    assert answer.root_certificate_pem == manager.root.certificate_pem
    (row,) = noted(manager)
    assert (row.name, row.who) == ("ann", "uid 1000")
    assert row.id == node_id_of(request.csr_pem)
    assert row.expires_at_ns - row.issued_at_ns == 3600 * 10**9


async def test_a_request_for_an_administrators_certificate_that_can_not_be(
    manager: OneManager,
) -> None:
    async with manager.admin() as channel:
        ask = ControlStub(channel).CreateAdminCertificate
        for request, words in (
            (admin_request(name=""), "invalid name ''"),
            (admin_request(name="ann\nbob"), "invalid name"),
            (admin_request(name="a" * 65), "1 to 64 characters"),
            (admin_request(lifetime_ns=1), "at least 1h"),
            (admin_request(lifetime_ns=-5), "at least 1h"),
            (control.CreateAdminCertificateRequest(name="ann"), "no certificate request"),
        ):
            code, said = await refused(ask(request))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert words in said
            assert "\n" not in said
        code, said = await refused(DaemonStub(channel).Init(InitRequest()))
        assert code is grpc.StatusCode.UNIMPLEMENTED, "this manager has no daemon around it"
    assert not noted(manager)


def noted(manager: OneManager) -> list[AdminCertificate]:
    cluster = manager.store.cluster()
    assert cluster is not None
    return list(cluster.admin_certificates)


async def test_a_node_that_was_removed_is_told_so(manager: OneManager) -> None:
    bundle, answer = await manager.join(manager.token("worker"))
    async with manager.admin() as channel:
        await ControlStub(channel).RemoveNode(
            control.RemoveNodeRequest(request_id="r1", reference=answer.node_id, force=True)
        )
    async with manager.channel(bundle) as channel:
        code, said = await refused(
            CertificatesStub(channel).RenewCertificate(RenewCertificateRequest())
        )
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "removed" in said


async def test_certificates_of_others_and_old_ones_do_not_get_in(manager: OneManager) -> None:
    keys = create_request()
    foreign = issue_node_certificate(
        create_root("someothercluster", now=datetime.now(UTC)),
        keys.csr_pem,
        node_id=node_id_of(keys.csr_pem),
        cluster_id=manager.state.cluster_id,
        role=Role.MANAGER,
        now=datetime.now(UTC),
    )
    bundle, _ = await manager.join(manager.token("manager"))
    for certificate, key in (
        (foreign, keys.key_pem),
        (expired(bundle.certificate_pem, manager.root), bundle.key_pem),
    ):
        caller = NodeBundle(key, certificate, manager.root.certificate_pem)
        async with manager.channel(caller) as channel:
            code, _ = await refused(ManagersStub(channel).JoinRaft(JoinRaftRequest(), timeout=3))
            assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def expired(certificate_pem: bytes, root: KeyPair) -> bytes:
    """The same certificate, signed by the same root, that ran out a minute ago."""
    old = x509.load_pem_x509_certificate(certificate_pem)
    issuer = x509.load_pem_x509_certificate(root.certificate_pem)
    key = load_pem_private_key(root.key_pem, None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(issuer.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(datetime.now(UTC) - timedelta(minutes=1))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(Encoding.PEM)


async def test_tokens_choose_the_role_and_wrong_ones_are_refused(manager: OneManager) -> None:
    _, worker = await manager.join(manager.token("worker"))
    assert worker.role == NODE_ROLE_WORKER
    bundle, joined = await manager.join(manager.token("manager"), "m2")
    assert joined.role == NODE_ROLE_MANAGER
    assert bundle.identity.role is Role.MANAGER
    with pytest.raises((JoinError, SecurityError), match="token"):
        await manager.join(manager.token("worker")[:-5] + "aaaaa")
    with pytest.raises(SecurityError):
        await manager.join("SWMTKN-1-nonsense")
    assert len(list(manager.store.nodes())) == 3


async def test_a_token_of_another_cluster_shows_its_secret_to_nobody(
    manager: OneManager, tmp_path: Path
) -> None:
    """The digest is checked before the secret is sent: a stranger on the port learns nothing."""
    other_root = create_root("another", now=datetime.now(UTC))
    with pytest.raises(SecurityError, match=r"digest|root|token"):
        await manager.join(generate_token(other_root.certificate_pem))


async def test_joining_again_with_the_same_key_is_the_same_node(manager: OneManager) -> None:
    keys = create_request()
    request = JoinClusterRequest(
        token=manager.token("worker"),
        csr_pem=keys.csr_pem,
        description=NodeDescription(hostname="w"),
        address="127.0.0.1",
    )
    root = manager.root.certificate_pem
    async with join_channel(manager.addresses.join_address, root) as channel:
        first = await JoinStub(channel).JoinCluster(request)
        second = await JoinStub(channel).JoinCluster(request)
    assert first.node_id == second.node_id
    assert len([n for n in manager.store.nodes() if n.id == first.node_id]) == 1


async def test_the_join_listener_takes_no_large_messages(manager: OneManager) -> None:
    root = manager.root.certificate_pem
    async with join_channel(manager.addresses.join_address, root) as channel:
        request = JoinClusterRequest(token="x" * 200_000)
        code, _ = await refused(JoinStub(channel).JoinCluster(request))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_no_secret_in_what_users_and_nodes_see(manager: OneManager) -> None:
    root_key = manager.root.key_pem
    secret = manager.token("manager").rsplit("-", 1)[1].encode()
    async with manager.admin() as channel:
        stub = ControlStub(channel)
        request = a_service("pulled")
        request.registry_auth = "a-login-to-a-registry"
        made = await stub.CreateService(request)
        (stored,) = manager.store.services()
        assert stored.registry_auth == request.registry_auth
        history = control.ServiceHistoryRequest(reference="pulled")
        shown = [
            made.SerializeToString(),
            (await stub.ServiceHistory(history)).SerializeToString(),
            (await stub.GetCluster(control.GetClusterRequest())).SerializeToString(),
            (await stub.ListNodes(control.ListNodesRequest())).SerializeToString(),
        ]
        watch = stub.Watch(control.WatchRequest(tables=[1, 2, 3, 4, 5, 6]))
        shown.append((await watch.read()).SerializeToString())
        watch.cancel()
    for answer in shown:
        assert root_key not in answer
        assert secret not in answer
        assert stored.registry_auth.encode() not in answer


async def test_an_agent_speaks_for_its_own_node_alone(manager: OneManager) -> None:
    """A status of a task on another node changes nothing."""
    victim, victim_answer = await manager.join(manager.token("worker"), "victim")
    evil, _ = await manager.join(manager.token("worker"), "evil")
    async with manager.admin() as channel:
        request = a_service("web")
        request.spec.replicated.replicas = 1
        async with manager.channel(victim) as victim_channel:
            stream = DispatcherStub(victim_channel).Session()
            await stream.write(AgentMessage(hello=SessionHello(address="127.0.0.1")))
            await _until(lambda: manager.role.manager.core.is_up(victim_answer.node_id))
            await ControlStub(channel).CreateService(request)
            await _until(lambda: any(t.node_id for t in manager.store.tasks()))
            (task,) = manager.store.tasks()
            before = task.status.state
            async with manager.channel(evil) as evil_channel:
                attack = DispatcherStub(evil_channel).Session()
                await attack.write(AgentMessage(hello=SessionHello(address="127.0.0.1")))
                update = TaskStatusUpdate(
                    task_id=task.id, status=TaskStatus(state=TASK_STATE_RUNNING)
                )
                await attack.write(AgentMessage(statuses=StatusReport(updates=[update])))
                # Answered once it was looked at: the report is acknowledged, and dropped.
                while not (await attack.read()).acknowledged.updates:
                    pass
                stored = manager.store.task(task.id)
                assert stored is not None
                assert stored.status.state == before
                attack.cancel()
            stream.cancel()


async def _until(true: object) -> None:
    async with asyncio.timeout(20):
        while not true():  # type: ignore[operator]  # noqa: ASYNC110 - another process says it
            await asyncio.sleep(0.01)


async def test_a_watch_begins_with_what_is_and_goes_on_without_a_gap(manager: OneManager) -> None:
    async with manager.admin() as channel:
        stub = ControlStub(channel)
        await stub.CreateService(a_service("first"))
        watch = stub.Watch(control.WatchRequest(tables=[3]))
        beginning = await watch.read()
        assert beginning.current
        assert [e.object.service.name for e in beginning.events] == ["first"]
        await stub.CreateService(a_service("second"))
        change = await watch.read()
        assert [e.object.service.name for e in change.events] == ["second"]
        watch.cancel()
        resumed = stub.Watch(control.WatchRequest(tables=[3], after_revision=beginning.revision))
        missed = await resumed.read()
        assert [e.object.service.name for e in missed.events] == ["second"]
        resumed.cancel()


async def test_a_request_asked_again_takes_effect_once(manager: OneManager) -> None:
    async with manager.admin() as channel:
        request = a_service("once")
        first = await ControlStub(channel).CreateService(request)
        second = await ControlStub(channel).CreateService(request)
        assert first.service.service.id == second.service.service.id
        other = a_service("once")
        code, said = await refused(ControlStub(channel).CreateService(other))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "once" in said


async def test_each_noun_is_updated_by_its_own_method(manager: OneManager) -> None:
    async with manager.admin() as channel:
        stub = ControlStub(channel)
        created = (await stub.CreateService(a_service("web"))).service
        spec = ServiceSpec()
        spec.CopyFrom(created.spec)
        spec.annotations.labels["a"] = "b"
        updated = await stub.UpdateService(
            control.UpdateServiceRequest(
                request_id="u1",
                service_id=created.service.id,
                version=created.service.meta.version,
                spec=spec,
            )
        )
        assert updated.service.service.revision == 2
        assert updated.service.previous_spec == created.spec
        (node,) = (await stub.ListNodes(control.ListNodesRequest())).nodes
        node.node.spec.annotations.labels["zone"] = "x"
        changed = await stub.UpdateNode(
            control.UpdateNodeRequest(
                request_id="u2",
                node_id=node.node.id,
                version=node.node.meta.version,
                spec=node.node.spec,
            )
        )
        assert changed.node.node.spec.annotations.labels["zone"] == "x"
        view = (await stub.GetCluster(control.GetClusterRequest())).cluster.cluster
        view.spec.task_history_limit = 3
        cluster = await stub.UpdateCluster(
            control.UpdateClusterRequest(request_id="u3", version=view.meta.version, spec=view.spec)
        )
        assert cluster.cluster.cluster.spec.task_history_limit == 3
        await stub.RemoveService(control.RemoveServiceRequest(request_id="u4", reference="web"))
    assert manager.store.service_by_name("web") is None
