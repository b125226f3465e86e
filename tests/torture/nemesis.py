"""Does to the managers what the plan says (Jepsen's word for it)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.torture.managers import Managers
from tests.torture.plan import Fault, Kind

_REFILL_EVERY_S = 0.2

# (sender, receiver): the packets are lost.
Link = tuple[int, int]


class Nemesis:
    """`done` counts the faults that have begun; `log` gets a line for each, with who it really
    was, and when by the history's clock."""

    def __init__(self, managers: Managers, log: Path) -> None:
        self.done: Counter[Kind] = Counter()
        self._managers = managers
        self._log = log
        self._lost: Counter[Link] = Counter()

    async def run(self, plan: Sequence[Fault]) -> None:
        """Returns when the last fault has ended: everything is healed, daemons may be starting."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as under_way:
            for fault in plan:
                await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
                under_way.create_task(self._inflict(fault, began + fault.ends_s))

    async def _inflict(self, fault: Fault, until: float) -> None:
        leader = await self._managers.leader() if fault.at_leader else None
        order = fault.aimed(leader)
        first, others = order[: fault.size], order[fault.size :]
        self._note(fault, first, others)
        match fault.kind:
            case Kind.KILL | Kind.KILL_ALL:
                await self._down(first, until)
            case Kind.PAUSE:
                await self._pause(first, until)
            case Kind.PARTITION:
                await self._lose({*_links(first, others), *_links(others, first)}, until)
            case Kind.ONE_WAY:
                way = (others, first) if fault.other_way else (first, others)
                await self._lose(_links(*way), until)
            case Kind.BRIDGE:
                half = len(others) // 2
                one, other = others[:half], others[half:]
                await self._lose({*_links(one, other), *_links(other, one)}, until)
            case Kind.FULL_DISK:
                await self._fill_disk(first[0], until, kill=fault.other_way)

    def _note(self, fault: Fault, first: Sequence[int], others: Sequence[int]) -> None:
        self.done[fault.kind] += 1
        with self._log.open("a") as log:
            log.write(f"{time.monotonic():.3f} {first} | {others}: {fault}\n")

    async def _down(self, numbers: Iterable[int], until: float) -> None:
        for number in numbers:
            self._managers.kill(number)
        try:
            await _sleep_until(until)
        finally:
            for number in numbers:
                self._managers.let_start(number)

    async def _pause(self, numbers: Iterable[int], until: float) -> None:
        pids = [pid for number in numbers for pid in self._managers.pause(number)]
        try:
            await _sleep_until(until)
        finally:
            self._managers.go_on(pids)

    async def _lose(self, links: set[Link], until: float) -> None:
        self._lost.update(links)
        self._drop()
        try:
            await _sleep_until(until)
        finally:
            self._lost.subtract(links)
            self._drop()

    def _drop(self) -> None:
        """Links that several faults cut are healed by the last of them."""
        self._managers.network.drop([link for link, count in self._lost.items() if count > 0])

    async def _fill_disk(self, number: int, until: float, *, kill: bool) -> None:
        disk = self._managers.disks[number]
        if disk.full:
            return
        disk.fill()
        try:
            if kill:
                self._managers.kill(number)
                self._managers.let_start(number)
            while time.monotonic() < until:
                await asyncio.sleep(_REFILL_EVERY_S)
                disk.fill()
        finally:
            disk.free()


def _links(senders: Iterable[int], receivers: Iterable[int]) -> set[Link]:
    receivers = tuple(receivers)
    return {(sender, receiver) for sender in senders for receiver in receivers}


async def _sleep_until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - time.monotonic()))
