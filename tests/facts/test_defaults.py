"""Docker Swarm's numbers, where they are ours."""

from swarm.api.v1.service_pb2 import Service, ServiceSpec
from swarm.api.v1.task_pb2 import TaskState
from swarm.manager.core.allocator import ports
from swarm.manager.core.orchestrator import node, restart, slot, update_status
from swarm.manager.core.scheduler import nodes
from swarm.manager.core.validate import files
from swarm.manager.core.validate.cluster import spec_with_defaults
from swarm.security import certificates
from swarm.worker.core.run import DEFAULT_STOP_GRACE_NS

SECOND = 1_000_000_000


def test_states_of_tasks_have_swarmkits_numbers():
    assert {name.removeprefix("TASK_STATE_"): number for name, number in TaskState.items()} == {
        "NEW": 0,
        "PENDING": 64,
        "ASSIGNED": 192,
        "ACCEPTED": 256,
        "PREPARING": 320,
        "READY": 384,
        "STARTING": 448,
        "RUNNING": 512,
        "COMPLETE": 576,
        "SHUTDOWN": 640,
        "FAILED": 704,
        "REJECTED": 768,
        "REMOVE": 800,
        "ORPHANED": 832,
    }


def test_settings_of_a_new_cluster():
    spec = spec_with_defaults()
    assert spec.annotations.name == "default"
    assert spec.task_history_limit == 5
    assert spec.certificate_expiry_ns == 2160 * 3600 * SECOND
    assert spec.snapshot_interval == 10_000


def test_certificates():
    assert certificates.ROOT_LIFETIME.days == 20 * 365
    assert certificates.MINIMUM_LIFETIME.total_seconds() == 3600
    assert certificates.BACKDATE.total_seconds() == 3600


def test_services():
    assert restart.DEFAULT_DELAY_NS == 5 * SECOND
    assert DEFAULT_STOP_GRACE_NS == 10 * SECOND
    assert slot.STOP_WAIT_NS == 60 * SECOND
    assert node.ORPHAN_AFTER_NS == 24 * 3600 * SECOND
    config = update_status.config_of(Service(), ServiceSpec())
    assert (config.parallelism, update_status.monitor_ns(config)) == (1, 5 * SECOND)


def test_a_node_that_fails_a_service():
    assert (nodes.FAILURES_MAX, nodes.FAILURE_WINDOW_NS) == (5, 300 * SECOND)


def test_ports_and_names():
    assert (ports.FIRST, ports.LAST) == (30_000, 32_767)
    assert files.NAME_LENGTH_MAX == 64
