"""The kernel's part of names: rules that come and go with the agent, and serve containers alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import pytest

from swarm.worker.network.redirect import Redirect
from swarm.worker.network.stack_names import StackNames

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="root and nftables"
)


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], capture_output=True, text=True, check=True).stdout


def tables() -> str:
    return nft("list", "tables")


async def test_nobody_but_containers_is_served_and_nothing_is_left():
    redirect = Redirect("cluster", f"node-{os.getpid()}", "nobodys0")
    names = StackNames(redirect, lambda _: None)
    await names.start()
    try:
        assert redirect.table in tables()
        for port in names.ports:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.open_connection("127.0.0.1", port)
        await names.task_started("task", "10.0.0.9")
        await names.task_removed("task")
    finally:
        await names.close()
    assert redirect.table not in tables()


async def test_what_a_killed_agent_left_is_replaced():
    node = f"node-{os.getpid()}-killed"
    await Redirect("cluster", node, "nobodys0").install(1, 2)
    again = Redirect("cluster", node, "nobodys0")
    await again.install(3, 4)
    shown = nft("list", "table", "ip", again.table)
    assert "redirect to :3" in shown
    assert "redirect to :1" not in shown
    await again.uninstall()
    await again.uninstall()
