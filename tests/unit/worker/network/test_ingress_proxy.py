"""Real connections over loopback, through the ingress proxy and the ports of tasks."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager

import pytest

from swarm.api.v1.dispatcher_pb2 import IngressBackend, IngressService
from swarm.api.v1.task_pb2 import PortEndpoint
from swarm.api.v1.types_pb2 import PortConfig
from swarm.worker.core.effects import TaskPort
from swarm.worker.network import proxy as proxy_module
from swarm.worker.network.proxy import IngressProxy
from swarm.worker.network.task_ports import READY, PortError, TaskPorts
from swarm.worker.runtime.port import Endpoint, Port

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return sock.getsockname()[1]


@asynccontextmanager
async def serving(handler):
    """A task's program: `handler` per connection; gives its endpoint."""
    tasks = set()

    async def on_connect(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(on_connect, LOOPBACK, 0)
    try:
        yield Endpoint(LOOPBACK, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def names_itself(name):
    async def handler(reader, writer):
        await reader.readline()
        writer.write(name.encode() + b"\n")
        await writer.drain()

    return handler


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


class Node:
    """One node's proxy and task ports."""

    def __init__(self):
        self.warnings = []
        self.ports = TaskPorts(LOOPBACK, LOOPBACK, self.warnings.append)
        self.proxy = IngressProxy(LOOPBACK, self.ports, self.warnings.append)

    async def run_task(self, task_id, endpoint, host_port=None):
        port = TaskPort(Port(80), endpoint, host_port)
        return await self.ports.open(task_id, [port])

    def publish(self, published, backends):
        service = IngressService(
            service_id="s1",
            service_name="web",
            ports=[PortConfig(target_port=80, published_port=published)],
            backends=[
                IngressBackend(task_id=task_id, endpoints=endpoints)
                for task_id, endpoints in backends.items()
            ],
        )
        self.proxy.update(complete=True, services=[service])

    async def close(self):
        await self.proxy.close()
        await self.ports.close_all()


@pytest.fixture
async def nodes():
    made = [Node(), Node()]
    yield made
    for node in made:
        await node.close()


async def ask(port, request=b"hello\n"):
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer.strip().decode()


async def test_connections_reach_tasks_here_and_elsewhere_in_turn(nodes):
    here, there = nodes
    async with serving(names_itself("a")) as one, serving(names_itself("b")) as two:
        published = free_port()
        here.publish(
            published,
            {"a": await here.run_task("a", one), "b": await there.run_task("b", two)},
        )
        assert [await ask(published) for _ in range(4)] in (["a", "b"] * 2, ["b", "a"] * 2)


async def test_a_task_that_cannot_be_reached_is_passed_over_without_a_loss(nodes):
    here, there = nodes
    async with serving(names_itself("a")) as one:
        backends = {
            "a": await here.run_task("a", one),
            # Its program does not listen (yet): known before anything is sent.
            "b": await there.run_task("b", Endpoint(LOOPBACK, free_port())),
            # Its node does not answer at all.
            "c": [PortEndpoint(target_port=80, host=LOOPBACK, port=free_port())],
        }
        published = free_port()
        here.publish(published, backends)
        assert [await ask(published) for _ in range(9)] == ["a"] * 9


async def test_a_client_waits_a_moment_for_a_task_to_come(nodes):
    here, _ = nodes
    async with serving(names_itself("a")) as one:
        published = free_port()
        here.publish(published, {})
        answer = asyncio.create_task(ask(published))
        endpoints = await here.run_task("a", one)
        here.publish(published, {"a": endpoints})
        assert await answer == "a"


async def test_without_any_task_the_client_is_told(nodes, monkeypatch):
    monkeypatch.setattr(proxy_module, "PATIENCE_S", 0.1)
    here, _ = nodes
    published = free_port()
    here.publish(published, {})
    with pytest.raises(ConnectionResetError):
        await ask(published)


async def test_much_goes_both_ways_and_half_close_is_kept(nodes):
    here, there = nodes
    data = os.urandom(8 << 20)
    async with serving(echo) as endpoint:
        published = free_port()
        here.publish(published, {"b": await there.run_task("b", endpoint)})
        reader, writer = await asyncio.open_connection(LOOPBACK, published)

        async def send():
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read() == data
        await sending
        writer.close()


async def test_a_slow_reader_slows_the_sender_down(nodes):
    """Backpressure reaches the task: it cannot get rid of more than what buffers hold."""
    here, there = nodes
    sent = 0

    async def pour(reader, writer):
        nonlocal sent
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    async with serving(pour) as endpoint:
        published = free_port()
        here.publish(published, {"b": await there.run_task("b", endpoint)})
        sock = socket.create_connection((LOOPBACK, published))
        before = -1
        while sent != before or not sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 64 << 20
        sock.close()


async def test_a_thousand_connections_at_once(nodes):
    here, there = nodes
    async with serving(echo) as endpoint:
        published = free_port()
        here.publish(published, {"b": await there.run_task("b", endpoint)})
        connections = await asyncio.gather(
            *(asyncio.open_connection(LOOPBACK, published) for _ in range(1000))
        )
        for n, (_, writer) in enumerate(connections):
            writer.write(b"%d\n" % n)
        answers = [await reader.readline() for reader, _ in connections]
        assert answers == [b"%d\n" % n for n in range(1000)]
        for _, writer in connections:
            writer.close()


async def test_a_request_under_way_holds_up_the_leaving(nodes):
    here, there = nodes
    go_on = asyncio.Event()

    async def slow(reader, writer):
        await reader.readline()
        await go_on.wait()
        writer.write(b"done\n")
        await writer.drain()

    async with serving(slow) as endpoint:
        published = free_port()
        here.publish(published, {"b": await there.run_task("b", endpoint)})
        answer = asyncio.create_task(ask(published))
        while not there.ports._tasks["b"].relays:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        leaving = asyncio.create_task(there.ports.close("b", 10, cut=False))
        await asyncio.sleep(0.8)
        assert not leaving.done()
        go_on.set()
        await leaving
        assert await answer == "done"


async def test_an_idle_connection_does_not_hold_up_the_leaving(nodes):
    here, there = nodes
    async with serving(echo) as endpoint:
        published = free_port()
        here.publish(published, {"b": await there.run_task("b", endpoint)})
        reader, writer = await asyncio.open_connection(LOOPBACK, published)
        writer.write(b"x\n")
        assert await reader.readline() == b"x\n"
        async with asyncio.timeout(1):
            await there.ports.close("b", 30, cut=False)
        writer.write(b"y\n")
        assert await reader.readline() == b"y\n", "left to the task itself"
        await there.ports.close("b", 0, cut=True)
        assert await reader.read() == b""
        writer.close()


async def test_connections_made_while_the_listener_closes_are_served(nodes):
    _, there = nodes
    async with serving(names_itself("b")) as endpoint:
        [reported] = await there.run_task("b", endpoint)
        socks = [socket.create_connection((LOOPBACK, reported.port)) for _ in range(20)]
        await there.ports.close("b", 5, cut=False)
        loop = asyncio.get_running_loop()
        for sock in socks:
            sock.setblocking(False)
            assert await loop.sock_recv(sock, 1) == READY
            await loop.sock_sendall(sock, b"hello\n")
            assert await loop.sock_recv(sock, 2) == b"b\n"
            sock.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, reported.port))


