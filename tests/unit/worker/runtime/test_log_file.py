"""Reading and writing a task's log: tail, since, rotation, torn records, follow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from swarm.worker.runtime.log_file import parse, read_log
from swarm.worker.runtime.monitor import LINE_BYTES_MAX, Lines, Log
from swarm.worker.runtime.port import LogLine


async def read(path: Path, tail: int | None = None, since_ns: int = 0, until_ns: int = 0):
    lines = read_log(
        path,
        ended=lambda: True,
        follow=False,
        tail=tail,
        since_ns=since_ns,
        until_ns=until_ns,
        streams=("stdout", "stderr"),
    )
    return [line async for line in lines]


def write_numbers(log: Log, numbers: range) -> None:
    lines = Lines(b"o")
    for number in numbers:
        log.append(lines.feed(b"line %d\n" % number, number))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def numbers(lines: list[LogLine]) -> list[int]:
    return [int(line.data.split()[1]) for line in lines]


def test_lines_are_cut_at_newlines_and_the_rest_is_kept():
    lines = Lines(b"e")
    assert lines.feed(b"a\nb", 1) == b"1 e F a\n"
    assert lines.feed(b"c\n\n", 2) == b"2 e F bc\n2 e F \n"
    assert lines.feed(b"end", 3) == b""
    assert lines.rest() == b"3 e P end\n"
    assert lines.rest() == b""


@pytest.mark.parametrize("piece", [1000, LINE_BYTES_MAX, 100_000])
def test_a_long_line_comes_in_pieces_and_loses_nothing(piece: int):
    text = bytes(range(65, 91)) * 4000
    lines = Lines(b"o")
    records = b""
    data = text + b"\n"
    for start in range(0, len(data), piece):
        records += lines.feed(data[start : start + piece], 1)
    parsed = [parse(record) for record in records.splitlines()]
    assert b"".join(line.data for line in parsed if line) == data
    assert max(len(line.data) for line in parsed if line) <= LINE_BYTES_MAX + 1


@pytest.mark.parametrize("record", [b"", b"1 o F", b"x o F a", b"1 z F a", b"1 o Q a", b"12"])
def test_a_torn_record_is_passed_over(record: bytes):
    assert parse(record) is None


async def test_since_until_and_a_torn_end(tmp_path: Path):
    log = Log(str(tmp_path / "log"), 10_000, 3)
    write_numbers(log, range(10))
    log.append(b"99 o F torn")
    log.close()
    assert numbers(await read(tmp_path / "log")) == list(range(10))
    assert numbers(await read(tmp_path / "log", since_ns=4, until_ns=6)) == [4, 5, 6]


async def test_rotation_keeps_the_newest_files_in_order(tmp_path: Path):
    log = Log(str(tmp_path / "log"), 200, 3)
    write_numbers(log, range(100))
    log.close()
    assert names(tmp_path) == ["log", "log.1", "log.2"]
    kept = numbers(await read(tmp_path / "log"))
    assert kept == list(range(kept[0], 100))
    assert len(kept) > 20


async def test_one_file_only_is_started_anew(tmp_path: Path):
    log = Log(str(tmp_path / "log"), 200, 1)
    write_numbers(log, range(100))
    log.close()
    assert names(tmp_path) == ["log"]
    assert numbers(await read(tmp_path / "log"))[-1] == 99


@pytest.mark.parametrize("bytes_max", [100, 300, 1_000_000])
@pytest.mark.parametrize("tail", [0, 1, 3, 7, 20])
async def test_tail_across_files(tmp_path: Path, bytes_max: int, tail: int):
    log = Log(str(tmp_path / "log"), bytes_max, 20)
    write_numbers(log, range(20))
    log.close()
    assert numbers(await read(tmp_path / "log", tail)) == list(range(20))[20 - tail :]


async def test_tail_over_many_blocks_and_unfinished_line(tmp_path: Path):
    log = Log(str(tmp_path / "log"), 100_000_000, 2)
    lines = Lines(b"o")
    log.append(lines.feed(b"".join(b"line %d %b\n" % (n, b"x" * 900) for n in range(2000)), 5))
    lines.feed(b"line 2000", 6)
    log.append(lines.rest())
    log.close()
    assert numbers(await read(tmp_path / "log", 1500)) == list(range(501, 2001))
    assert [line.data for line in await read(tmp_path / "log", 1)] == [b"line 2000"]


async def test_follow_passes_through_rotation_and_ends(tmp_path: Path):
    log = Log(str(tmp_path / "log"), 120, 50)
    ended = False
    seen: list[int] = []
    write_numbers(log, range(5))
    follower = read_log(
        tmp_path / "log",
        ended=lambda: ended,
        follow=True,
        tail=2,
        since_ns=0,
        until_ns=0,
        streams=("stdout",),
    )
    async with asyncio.timeout(10):
        async for line in follower:
            seen += numbers([line])
            if seen[-1] == 4:
                write_numbers(log, range(5, 60))
            if seen[-1] == 59:
                ended = True
    log.close()
    assert seen == list(range(3, 60))


async def test_no_log_yet(tmp_path: Path):
    assert await read(tmp_path / "log") == []
    assert await read(tmp_path / "log", 5) == []
