"""The textbook example: a front end and an API in one compose file, on five nodes and no registry.

The front end answers on its published port, and calls the API by its name, wherever that runs.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_clusters import Local, Locals, until

pytestmark = pytest.mark.timeout(300)

COMPOSE = """\
version: '3'
services:
  api:
    image: swarm/demo
    entrypoint: ["sh", "/start", "5000", "echo api of $$MODE on $$(hostname)"]
    environment: [MODE=production]
    ports: ["5000:5000"]
    configs: [{source: start, target: /start}]
    deploy: {replicas: 2}
  web:
    image: swarm/demo
    entrypoint: ["sh", "/start", "8000", "wget -qO- http://api:5000/cgi-bin/it"]
    ports: ["8080:8000"]
    configs: [{source: start, target: /start}]
    depends_on: [api]
configs:
  start:
    content: |
      printf '#!/bin/sh\\necho; %s\\n' "$$2" > /www/cgi-bin/it
      chmod +x /www/cgi-bin/it
      exec httpd -f -p "$$1" -h /www
"""


@pytest.fixture
def locals_() -> Iterator[Locals]:
    made = Locals()
    yield made
    made.close()


def page(address: str, port: int) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{port}/cgi-bin/it", timeout=10) as response:
            return response.read().decode()
    except (urllib.error.URLError, OSError):
        return ""


def deployed(local: Local, file: Path) -> None:
    file.write_text(COMPOSE)
    said = local.do("stack", "deploy", "--detach=false", "-c", str(file), "shop")
    assert "Creating service shop_api" in said
    rows = {row["Name"]: row["Replicas"] for row in local.rows("stack", "services", "shop")}
    assert rows == {"shop_api": "2/2", "shop_web": "1/1"}


def check_names(local: Local, tmp_path: Path) -> None:
    deployed(local, tmp_path / "docker-compose.yml")
    for node, row in local.nodes().items():
        answers = {until(lambda a=row["Address"]: page(a, 8080), saying=node) for _ in range(4)}
        assert all(answer.startswith("api of production on ") for answer in answers)
        # Both of its tasks are called, in turn.
        assert len(answers) == 2
    assert page(local.address("worker-1"), 5000).startswith("api of production on ")
    assert "Removing service shop_web" in local.do("stack", "rm", "shop")


def test_a_front_end_calls_the_api_by_name_on_oci(locals_: Locals, tmp_path: Path):
    check_names(locals_.up(3, 2, "oci"), tmp_path)


def test_a_front_end_calls_the_api_by_name_on_docker(
    locals_: Locals, dockerd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{dockerd}")
    check_names(locals_.up(3, 2, "docker"), tmp_path)