async def test_a_published_port_in_use_is_named_and_taken_when_free(nodes, monkeypatch):
    monkeypatch.setattr(proxy_module, "RETRY_BIND_S", 0.05)
    here, _ = nodes
    async with serving(names_itself("a")) as endpoint:
        endpoints = await here.run_task("a", endpoint)
        with socket.socket() as other:
            other.bind((LOOPBACK, 0))
            other.listen()
            published = other.getsockname()[1]
            here.publish(published, {"a": endpoints})
            while not here.warnings:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert f"port {published}/tcp, published by service web" in here.warnings[0]
            assert f"pid {os.getpid()}" in here.warnings[0]
        while len(here.warnings) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await ask(published) == "a"


async def test_a_host_port_leads_to_the_task_and_nowhere_else(nodes):
    here, there = nodes
    async with serving(names_itself("a")) as endpoint:
        port = free_port()
        assert await here.run_task("a", endpoint, host_port=port) == []
        assert await ask(port) == "a"
        with pytest.raises(PortError, match=f"port {port}/tcp is in use on this node by pid"):
            await there.run_task("b", endpoint, host_port=port)
        await here.ports.close("a", 0, cut=True)
        await there.run_task("b", endpoint, host_port=port)
        assert await ask(port) == "a"


async def test_the_port_of_before_is_taken_again_if_it_is_free(nodes):
    here, there = nodes
    async with serving(echo) as endpoint:
        [first] = await here.run_task("a", endpoint)
        port = TaskPort(Port(80), endpoint, None, first.port)
        [other] = await there.ports.open("a", [port])
        assert other.port != first.port
        await here.ports.close("a", 0, cut=True)
        [again] = await here.ports.open("a", [port])
        assert again.port == first.port
