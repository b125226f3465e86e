"""The agent's core against chance: any order of completions, failures, crashes and wishes.

What must always hold is checked where it happens (conftest.World): a container is started once,
the intent is durable before the act, a reported state never goes back. At the end everything
is let through, and what the manager wants must be what is there.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.api.v1.service_pb2 import EndpointSpec, ServiceSpec
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_READY,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)
from swarm.api.v1.types_pb2 import PortConfig
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.runtime.port import ContainerState, HealthStatus

FAILURES = {
    do.Prepare: lambda e: ev.PrepareFailed(e.run.task_id, "failed"),
    do.Start: lambda e: ev.StartFailed(e.task_id, "failed"),
    do.Wait: lambda e: ev.WaitFailed(e.task_id, "failed"),
    do.Stop: lambda e: ev.StopFailed(e.task_id, "failed"),
    do.Remove: lambda e: ev.RemoveFailed(e.task_id, "failed"),
    do.Save: lambda e: ev.SaveFailed(e.ticket, "failed"),
    do.ListRuntime: lambda e: ev.RuntimeListFailed("failed"),
    do.OpenPorts: lambda e: ev.PortsFailed(e.task_id, "failed"),
    do.WatchHealth: lambda e: ev.HealthFailed(e.task_id, "failed"),
    do.Connect: lambda e: ev.SessionClosed(e.session, "failed"),
}
# Failures after which a task has the right to end.
FATAL = {do.Prepare, do.Start, do.OpenPorts}


class Chance:
    """One run: draws what happens next."""

    def __init__(self, world, random, *, failures):
        self.world = world
        self.random = random
        self.failures = failures
        self.made = 0
        self.may_end = set()
        self.stopped = set()

    def act(self):
        weights = {
            self.perform: 60,
            self.fail: 6 if self.failures else 0,
            self.assign: 8,
            self.change: 8,
            self.exit: 3,
            self.unhealthy: 1 if self.failures else 0,
            self.crash: 1,
            self.cut: 1,
            self.wait: 10,
        }
        action = self.random.choices(list(weights), list(weights.values()))[0]
        action()

    def perform(self):
        if self.world.free:
            # Effects of one agent complete in any order.
            self.world.step(self.random.randrange(self.world.free))

    def fail(self):
        entries = [e for e in self.world.pending if type(e[0]) in FAILURES]
        if not entries:
            return
        entry = self.random.choice(entries)
        self.world.pending.remove(entry)
        effect = entry[0]
        if type(effect) in FATAL:
            self.may_end.add(effect.run.task_id if type(effect) is do.Prepare else effect.task_id)
        self.world.give(FAILURES[type(effect)](effect))

    def assign(self):
        self.made += 1
        spec = ServiceSpec()
        if self.random.random() < 0.5:
            spec.endpoint.CopyFrom(EndpointSpec(ports=[PortConfig(target_port=80)]))
        desired = self.random.choice([TASK_STATE_READY, TASK_STATE_RUNNING])
        self.world.assign(f"t{self.made}", spec, desired)

    def change(self):
        tasks = list(self.world.manager.tasks.values())
        if not tasks:
            return
        task = self.random.choice(tasks)
        if self.random.random() < 0.2:
            self.world.withdraw(task.id)
        elif task.desired_state == TASK_STATE_READY:
            self.world.want(task.id, TASK_STATE_RUNNING)
        else:
            self.world.want(task.id, TASK_STATE_SHUTDOWN)

    def exit(self):
        running = [
            task_id
            for task_id, container in self.world.containers.items()
            if container.state is ContainerState.RUNNING
        ]
        if running:
            task_id = self.random.choice(running)
            self.may_end.add(task_id)
            self.world.exit(task_id, self.random.choice([0, 1]))

    def unhealthy(self):
        if self.world.watched:
            task_id = self.random.choice(sorted(self.world.watched))
            self.may_end.add(task_id)
            self.world.report_health(task_id, HealthStatus.UNHEALTHY)

    def crash(self):
        self.world.crash()
        self.world.start()

    def cut(self):
        session = self.world.manager.session
        if session is not None:
            self.world.manager.session = None
            self.world.give(ev.SessionClosed(session, "reset"))

    def wait(self):
        at = self.world.core.next_wakeup()
        if at is not None:
            self.world.now = max(self.world.now, at)
            self.world.give(ev.Wake())


def run(new_world, random, steps, *, failures):
    world = new_world(random.randrange(1000))
    chance = Chance(world, random, failures=failures)
    world.start()
    for _ in range(steps):
        chance.act()
    world.pass_time(100)
    check_end(world, chance)
    world.crash()
    world.start()
    world.pass_time(100)
    check_end(world, chance)


def check_end(world, chance):
    for task_id, task in world.manager.tasks.items():
        state = world.states(task_id)[-1]
        ended = state >= TASK_STATE_COMPLETE
        container = world.containers.get(task_id)
        runs = container is not None and container.state is ContainerState.RUNNING
        assert runs == (state == TASK_STATE_RUNNING), (task_id, state)
        if task.desired_state == TASK_STATE_SHUTDOWN:
            assert ended, (task_id, state)
        elif task_id not in chance.may_end:
            assert state == task.desired_state, (task_id, state)
    assert set(world.containers) <= set(world.manager.tasks), "containers of nobody"
    assert {key for kind, key in world.rows if kind == "task"} == set(world.manager.tasks)
    assert set(world.open_ports) <= {
        key for key, c in world.containers.items() if c.state is ContainerState.RUNNING
    }


@settings(max_examples=60, deadline=None)
@given(random=st.randoms(use_true_random=False), steps=st.integers(10, 200))
def test_a_willing_world_ends_as_wanted(new_world, random, steps):
    run(new_world, random, steps, failures=False)


@settings(max_examples=60, deadline=None)
@given(random=st.randoms(use_true_random=False), steps=st.integers(10, 200))
def test_a_failing_world_ends_in_order(new_world, random, steps):
    run(new_world, random, steps, failures=True)
