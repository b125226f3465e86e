"""An image of 100 MB to six nodes, each in a network namespace of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from swarm.security.certificates import (
    KeyPair,
    create_request,
    create_root,
    issue_node_certificate,
    node_id_of,
)
from swarm.security.roles import Role
from swarm.worker.runtime.image_archive import Entry, write_archive

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="namespaces, as root"
)

TESTS = Path(__file__).parents[1]
# tests/ is no package (importmode=importlib), so its helpers are loaded by path.
_spec = importlib.util.spec_from_file_location("swarm_tests_hosts", TESTS / "hosts.py")
assert _spec is not None
assert _spec.loader is not None
hosts = importlib.util.module_from_spec(_spec)
sys.modules["swarm_tests_hosts"] = hosts
_spec.loader.exec_module(hosts)

CLUSTER = "animagecluster"
MEGABYTES = 100


class Node:
    """A process in a host. `lies`: it serves wrong bytes."""

    def __init__(self, host: Any, root: KeyPair, *, archive: str = "", lies: bool = False) -> None:
        request = create_request()
        self.host = host
        self.id = node_id_of(request.csr_pem)
        certificate = issue_node_certificate(
            root, request.csr_pem, node_id=self.id, cluster_id=CLUSTER, role=Role.WORKER,
            now=datetime.now(UTC),
        )  # fmt: skip
        self._process = subprocess.Popen(
            host.command(sys.executable, str(TESTS / "image_node.py")),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.tell(
            folder="/var/lib/swarm/images", node_id=self.id, cluster_id=CLUSTER,
            host=host.address, archive=archive, lies=lies, key=request.key_pem.decode(),
            certificate=certificate.decode(), root=root.certificate_pem.decode(),
        )  # fmt: skip
        said = self.hear()
        self.address = f"{host.address}:{said['port']}"
        self.image: str = said["image"]

    def tell(self, **line: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"event": "ended"}

    def sent_bytes(self) -> int:
        """By the network's own count (proc(5), /proc/net/dev)."""
        lines = self.host.run("cat", "/proc/net/dev").splitlines()
        (line,) = [line for line in lines if "eth0:" in line]
        return int(line.partition(":")[2].split()[8])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def six() -> Iterator[dict[str, Any]]:
    made = hosts.Hosts([f"node{number}" for number in range(1, 7)])
    yield made.all
    made.close()


@pytest.mark.timeout(120)
def test_one_dies_and_one_lies_and_the_first_sends_little_more_than_one_copy(
    six: dict[str, Any], tmp_path: Path
) -> None:
    root = create_root(CLUSTER, now=datetime.now(UTC))
    archive = tmp_path / "image.tar"
    big = Entry("big", os.urandom(MEGABYTES << 20))
    write_archive(archive, "big:1", [big], {})
    all_hosts = list(six.values())
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(Node, all_hosts[0], root, archive=str(archive))
        others = [pool.submit(Node, host, root) for host in all_hosts[1:5]]
        liar = pool.submit(Node, all_hosts[5], root, lies=True).result()
        nodes = [first.result(), *(other.result() for other in others), liar]
    try:
        before = nodes[0].sent_bytes()
        for node in nodes[1:]:
            peers = [(peer.id, peer.address) for peer in nodes if peer is not node]
            node.tell(image=nodes[0].image, peers=peers)
        victim, *survivors = nodes[1:]
        assert victim.hear()["event"] == "half"
        victim.host.cut_power()
        with ThreadPoolExecutor(5) as pool:
            ends = list(pool.map(_end, survivors))
        for digests in ends:
            assert digests
            assert all(blob == found for blob, found in digests.items())
        copies = (nodes[0].sent_bytes() - before) / (MEGABYTES << 20)
        assert 0.9 < copies < 2, copies
    finally:
        for node in nodes:
            node.close()


def _end(node: Node) -> dict[str, str]:
    while (said := node.hear())["event"] == "half":
        pass
    assert said["event"] == "done"
    return said["digests"]
