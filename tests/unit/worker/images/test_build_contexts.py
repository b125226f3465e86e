"""A build context is unpacked by root: whatever is in it, nothing outside of the folder changes."""

import io
import tarfile

import pytest

from swarm.worker.images.builders import BuildahBuilder, unpack_context
from swarm.worker.runtime.port import RuntimeRefused


def member(name, kind=tarfile.REGTYPE, link="", content=b"", mode=0o666):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(content), mode
    return info, content


@pytest.fixture
def context(tmp_path):
    def make(*members):
        archive = tmp_path / "context.tar"
        with tarfile.open(archive, "w") as tar:
            for info, content in members:
                tar.addfile(info, io.BytesIO(content))
        return archive

    return make


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("mine")
    path.chmod(0o600)
    return path


HOSTILE = {
    "an absolute name": [member("{victim}", content=b"x")],
    "a name with ..": [member("a/../../victim", content=b"x")],
    "a hard link": [member("h", tarfile.LNKTYPE, "../victim")],
    "an absolute hard link": [member("h", tarfile.LNKTYPE, "{victim}")],
    "a file through a link": [
        member("out", tarfile.SYMTYPE, ".."),
        member("out/victim", content=b"x"),
    ],
    "a hard link through a link": [
        member("out", tarfile.SYMTYPE, ".."),
        member("h", tarfile.LNKTYPE, "out/victim"),
    ],
    "a file over a link": [
        member("l", tarfile.SYMTYPE, "{victim}"),
        member("l", content=b"x"),
    ],
    "a folder over a link": [
        member("l", tarfile.SYMTYPE, ".."),
        member("l", tarfile.DIRTYPE, mode=0o777),
    ],
    "a hard link to a link": [
        member("l", tarfile.SYMTYPE, "{victim}"),
        member("h", tarfile.LNKTYPE, "l"),
    ],
    "a device": [member("zero", tarfile.CHRTYPE)],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_context_that_leads_out_is_refused_and_nothing_changes(what, tmp_path, context, victim):
    members = [
        (
            info.replace(
                name=info.name.replace("{victim}", str(victim)),
                linkname=info.linkname.replace("{victim}", str(victim)),
            ),
            content,
        )
        for info, content in HOSTILE[what]
    ]
    before = tmp_path.stat().st_mode
    with pytest.raises(RuntimeRefused, match="the build context can't be used"):
        unpack_context(context(*members), tmp_path / "context")
    assert victim.read_text() == "mine"
    assert victim.stat().st_mode & 0o777 == 0o600
    assert victim.stat().st_nlink == 1
    assert tmp_path.stat().st_mode == before


def test_links_that_only_point_outside_are_taken_as_they_are(tmp_path, context):
    archive = context(
        member("bin", tarfile.SYMTYPE, "/usr/bin"),
        member("a", content=b"x"),
        member("b", tarfile.LNKTYPE, "a"),
    )
    unpack_context(archive, tmp_path / "context")
    assert (tmp_path / "context/bin").readlink().as_posix() == "/usr/bin"
    assert (tmp_path / "context/b").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["{victim}", "../victim", "link", "fifo", "none"])
async def test_a_dockerfile_is_of_the_context(name, tmp_path, context, victim):
    from swarm.api.v1.image_pb2 import BuildSettings

    archive = context(
        member("link", tarfile.SYMTYPE, str(victim)), member("fifo", tarfile.FIFOTYPE)
    )
    settings = BuildSettings(dockerfile=name.replace("{victim}", str(victim)))
    with pytest.raises(RuntimeRefused, match=r"there is no Dockerfile .* in the build context"):
        async for _ in BuildahBuilder(tmp_path).build(settings, archive, tmp_path / "result"):
            pass
