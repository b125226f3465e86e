"""Images on real daemons: loaded on one node, run on all, kept by two, and gone when removed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_clusters import Local, Locals, until
from registry import serve_registry

from swarm.cli.registry_logins import registry_auth
from swarm.worker.runtime.demo import write_demo_image

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="oci needs root"
)


@pytest.fixture
def locals_() -> Iterator[Locals]:
    made = Locals()
    yield made
    made.close()


def test_an_image_that_one_node_has_runs_on_all(
    locals_: Locals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "image.tar"
    asyncio.run(write_demo_image(archive, "mine/app:1"))
    local = locals_.up(1, 2, "oci")
    assert local.do("load", "-i", str(archive)) == "Loaded image: mine/app:1\n"
    digest = local.do("image", "inspect", "-f", "{{.Descriptor.digest}}", "mine/app:1").strip()
    until(lambda: local.do("image", "inspect", "-f", "{{len .Nodes}}", "mine/app:1") == "2\n")

    # The name moves on, and the service stays with what it was made of.
    local.do(
        "service", "create", "--name", "all", "--mode", "global", "--entrypoint", "sleep",
        "mine/app:1", "1000",
    )  # fmt: skip
    assert digest in local.do("service", "inspect", "all")
    local.do("tag", "mine/app:1", "mine/app:2")
    assert local.do("rmi", "mine/app:1") == "Untagged: mine/app:1\n"
    refused = local.run("rmi", "mine/app:2")
    assert refused.returncode == 1
    assert "used by the following service: all" in refused.stderr
    assert len(having(local, digest)) == 3

    ran = local.run("run", "--rm", "mine/app:2", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "out\n", "err\n")

    local.do("service", "rm", "all")
    assert f"Deleted: {digest}" in local.do("rmi", "mine/app:2")
    until(lambda: not having(local, digest))
    assert local.do("images", "-q") == ""

    if shutil.which("skopeo") is not None:
        the_image_of_a_registry_runs_with_a_login(local, tmp_path, monkeypatch)


def the_image_of_a_registry_runs_with_a_login(
    local: Local, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    with serve_registry(folder / "served") as registry:
        image = f"{registry}/private/app:1"
        auth = base64.b64encode(b"me:secret").decode()
        login = json.dumps({"auths": {registry: {"auth": auth}}})
        (folder / "config.json").write_text(login)
        create = ("service", "create", "--detach", "--entrypoint", "sleep", "--restart-delay", "1m")
        local.do(*create, "--name", "refused", image, "1000")
        words = "the registry refused the login"
        until(lambda: words in local.do("service", "ps", "--no-trunc", "refused"))
        local.do(*create, "--name", "pulled", "--with-registry-auth", image, "1000")
        until(lambda: local.running("pulled"))
    header = registry_auth({"DOCKER_CONFIG": str(folder)}, image)
    assert header
    shown = local.do("service", "inspect", "pulled") + local.do("history", "service", "pulled")
    assert header not in shown
    for path in local.folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and "proc" not in path.parts:
            assert header.encode() not in path.read_bytes(), path
    local.do("service", "rm", "refused", "pulled")


def having(local: Local, digest: str) -> list[Path]:
    """The nodes' files with the image's manifest."""
    return list(local.folder.glob(f"*/worker/images/blobs/sha256/{digest.partition(':')[2]}"))
