"""Names of services to virtual addresses, and addresses to the tasks behind them."""

import random

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.api.v1.dispatcher_pb2 import IngressBackend, IngressService
from swarm.api.v1.task_pb2 import PortEndpoint
from swarm.worker.network.dns_server import QUESTIONS_MAX, DnsServer, upstreams
from swarm.worker.network.names import NameTable


def backend(task_id, port=1000):
    way = PortEndpoint(host="10.0.0.1", port=port, key=b"k" * 16)
    return IngressBackend(task_id=task_id, endpoints=[PortEndpoint(target_port=80, port=5), way])


def service(key, stack, *names, tasks=(), each=False):
    return IngressService(
        service_id=key,
        service_name=f"{stack}_{names[0]}",
        stack=stack,
        names=names,
        each_task=each,
        backends=[backend(task) for task in tasks],
    )


@pytest.fixture
def table():
    made = NameTable()
    made.update(
        complete=True,
        services=[
            service("1", "shop", "db", "database", tasks=["d1", "d2"]),
            service("2", "shop", "web", tasks=["w1"]),
            service("3", "blog", "db", tasks=["b1"]),
            service("4", "blog", "many", tasks=["m1", "m2"], each=True),
        ],
    )
    return made


def behind(table, address, now=0.0):
    return [reach.task_id for reach in table.reaches(address, now)]


def test_a_name_is_that_of_its_own_stack(table):
    (shop,) = table.resolve("db.shop.stack.swarm")
    (blog,) = table.resolve("DB.blog.stack.swarm")
    assert shop != blog
    assert sorted(behind(table, shop)) == ["d1", "d2"]
    assert behind(table, blog) == ["b1"]


def test_aliases_and_full_names(table):
    wanted = table.resolve("db.shop.stack.swarm")
    for name in ("database.shop.stack.swarm", "shop_db", "shop_db.blog.stack.swarm", "database"):
        assert table.resolve(name) == wanted
    assert table.resolve("db") is None, "two stacks have it"
    assert table.resolve("web") == table.resolve("web.shop.stack.swarm")


def test_what_is_not_there(table):
    assert table.resolve("web.blog.stack.swarm") is None
    assert table.resolve("example.com") is None
    assert table.is_ours("web.blog.stack.swarm")
    assert not table.is_ours("example.com")


def test_each_task_has_an_address_of_its_own(table):
    first, second = table.resolve("tasks.db.shop.stack.swarm")
    assert behind(table, first) == ["d1"]
    assert behind(table, second) == ["d2"]
    assert len(table.resolve("many.blog.stack.swarm")) == 2


def test_tasks_take_turns_and_who_failed_comes_last(table):
    (address,) = table.resolve("db.shop.stack.swarm")
    first, second = behind(table, address), behind(table, address)
    assert first == second[::-1]
    reach = next(table.reaches(address, 0.0))
    table.failed(reach, 0.0)
    assert {tuple(behind(table, address, 1.0))[-1] for _ in range(2)} == {reach.task_id}
    assert {behind(table, address, 60.0)[0] for _ in range(2)} == {"d1", "d2"}


def test_a_service_that_changes_keeps_its_address(table):
    before = table.resolve("db.shop.stack.swarm")
    table.update(complete=False, services=[service("1", "shop", "db", tasks=["d3"])])
    assert table.resolve("db.shop.stack.swarm") == before
    assert behind(table, before[0]) == ["d3"]
    assert table.resolve("database.shop.stack.swarm") is None


def test_a_service_that_goes_is_no_more(table):
    (address,) = table.resolve("web.shop.stack.swarm")
    table.update(complete=False, services=[IngressService(service_id="2")])
    assert table.resolve("web.shop.stack.swarm") is None
    assert behind(table, address) == []
    table.update(complete=True, services=[service("3", "blog", "db")])
    assert table.resolve("db.shop.stack.swarm") is None


def test_an_agent_that_starts_again_knows_the_addresses_that_were_given(table):
    (address,) = table.resolve("db.shop.stack.swarm")
    again = NameTable()
    again.update(complete=True, services=[service("1", "shop", "db", tasks=["d1"])])
    assert behind(again, address) == ["d1"]


