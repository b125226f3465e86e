"""The same Dockerfile through the engine and through buildah: the same files, the same config."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from swarm.api.v1.image_pb2 import BuildSettings, FindImageResponse, Image
from swarm.worker.images.builders import BuildahBuilder, Builder, EngineBuilder
from swarm.worker.images.fetcher import ImageFetcher
from swarm.worker.images.layout import Layout
from swarm.worker.images.serving import take_bases
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.demo import write_demo_image
from swarm.worker.runtime.docker.runtime import DockerRuntime
from swarm.worker.runtime.port import Identity, RuntimeRefused

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("buildah") is None, reason="buildah, and root"
)

BASE = "docker.io/library/base:1"
DOCKERFILE = """
ARG TAG=none
FROM base:${TAG} AS first
ARG WHO=world
RUN echo "hello $WHO" > /hello && chmod 640 /hello && ln -s hello /link
FROM base:1
COPY --from=first /hello /link /from/
WORKDIR /srv/app
COPY . .
ADD added.tar /added/
ENV A=b C="d e"
LABEL x=y
EXPOSE 80 53/udp
VOLUME /data
USER 1000:1000
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD cat /hello
ENTRYPOINT ["sh", "-c"]
CMD ["cat /from/hello"]
"""


def context_of(folder: Path, dockerfile: str) -> Path:
    """An archive, as swarmctl sends it."""
    source = folder / "source"
    (source / "deep").mkdir(parents=True)
    (source / "Dockerfile").write_text(dockerfile)
    (source / "deep" / "file").write_text("content")
    (source / "deep" / "file").chmod(0o664)
    os.utime(source / "deep" / "file", (1_000_000_000, 1_000_000_000))
    (source / "out").symlink_to("/etc/passwd")
    with tarfile.open(source / "added.tar", "w") as tar:
        tar.add(source / "deep" / "file", "inner")
    archive = folder / "context.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(source, "")
    return archive


async def built(builder: Builder, folder: Path, dockerfile: str, base: Path) -> tuple[Any, ...]:
    """The image in a store of its own, and what was said."""
    await builder.take_base(BASE, base)
    context = context_of(folder, dockerfile)
    said = ""
    settings = BuildSettings(names=["app:1"], build_args={"WHO": "you", "TAG": "1"})
    async for text in builder.build(settings, context, folder / "result.tar"):
        said += text
    store = ImageStore(Layout(folder / "images"))
    (image,) = await store.load(folder / "result.tar", ["app:1"])
    return store, image, said


def files(store: ImageStore, image: Image) -> dict[str, tuple[Any, ...]]:
    """Of all layers, upper over lower."""
    found: dict[str, tuple[Any, ...]] = {}
    for layer in store.layout.image(store.descriptor(image.id)).layers:
        with tarfile.open(store.layout.blob_path(layer)) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                digest = hashlib.sha256(content.read()).hexdigest() if content else ""
                name = member.name.strip("./")
                found[name] = (
                    member.type, oct(member.mode & 0o7777), member.uid, member.gid,
                    member.linkname, digest,
                )  # fmt: skip
    found.pop("", None)
    return found


def config(store: ImageStore, image: Image) -> dict[str, Any]:
    """What a container is made of."""
    whole = store.layout.image(store.descriptor(image.id)).config
    names = (
        "Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels",
        "StopSignal", "Healthcheck", "Shell", "OnBuild",
    )  # fmt: skip
    return {name: whole["config"].get(name) or None for name in names}


@pytest.mark.timeout(120)
def test_both_builders_make_the_same_image(dockerd: Path, tmp_path: Path) -> None:
    asyncio.run(_both_build(dockerd, tmp_path))


async def _both_build(dockerd: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.tar"
    await write_demo_image(base, BASE)
    runtime = DockerRuntime(Identity("c", "n"), str(dockerd), tmp_path / "scratch")
    engine = EngineBuilder(runtime.images, runtime.client)
    buildah = BuildahBuilder(tmp_path / "buildah")
    (tmp_path / "buildah").mkdir()
    try:
        one, image, _ = await built(engine, tmp_path / "engine", DOCKERFILE, base)
        other, twin, _ = await built(buildah, tmp_path / "other", DOCKERFILE, base)
        assert files(one, image) == files(other, twin)
        assert files(one, image)["srv/app/deep/file"][1:4] == ("0o664", 0, 0)
        assert config(one, image) == config(other, twin)
        assert config(one, image)["Healthcheck"]["Interval"] == 5_000_000_000
        assert files(one, image)["srv/app/out"][4] == "/etc/passwd"  # as a link, with no content

        _, again, said = await built(engine, tmp_path / "engine2", DOCKERFILE, base)
        assert "Using cache" in said
        assert again.config_digest == image.config_digest
        _, _, said = await built(buildah, tmp_path / "other2", DOCKERFILE, base)
        assert "Using cache" in said

        failing = "FROM base:1\nRUN echo told && exit 3\n"
        outside = "FROM base:1\nCOPY ../../etc/passwd /p\n"
        for name, builder in (("engine", engine), ("other", buildah)):
            with pytest.raises(RuntimeRefused, match=r"\b3\b"):
                await built(builder, tmp_path / f"{name}3", failing, base)
            with pytest.raises(RuntimeRefused, match="etc/passwd"):
                await built(builder, tmp_path / f"{name}4", outside, base)
        assert str(tmp_path) not in await asyncio.to_thread(Path("/proc/self/mounts").read_text)
    finally:
        await runtime.close()


async def test_an_image_begins_with_the_demonstration_image_and_no_registry(tmp_path: Path) -> None:
    builder = BuildahBuilder(tmp_path / "buildah")
    store = ImageStore(Layout(tmp_path / "images"))
    settings = BuildSettings(names=["app:1"], bases=["swarm/demo=", "a.registrys/image="])
    fetcher = ImageFetcher(store, "node", no_manager, lambda *_: pytest.fail("no peer is asked"))
    await take_bases(builder, settings, tmp_path, store, fetcher)
    context = context_of(tmp_path, "FROM swarm/demo\nCOPY deep/file /www/\n")
    said = [text async for text in builder.build(settings, context, tmp_path / "result.tar")]
    assert not [line for line in said if "Trying to pull" in line]
    (image,) = await store.load(tmp_path / "result.tar", ["app:1"])
    assert {"www/file", "bin/demo"} <= files(store, image).keys()
    assert config(store, image)["Cmd"] == ["/bin/demo"]


async def no_manager(digest: str) -> FindImageResponse:
    raise AssertionError(digest)
