"""Which runtime a node takes, and what it says of the others; the demo image without busybox."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.worker.runtime import demo
from swarm.worker.runtime.port import Identity, RuntimeFailed, RuntimeRefused
from swarm.worker.runtime.select import RuntimeConfig, choose


def config(tmp_path: Path, **fields: str) -> RuntimeConfig:
    return RuntimeConfig(tmp_path, Identity("c", "n"), nat=False, **fields)


async def test_auto_passes_over_what_does_not_work(tmp_path: Path):
    nothing = {"docker_host": str(tmp_path / "none.sock"), "oci_runtime": "no-such-runtime"}
    choice = await choose("auto", config(tmp_path, **nothing))
    assert choice.runtime.name == "process"
    assert [reason.partition(":")[0] for reason in choice.reasons] == ["docker", "oci"]
    assert "none.sock" in choice.reasons[0]
    assert "no-such-runtime" in choice.reasons[1] or "root" in choice.reasons[1]
    await choice.runtime.close()


async def test_auto_takes_docker_first(tmp_path: Path, dockerd: Path):
    choice = await choose("auto", config(tmp_path, docker_host=str(dockerd)))
    assert (choice.runtime.name, choice.reasons) == ("docker", [])
    await choice.runtime.close()


async def test_a_named_one_that_does_not_work_is_an_error(tmp_path: Path):
    with pytest.raises(RuntimeFailed, match=r"docker: .*none\.sock") as failed:
        await choose("docker", config(tmp_path, docker_host=str(tmp_path / "none.sock")))
    assert "\n" not in str(failed.value)


async def test_an_unknown_name_lists_the_known(tmp_path: Path):
    with pytest.raises(RuntimeFailed, match="auto, docker, oci, process, fake"):
        await choose("rocket", config(tmp_path))


async def test_the_process_runtime_says_what_it_cannot(tmp_path: Path):
    choice = await choose("process", config(tmp_path))
    images = choice.runtime.images
    assert await images.has("swarm/demo:latest")
    assert await images.list() == []
    with pytest.raises(RuntimeRefused, match="no images"):
        await images.load(tmp_path / "x.tar")
    await choice.runtime.close()


async def test_without_a_static_busybox_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "busybox").write_bytes(b"#!/bin/sh\n")
    monkeypatch.setattr(demo, "BUSYBOX_PATHS", (str(tmp_path / "busybox"), "/no/such/busybox"))
    with pytest.raises(RuntimeFailed, match="busybox-static"):
        await demo.write_demo_image(tmp_path / "demo.tar")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("swarm/demo", True),
        ("swarm/demo:2", True),
        ("docker.io/swarm/demo@sha256:ab", True),
        ("swarm/demos", False),
        ("other/swarm/demo", False),
    ],
)
def test_what_is_the_demo(reference: str, expected: bool):
    assert demo.is_demo(reference) is expected
