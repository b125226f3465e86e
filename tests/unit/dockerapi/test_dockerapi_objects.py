"""Nodes, tasks, the cluster and info, beside what a Docker daemon answers."""

from datetime import UTC, datetime

import pytest

from swarm.api.v1 import cluster_pb2, control_pb2, daemon_pb2, node_pb2, service_pb2, task_pb2
from swarm.api.v1.types_pb2 import (
    PUBLISH_MODE_HOST,
    Annotations,
    Meta,
    Platform,
    PortConfig,
    Resources,
)
from swarm.dockerapi.cluster import cluster_spec_from_json, cluster_to_json, info_to_json
from swarm.dockerapi.json_values import ApiError
from swarm.dockerapi.node import node_spec_from_json, node_spec_to_json, node_to_json
from swarm.dockerapi.task import task_to_json
from swarm.dockerapi.tls import tls_info_to_json
from swarm.security.certificates import create_root

AT_NS = 1795472471593916809
AT = "2026-11-23T22:21:11.593916809Z"
META = Meta(version=9, created_at_ns=AT_NS, updated_at_ns=AT_NS)


def test_a_manager_node() -> None:
    view = control_pb2.NodeView(
        node=node_pb2.Node(
            id="cdxq08",
            meta=META,
            spec=node_pb2.NodeSpec(role=node_pb2.NODE_ROLE_MANAGER),
            description=node_pb2.NodeDescription(
                hostname="vm",
                platform=Platform(architecture="x86_64", os="linux"),
                resources=Resources(nano_cpus=2000000000, memory_bytes=25276063744),
                engine=node_pb2.EngineDescription(engine_version="1.0", runtime="process"),
            ),
            status=node_pb2.NodeStatus(state=node_pb2.NODE_STATE_READY, address="127.0.0.1"),
        ),
        manager=control_pb2.ManagerView(
            leader=True, reachability=control_pb2.REACHABILITY_REACHABLE, address="127.0.0.1:2377"
        ),
    )
    assert node_to_json(view, {"TrustRoot": "pem"}) == {
        "ID": "cdxq08",
        "Version": {"Index": 9},
        "CreatedAt": AT,
        "UpdatedAt": AT,
        "Spec": {"Labels": {}, "Role": "manager", "Availability": "active"},
        "Description": {
            "Hostname": "vm",
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {"NanoCPUs": 2000000000, "MemoryBytes": 25276063744},
            "Engine": {
                "EngineVersion": "1.0",
                "Plugins": [{"Type": "Runtime", "Name": "process"}],
            },
            "TLSInfo": {"TrustRoot": "pem"},
        },
        "Status": {"State": "ready", "Addr": "127.0.0.1"},
        "ManagerStatus": {
            "Leader": True,
            "Reachability": "reachable",
            "Addr": "127.0.0.1:2377",
        },
    }


def test_a_worker_has_no_manager_status() -> None:
    shown = node_to_json(control_pb2.NodeView(node=node_pb2.Node(id="w")))
    assert "ManagerStatus" not in shown
    assert shown["Status"] == {"State": "unknown"}


@pytest.mark.parametrize("role", node_pb2.NodeRole.values())
@pytest.mark.parametrize("availability", node_pb2.NodeAvailability.values())
def test_a_nodes_spec_survives_json(
    role: node_pb2.NodeRole.ValueType, availability: node_pb2.NodeAvailability.ValueType
) -> None:
    spec = node_pb2.NodeSpec(
        annotations=Annotations(name="n", labels={"zone": "a", "ssd": ""}),
        role=role,
        availability=availability,
    )
    assert node_spec_from_json(node_spec_to_json(spec)) == spec


def test_a_role_that_is_none() -> None:
    with pytest.raises(ApiError, match='invalid role: "king": use worker, manager'):
        node_spec_from_json({"Role": "king"})


