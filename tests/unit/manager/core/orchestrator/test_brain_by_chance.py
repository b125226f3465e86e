"""From any state, with any statuses, conflicts and failovers: the wanted replicas, then silence."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from swarm.api.v1.service_pb2 import (
    UPDATE_STATE_PAUSED,
    UPDATE_STATE_ROLLBACK_PAUSED,
    Placement,
    RestartPolicy,
    UpdateConfig,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_PREPARING,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)
from swarm.manager.core.orchestrator import replicated, work
from swarm.manager.core.store import SlotKey, ended, slot_key, wanted

NAMES = st.sampled_from(["x", "y"])
NODE_NAMES = "abcd"
RAFT = st.sampled_from(["applied", "applied", "in flight", "dropped"])
STATES = st.sampled_from(
    [
        TASK_STATE_PREPARING,
        TASK_STATE_RUNNING,
        TASK_STATE_COMPLETE,
        TASK_STATE_FAILED,
        TASK_STATE_REJECTED,
        TASK_STATE_SHUTDOWN,
    ]
)


def machine(new_cluster):
    class Chance(RuleBasedStateMachine):
        @initialize(changes=st.sampled_from([2, 5, 300]))
        def begin(self, changes):
            self.created = 0
            self.cluster = new_cluster(pass_changes=changes, pass_slots=changes)
            for name in NODE_NAMES:
                self.cluster.add_node(name)

        def with_raft(self, raft, act):
            """Do it; what the brain makes of it is applied, still in flight, or dropped."""
            self.cluster.slow = self.cluster.slow or raft != "applied"
            act()
            if raft == "dropped":
                self.cluster.drop()

        def spec(self, replicas, image, order, constraints):
            spec = self.cluster.spec(
                None if replicas is None else replicas,
                image=image,
                restart=RestartPolicy(delay_ns=1_000_000_000),
                placement=Placement(constraints=constraints),
            )
            spec.update.CopyFrom(UpdateConfig(parallelism=2, order=order))
            return spec

        @rule(
            name=NAMES,
            replicas=st.one_of(st.none(), st.integers(0, 7)),
            image=st.sampled_from(["one", "two"]),
            order=st.sampled_from([0, 1]),
            constraints=st.sampled_from([(), ("node.labels.out!=yes",)]),
            raft=RAFT,
        )
        def want(self, name, replicas, image, order, constraints, raft):
            old = self.cluster.store.service_by_name(name)
            if old is not None:
                mode = self.cluster.store.spec(old.id, old.revision).WhichOneof("mode")
                if (replicas is None) != (mode == "global"):
                    replicas = None if mode == "global" else 3
            spec = self.spec(replicas, image, order, constraints)
            if old is None:
                self.created += 1
                service_id = f"{name}{self.created}"
                self.with_raft(
                    raft, lambda: self.cluster.create_service(service_id, spec, name=name)
                )
            else:
                self.with_raft(raft, lambda: self.cluster.update_service(old.id, spec))

        @rule(name=NAMES)
        def remove(self, name):
            service = self.cluster.store.service_by_name(name)
            if service is not None:
                self.cluster.remove_service(service.id)

        @rule(number=st.integers(0, 50), state=STATES, raft=RAFT)
        def any_status(self, number, state, raft):
            tasks = [t for t in self.cluster.store.tasks() if t.node_id and not ended(t)]
            if tasks:
                task = tasks[number % len(tasks)]
                self.with_raft(raft, lambda: self.cluster.report(task, state))

        @rule(name=st.sampled_from(NODE_NAMES), raft=RAFT)
        def goodbye(self, name, raft):
            if self.cluster.store.node(name) is not None:
                self.with_raft(raft, lambda: self.cluster.say_goodbye(name))

        @rule(name=st.sampled_from(NODE_NAMES))
        def come_back(self, name):
            self.cluster.now += 0.1
            if self.cluster.store.node(name) is None:
                self.cluster.add_node(name)
            else:
                self.cluster.revive(name)

        @rule(name=st.sampled_from(NODE_NAMES))
        def node_removed(self, name):
            if name in self.cluster.silent:
                self.cluster.remove_node(name)

        @rule(name=st.sampled_from(NODE_NAMES), availability=st.sampled_from([0, 1, 2]), raft=RAFT)
        def availability(self, name, availability, raft):
            if self.cluster.store.node(name) is not None:
                self.with_raft(raft, lambda: self.cluster.set_availability(name, availability))

        @rule(name=st.sampled_from(NODE_NAMES), out=st.sampled_from(["yes", "no"]))
        def label(self, name, out):
            if self.cluster.store.node(name) is not None:
                self.cluster.change_node(
                    name, lambda node: node.spec.annotations.labels.update(out=out)
                )

        @rule()
        def fail_over(self):
            self.cluster.fail_over()

        @rule()
        def raft_is_slow(self):
            """From now on things change while the brain's proposal is in flight."""
            self.cluster.slow = True

        @rule()
        def raft_delivers(self):
            self.cluster.deliver()

        @rule()
        def raft_drops(self):
            self.cluster.drop()

        @rule(seconds=st.sampled_from([0.2, 1.5, 8]))
        def time_passes(self, seconds):
            self.cluster.pass_time(seconds)

        @precondition(lambda self: hasattr(self, "cluster"))
        @rule()
        def comes_to_rest(self):
            self.check_rest()

        def teardown(self):
            if hasattr(self, "cluster"):
                self.check_rest()

        def check_rest(self):
            cluster = self.cluster
            cluster.deliver()
            cluster.pass_time(90)
            assert cluster.run() == 0, "with nothing new it proposes nothing"
            cluster.store.check()
            up = [
                node
                for node in cluster.store.nodes()
                if node.status.state == 2 and node.spec.availability == 0
            ]
            for service in cluster.store.services():
                self.check_service(service, up)
            gone = [t for t in cluster.store.tasks() if not cluster.store.service(t.service_id)]
            assert {t.node_id for t in gone} <= cluster.silent, "only lost nodes delay the end"
            before = {task.id for task in cluster.store.tasks() if wanted(task)}
            cluster.fail_over()
            cluster.pass_time(3)
            assert cluster.run() == 0
            assert {t.id for t in cluster.store.tasks() if wanted(t)} == before

        def check_service(self, service, up):
            cluster = self.cluster
            spec = cluster.store.spec(service.id, service.revision)
            live = cluster.live(service.id)
            constrained = bool(spec.task.placement.constraints)
            # A paused update leaves the tasks of earlier revisions where they are.
            paused = service.update.state in (UPDATE_STATE_PAUSED, UPDATE_STATE_ROLLBACK_PAUSED)
            fit = [
                node.id
                for node in up
                if not (constrained and node.spec.annotations.labels.get("out") == "yes")
            ]
            if spec.WhichOneof("mode") == "replicated":
                slots = {slot_key(task) for task in live}
                assert len(slots) == spec.replicated.replicas
                if fit:
                    assert len(live) == len(slots), "one wanted task per slot"
                    assert len(cluster.running(service.id)) == len(live)
                    assert paused or {task.revision for task in live} <= {service.task_revision}
            else:
                running = {task.node_id for task in cluster.running(service.id)}
                assert set(fit) <= running
                for node_id in fit:
                    key = SlotKey(service.id, 0, node_id)
                    (task,) = [t for t in live if slot_key(t) == key]
                    assert paused or task.revision == service.task_revision

    return Chance


@pytest.mark.parametrize("slice_", [work.SLICE, 2])
def test_by_chance(new_cluster, monkeypatch, slice_):
    for module in (work, replicated):
        monkeypatch.setattr(module, "SLICE", slice_)
    chance = machine(new_cluster)
    chance.TestCase.settings = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    chance.TestCase("runTest").runTest()
