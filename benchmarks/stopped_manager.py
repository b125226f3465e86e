"""The only manager of a stopped daemon, run in this process to fill its log quickly.

Core, log, snapshots and brain are the daemon's own, and every batch is synced; what is left out is
the API, and with it a round trip for each entry.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import NoReturn

import grpc.aio

from benchmarks.cluster import until
from swarm.api.v1.store_pb2 import LogPayload
from swarm.manager.core import events as ev
from swarm.manager.core.consensus import Consensus
from swarm.manager.core.manager import ManagerCore
from swarm.manager.core.store import RandomIds
from swarm.manager.manager import Manager
from swarm.manager.raft_disk import RaftDisk
from swarm.node.state import StateFolder


@asynccontextmanager
async def stopped_manager(state_dir: Path) -> AsyncGenerator[Manager]:
    """Leading inside. The daemon of this folder must not run."""
    folder = StateFolder(state_dir)
    opened = RaftDisk.open(folder.raft)
    core = ManagerCore(
        raft_id=folder.load().raft_id,
        storage=opened.storage,
        store=opened.store,
        rng=random.SystemRandom(),
        ids=RandomIds(secrets.randbits),
        nonce=os.urandom(8),
    )
    manager = Manager(core, opened.disk, "", _no_peers, _failed, _failed)
    await manager.start()
    try:
        await _leading(core)
        yield manager
    finally:
        await manager.stop()


async def write_entries(manager: Manager, payloads: Iterable[LogPayload], together: int) -> None:
    """Each payload is an entry of its own; so many share one fsync."""
    consensus = manager.core.consensus
    waiting = iter(payloads)
    while batch := list(islice(waiting, together)):
        index = 0
        for payload in batch:
            proposed = consensus.propose(payload.SerializeToString())
            assert proposed is not None, "the only manager leads"
            index = proposed
        manager.submit(ev.Resume())
        await _applied(consensus, index)


async def _leading(core: ManagerCore) -> None:
    async def leads() -> bool:
        return core.leads_and_knows

    await until(leads, 30, 0.05)


async def _applied(consensus: Consensus, index: int) -> None:
    async def applied() -> bool:
        return consensus.applied_index >= index

    await until(applied, 60, 0)


def _no_peers(address: str) -> grpc.aio.Channel:
    raise RuntimeError(f"a manager at {address}: this is for clusters of one")


def _failed(reason: str) -> NoReturn:
    raise SystemExit(reason)
