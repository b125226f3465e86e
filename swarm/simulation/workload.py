"""What users do while the storm goes on: services come, change, grow, shrink and go; nodes are
drained, promoted and demoted. Every write is asked until its outcome is known."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_AVAILABILITY_DRAIN,
    NODE_AVAILABILITY_PAUSE,
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    NodeSpec,
)
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import PortConfig
from swarm.manager.core.modes import is_job
from swarm.manager.core.store import View
from swarm.manager.core.validate import node, service
from swarm.simulation import api
from swarm.simulation.files import ClientFiles
from swarm.simulation.invariants.history import WRITER, Wish, writer_of
from swarm.simulation.jobs import change_job, draw_job
from swarm.simulation.placement import draw_placement, draw_zone, made_to_fit, reserves
from swarm.simulation.scenario import CPU, GIB
from swarm.simulation.updates import draw_image, draw_updates, mended, stuck_updates

if TYPE_CHECKING:
    from swarm.simulation.cluster import Cluster

# Some give up while the outcome is not known.
_PATIENCE_S = (1.0, 20.0, 20.0)
_SERVICES_MAX = 4
_REPLICAS_MAX = 5
# So that all of it fits on the smallest cluster, an update's surplus included.
_REPLICAS_AT_REST = 2
_RESERVING_MAX = 2
# A label of each spec: the request that wrote it.


class Client:
    """One user: asks one thing after another. Sits on a machine of the cluster's network."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.name = f"c{number}"
        self._cluster = cluster
        self._rng: random.Random = cluster.streams.of(f"client/{number}")
        self._requests = 0
        self._files = ClientFiles(self._rng, self.name)
        self._placement_rng = cluster.streams.of(f"placement/{number}")
        # The operator, number 0, has to see things through.
        self._patience_s = self._rng.choice(_PATIENCE_S) if number else max(_PATIENCE_S)
        self._busy = False
        # Until then what it gave up waiting for may still be done.
        self._late_until = 0.0

    @property
    def busy(self) -> bool:
        return self._busy or self._cluster.loop.now < self._late_until

    def run(self, until: float) -> api.Steps:
        rng, loop = self._rng, self._cluster.loop
        while loop.now < until:
            yield rng.expovariate(3.0)
            if loop.now >= until:
                return
            self._busy = True
            yield from self._one()
            self._busy = False

    def _one(self) -> api.Steps:
        draw = self._rng.random()
        services = yield from self._list()
        if services is None:
            return
        if draw < 0.25:
            return  # the read was it
        if draw < 0.33:
            what, build, removes = self._files.change()
            yield from self._write(what, build, removes=removes)
            return
        if draw < 0.5 or not services:
            if len(services) < _SERVICES_MAX:
                yield from self._create()
            return
        service_id, version, spec = services[self._rng.randrange(len(services))]
        if draw < 0.85:
            yield from self._update(service_id, version, spec)
        elif draw < 0.9:
            yield from self._roll_back(service_id)
        elif draw < 0.96:
            yield from self._remove(service_id, spec.annotations.name)
        else:
            yield from self._change_availability()

    # Reads

    def _list(self) -> api.Steps:
        """All services, linearizable: (id, version, spec)."""
        history = self._cluster.invariants.history
        operation = history.begin(self.name, "lists")
        found = yield from self._ask_read(_services)
        self._note("lists", found)
        if not isinstance(found, api.Done):
            return None
        rows = found.answer
        history.end_read(
            operation,
            found.revision,
            {row[0]: row[3] for row in rows},
            {row[2].annotations.name: writer_of(row[2]) for row in rows},
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def _ask_read(self, look: api.Look) -> api.Steps:
        return api.ask(
            self._cluster, self.name, self._rng, lambda host: api.read(host, look), self._patience_s
        )

    # Writes

    def _create(self) -> api.Steps:
        name = f"web-{self.name}-{self._requests}"
        spec = self._new_spec(name)
        wish = self._sign(spec)
        yield from self._write(
            "creates",
            lambda view, ids, now_ns: service.create(view, spec, ids, now_ns, self.name),
            wish,
        )

    def _update(self, service_id: str, version: int, old: ServiceSpec) -> api.Steps:
        rng = self._rng
        spec = ServiceSpec()
        spec.CopyFrom(old)
        draw = rng.random()
        if is_job(spec):
            change_job(rng, spec)
        elif draw < 0.45 and spec.HasField("replicated"):
            spec.replicated.replicas = rng.randint(0, _REPLICAS_MAX)
        elif draw < 0.9:
            spec.task.container.image = draw_image(rng)
            self._files.draw(spec)
            draw_updates(rng, spec)
            if self._placement_rng.random() < 0.3:
                draw_placement(self._placement_rng, spec)
        elif draw < 0.95:
            pass  # nothing new: an update that was paused goes on
        else:
            spec.task.force_update += 1
        yield from self._replace(service_id, version, spec)

    def _replace(self, service_id: str, version: int, spec: ServiceSpec) -> api.Steps:
        """`spec` is a copy of what is there, with something else in it."""
        wish = self._sign(spec)
        yield from self._write(
            "updates",
            lambda view, _, now_ns: service.update(
                view, service_id, version, spec, now_ns, self.name
            ),
            wish,
        )

    def _roll_back(self, service_id: str) -> api.Steps:
        found = yield from self._ask_read(lambda view: _back_to(view, service_id))
        if not isinstance(found, api.Done) or found.answer is None:
            return
        version, wish = found.answer
        yield from self._write(
            "rolls back",
            lambda view, _, now_ns: service.rollback(view, service_id, version, now_ns, self.name),
            wish,
        )

    def _remove(self, service_id: str, name: str) -> api.Steps:
        yield from self._write(
            "removes",
            lambda view, _ids, _now_ns: service.remove(view, service_id, self.name),
            Wish(name, None),
            removes=True,
        )

    def _sign(self, spec: ServiceSpec) -> Wish:
        """The next request is written into the spec, so that a read says what it saw."""
        before = writer_of(spec)
        spec.annotations.labels[WRITER] = f"{self.name}.{self._requests + 1}"
        return Wish(spec.annotations.name, writer_of(spec), before)

    def _change_availability(self) -> api.Steps:
        choice = (NODE_AVAILABILITY_ACTIVE, NODE_AVAILABILITY_PAUSE, NODE_AVAILABILITY_DRAIN)
        availability = self._rng.choice(choice)
        # Without a draw of chance: two drains of three are in turn.
        most = self._requests % 3

        def change(spec: NodeSpec) -> None:
            spec.availability = availability
            spec.ClearField("drain")
            if availability == NODE_AVAILABILITY_DRAIN and most:
                spec.drain.max_unavailable = most
            if self._placement_rng.random() < 0.5:
                draw_zone(self._placement_rng, spec)

        names = list(self._cluster.machines)
        yield from self.change_node(self._rng.choice(names), change)

    def change_role(self, name: str, *, manager: bool) -> api.Steps:
        def change(spec: NodeSpec) -> None:
            spec.role = NODE_ROLE_MANAGER if manager else NODE_ROLE_WORKER

        return (yield from self.change_node(name, change))

    def change_node(self, name: str, change: api.ChangeSpec) -> api.Steps:
        found = yield from self._ask_read(lambda view: _node(view, name))
        if not isinstance(found, api.Done) or found.answer is None:
            return found
        version, spec = found.answer
        change(spec)
        return (
            yield from self._write(
                f"changes {name}",
                lambda view, _, now_ns: node.update(
                    view, name, version, spec, _reachable(self._cluster), now_ns, self.name
                ),
            )
        )

    def make_it_fit(self) -> api.Steps:
        """Few replicas, few services that reserve anything, and no image that never runs."""
        while True:
            services = yield from self._list()
            if services is None:
                continue
            reserving = 0
            surplus: list[tuple[str, int, ServiceSpec, bool]] = []
            for service_id, version, old in services:
                reserving += reserves(old)
                spec = ServiceSpec()
                spec.CopyFrom(old)
                # Asking for the field of another mode reads 0, setting it would change the mode.
                if spec.replicated.replicas > _REPLICAS_AT_REST:
                    spec.replicated.replicas = _REPLICAS_AT_REST
                mended(spec)
                made_to_fit(spec)
                if reserving > _RESERVING_MAX:
                    surplus.append((service_id, version, old, True))
                elif spec != old:
                    surplus.append((service_id, version, spec, False))
            stuck = yield from self._ask_read(stuck_updates)
            if not isinstance(stuck, api.Done):
                continue
            if not surplus:
                surplus = [(*row, False) for row in stuck.answer]
            if not surplus:
                return
            for service_id, version, spec, goes in surplus:
                if goes:
                    yield from self._remove(service_id, spec.annotations.name)
                else:
                    yield from self._replace(service_id, version, spec)

    def _write(
        self, what: str, build: api.Build, wish: Wish | None = None, *, removes: bool = False
    ) -> api.Steps:
        self._requests += 1
        request_id = f"{self.name}.{self._requests}"
        request = api.Change(request_id, build, removes)
        history = self._cluster.invariants.history
        operation = history.begin(self.name, what, wish)
        self._note(what, request_id)
        outcome = yield from api.ask(
            self._cluster,
            self.name,
            self._rng,
            lambda host: api.change(host, request, forwarded=False),
            self._patience_s,
        )
        self._note(what, request_id, outcome)
        history.end_write(operation, request_id, outcome, wish)
        if isinstance(outcome, api.NotKnown):
            self._late_until = self._cluster.loop.now + api.DEADLINE_S
        return outcome

    def _note(self, *what: object) -> None:
        self._cluster.note(self.name, "client", *what)

    # Specs

    def _new_spec(self, name: str) -> ServiceSpec:
        rng = self._rng
        spec = ServiceSpec()
        spec.annotations.name = name
        task = spec.task
        task.container.image = "image:0"
        task.container.stop_grace_period_ns = 1_000_000_000
        task.restart.delay_ns = rng.choice((0, 200_000_000, 1_000_000_000))
        if rng.random() < 0.2:
            getattr(spec, "global").SetInParent()
        else:
            spec.replicated.replicas = rng.randint(1, _REPLICAS_MAX)
        if rng.random() < 0.5:
            task.resources.reservations.nano_cpus = rng.choice((CPU // 2, CPU))
            task.resources.reservations.memory_bytes = rng.choice((GIB // 2, GIB))
        if rng.random() < 0.3:
            spec.endpoint.ports.append(PortConfig(target_port=80))
        if rng.random() < 0.3:
            task.container.health_check.test.extend(("CMD", "true"))
        self._files.draw(spec)
        if rng.random() < 0.2:
            draw_job(rng, spec)
        else:
            draw_updates(rng, spec)
        draw_placement(self._placement_rng, spec)
        return spec


def _services(view: View) -> list[tuple[str, int, ServiceSpec | None, int]]:
    return [
        (row.id, row.meta.version, view.spec(row.id, row.revision), row.revision)
        for row in view.services()
    ]


def _back_to(view: View, service_id: str) -> tuple[int, Wish] | None:
    """The service's version, and what a rollback makes of it; None where there is none."""
    row = view.service(service_id)
    if row is None:
        return None
    spec, previous = (
        view.spec(service_id, number) for number in (row.revision, row.previous_revision)
    )
    if spec is None or previous is None:
        return None
    return row.meta.version, Wish(row.name, writer_of(previous), writer_of(spec))


def _node(view: View, name: str) -> tuple[int, NodeSpec] | None:
    found = view.node(name)
    if found is None:
        return None
    spec = NodeSpec()
    spec.CopyFrom(found.spec)
    return found.meta.version, spec


def _reachable(cluster: Cluster) -> frozenset[int]:
    leader = cluster.leader()
    members = leader.core.reachable_members() if leader is not None and leader.core else None
    return members or frozenset()