def test_a_failed_task() -> None:
    view = control_pb2.TaskView(
        task=task_pb2.Task(
            id="qiup",
            meta=META,
            service_id="9u19",
            slot=1,
            node_id="cdxq08",
            desired_state=task_pb2.TASK_STATE_SHUTDOWN,
            status=task_pb2.TaskStatus(
                state=task_pb2.TASK_STATE_FAILED,
                timestamp_ns=AT_NS,
                message="started",
                err="task: non-zero exit (3)",
                container=task_pb2.ContainerStatus(container_id="26d4", exit_code=3),
            ),
        ),
        spec=service_pb2.ServiceSpec(
            task=service_pb2.TaskSpec(container=service_pb2.ContainerSpec(image="demo:1"))
        ),
    )
    assert task_to_json(view) == {
        "ID": "qiup",
        "Version": {"Index": 9},
        "CreatedAt": AT,
        "UpdatedAt": AT,
        "Labels": {},
        "Spec": {"ContainerSpec": {"Image": "demo:1", "Isolation": "default"}, "ForceUpdate": 0},
        "ServiceID": "9u19",
        "Slot": 1,
        "NodeID": "cdxq08",
        "Status": {
            "Timestamp": AT,
            "State": "failed",
            "Message": "started",
            "Err": "task: non-zero exit (3)",
            "ContainerStatus": {"ContainerID": "26d4", "PID": 0, "ExitCode": 3},
            "PortStatus": {},
        },
        "DesiredState": "shutdown",
    }


@pytest.mark.parametrize(
    ("state", "ports"), [(task_pb2.TASK_STATE_RUNNING, 1), (task_pb2.TASK_STATE_FAILED, 0)]
)
def test_host_ports_are_a_running_tasks(state: task_pb2.TaskState.ValueType, ports: int) -> None:
    port = PortConfig(target_port=90, published_port=9000, publish_mode=PUBLISH_MODE_HOST)
    view = control_pb2.TaskView(
        task=task_pb2.Task(status=task_pb2.TaskStatus(state=state)),
        spec=service_pb2.ServiceSpec(
            endpoint=service_pb2.EndpointSpec(ports=[port, PortConfig(target_port=80)])
        ),
    )
    assert len(task_to_json(view)["Status"]["PortStatus"].get("Ports", [])) == ports


def cluster() -> cluster_pb2.Cluster:
    return cluster_pb2.Cluster(
        id="x5es",
        meta=META,
        spec=cluster_pb2.ClusterSpec(
            annotations=Annotations(name="default"),
            task_history_limit=5,
            heartbeat_period_ns=1000000000,
            certificate_expiry_ns=7776000000000000,
            snapshot_interval=10000,
            max_snapshots=3,
        ),
        secrets=cluster_pb2.ClusterSecrets(worker_token="SWMTKN-secret", root_key_pem=b"key"),
    )


def test_the_cluster_without_its_secrets() -> None:
    shown = cluster_to_json(cluster())
    assert "secret" not in str(shown)
    assert shown["Spec"]["Dispatcher"] == {"HeartbeatPeriod": 1000000000}
    assert shown["Spec"]["CAConfig"] == {"NodeCertExpiry": 7776000000000000}
    assert shown["Spec"]["Raft"] == {"SnapshotInterval": 10000, "KeepOldSnapshots": 3}
    assert cluster_spec_from_json(shown["Spec"]) == cluster().spec


def test_autolock_is_not_there_yet() -> None:
    with pytest.raises(ApiError, match="AutoLockManagers is not supported yet"):
        cluster_spec_from_json({"EncryptionConfig": {"AutoLockManagers": True}})


def test_info_of_a_node_outside_of_any_cluster() -> None:
    assert info_to_json(daemon_pb2.InfoResponse()) == {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    }


def test_info_of_a_manager() -> None:
    info = daemon_pb2.InfoResponse(
        state=daemon_pb2.LOCAL_NODE_STATE_ACTIVE,
        node_id="cdxq08",
        role=node_pb2.NODE_ROLE_MANAGER,
    )
    view = control_pb2.ClusterView(cluster=cluster(), managers=1, nodes=2)
    shown = info_to_json(info, view, {"cdxq08": "127.0.0.1:2377"})
    assert shown["ControlAvailable"] is True
    assert (shown["Nodes"], shown["Managers"]) == (2, 1)
    assert shown["RemoteManagers"] == [{"NodeID": "cdxq08", "Addr": "127.0.0.1:2377"}]
    assert shown["Cluster"]["ID"] == "x5es"


def test_tls_info_is_of_the_root() -> None:
    root = create_root("x5es", now=datetime.now(UTC))
    shown = tls_info_to_json(root.certificate_pem)
    assert shown["TrustRoot"].startswith("-----BEGIN CERTIFICATE-----")
    assert set(shown) == {"TrustRoot", "CertIssuerSubject", "CertIssuerPublicKey"}
    assert tls_info_to_json(b"") == {}