def test_what_is_gone_holds_nothing():
    fresh = NameTable()
    for number in range(50):
        row = service("1", "shop", f"n{number}", tasks=[f"t{number}", f"u{number}"])
        fresh.update(complete=False, services=[row])
        first, _ = fresh.resolve(f"tasks.n{number}.shop.stack.swarm")
        (address,) = fresh.resolve(f"n{number}.shop.stack.swarm")
        reach = next(fresh.reaches(first, 0.0))
        fresh.failed(reach, 0.0)
        assert behind(fresh, address)
    assert len(fresh._addresses) == len(fresh._holders) == 3
    assert fresh.resolve("n49.shop.stack.swarm") == [address]
    fresh.update(complete=True, services=[])
    fresh.failed(reach, 0.0)
    assert fresh == NameTable()


@given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=40))
def test_no_two_have_one_address(keys):
    table = NameTable()
    rows = [service(key, "s", f"n{number}") for number, key in enumerate(keys)]
    table.update(complete=True, services=rows)
    given_out = [table.resolve(f"n{number}.s.stack.swarm")[0] for number in range(len(keys))]
    assert len(set(given_out)) == len(keys)


async def test_the_server_answers_of_the_table_and_says_what_is_not_there(table):
    server = DnsServer(table, [])

    async def ask(name, kind="A"):
        query = dns.message.make_query(name, kind)
        answer = await server.answer(query.to_wire())
        return answer.rcode(), [row.to_text() for rows in answer.answer for row in rows]

    assert await ask("db.shop.stack.swarm") == (
        dns.rcode.NOERROR,
        table.resolve("db.shop.stack.swarm"),
    )
    assert await ask("db.shop.stack.swarm", "AAAA") == (dns.rcode.NOERROR, [])
    assert await ask("none.shop.stack.swarm") == (dns.rcode.NXDOMAIN, [])
    assert await ask("example.com") == (dns.rcode.NXDOMAIN, [])
    assert await server.answer(b"no question") is None


async def test_it_is_asked_over_udp_and_tcp():
    server = DnsServer(NameTable(), [])
    server._table.update(complete=True, services=[service("9", "x", "example")])
    await server.start("127.0.0.1")
    try:
        query = dns.message.make_query("example", "A")
        direct = await dns.asyncquery.udp(query, "127.0.0.1", port=server.port, timeout=5)
        over_tcp = await dns.asyncquery.tcp(query, "127.0.0.1", port=server.port, timeout=5)
    finally:
        await server.close()
    assert direct.answer == over_tcp.answer
    assert direct.answer[0][0].to_text() == server._table.resolve("example")[0]


async def test_what_is_no_question_does_no_harm(table):
    rng = random.Random(7)
    server = DnsServer(table, [])
    queries = [
        dns.message.make_query(name, kind, use_edns=edns).to_wire()
        for name in ("db.shop.stack.swarm", "tasks.db", "x")
        for kind in ("A", "ANY", "AXFR")
        for edns in (None, 0)
    ]
    for _ in range(3000):
        wire = bytearray(rng.choice(queries))
        for _ in range(rng.randint(0, 5)):
            wire[rng.randrange(len(wire))] = rng.randrange(256)
        del wire[rng.choice((len(wire), rng.randrange(len(wire)))) :]
        answer = await server.answer(bytes(wire))
        assert answer is None or answer.to_wire(max_size=answer.request_payload or 512)


async def test_questions_that_nobody_answers_are_not_kept_without_end():
    server = DnsServer(NameTable(), ["127.0.0.2"])
    query = dns.message.make_query("example.com", "A").to_wire()
    for _ in range(2 * QUESTIONS_MAX):
        server.datagram_received(query, ("127.0.0.1", 9))
    assert len(server._answering) == QUESTIONS_MAX
    await server.close()


def test_only_addresses_are_asked(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("search x\nnameserver 10.0.0.1\nnameserver dns.example\nnameserver ::1\n")
    assert upstreams(file) == ["10.0.0.1", "::1"]
