"""The textbook example, from its files to two services: a front end and an API, each with a
Dockerfile, in one compose file, on five nodes that can reach no registry.

The front end answers on its published port, and calls the API by its name, wherever that runs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_clusters import Local, Locals, until

from swarm.worker.runtime.demo import write_demo_image

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("buildah") and shutil.which("nft")),
        reason="root, buildah and nftables",
    ),
]

FILES = {
    "docker-compose.yml": """\
version: '3'
services:
  api:
    build: ./api
    ports:
      - "5000:5000"
    environment:
      - MODE=production
    deploy: {replicas: 2}
  web:
    build:
      context: ./web
      args: {TITLE: shop}
    ports:
      - "8080:80"
    environment:
      API: http://api:5000
    depends_on:
      - api
""",
    "api/Dockerfile": """\
FROM python:3.8-slim
WORKDIR /app
COPY it cgi-bin/
RUN chmod +x cgi-bin/it
EXPOSE 5000
CMD ["httpd", "-f", "-p", "5000", "-h", "/app"]
""",
    "api/it": "#!/bin/sh\necho\necho api of $MODE on $(hostname)\n",
    "web/Dockerfile": """\
FROM python:3.8-slim
ARG TITLE
WORKDIR /app
COPY it cgi-bin/
RUN chmod +x cgi-bin/it && echo "$TITLE" > title
CMD ["httpd", "-f", "-p", "80", "-h", "/app"]
""",
    "web/it": "#!/bin/sh\necho\ncat /app/title\nwget -qO- $API/cgi-bin/it\n",
}


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


def from_its_files(local: Local, folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    asyncio.run(write_demo_image(folder / "base.tar", "python:3.8-slim"))
    local.do("image", "load", "-i", str(folder / "base.tar"))
    file = str(folder / "docker-compose.yml")
    said = local.do("stack", "deploy", "--detach=false", "-c", file, "shop")
    assert "Creating service shop_api" in said
    rows = {row["Name"]: row["Replicas"] for row in local.rows("stack", "services", "shop")}
    assert rows == {"shop_api": "2/2", "shop_web": "1/1"}
    for node, row in local.nodes().items():
        answers = {until(lambda a=row["Address"]: page(a, 8080), saying=node) for _ in range(4)}
        assert all(answer.startswith("shop\napi of production on ") for answer in answers)
        # Both tasks of the API are called, in turn.
        assert len(answers) == 2
    assert page(local.address("worker-1"), 5000).startswith("api of production on ")
    assert "Removing service shop_web" in local.do("stack", "rm", "shop")


def test_the_textbook_example_on_oci(locals_: Locals, tmp_path: Path):
    from_its_files(locals_.up(3, 2, "oci"), tmp_path)


def test_the_textbook_example_on_docker(
    locals_: Locals, dockerd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{dockerd}")
    from_its_files(locals_.up(3, 2, "docker"), tmp_path)
