"""Layers with whiteouts, links and names that want out, unpacked and run as an overlay."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from swarm.worker.runtime.oci import unpack
from swarm.worker.runtime.oci.root import (
    copy_up,
    mount_overlay,
    read_inside,
    resolve_inside,
    unmount,
    unmount_below,
)
from swarm.worker.runtime.port import RuntimeRefused

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers need root")


def layer(*members: tuple[str, bytes | str | None], prefix: str = "") -> bytes:
    """Members: bytes is a file, "->x" a symbolic link, "=x" a hard link, None a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(prefix + name)
            info.mode = 0o4755 if name.endswith("suid") else 0o755
            info.uid, info.gid, info.mtime = 12, 34, 1_000_000
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
                continue
            if content is None:
                info.type = tarfile.DIRTYPE
            elif content.startswith("->"):
                info.type, info.linkname = tarfile.SYMTYPE, content[2:]
            else:
                info.type, info.linkname = tarfile.LNKTYPE, content[1:]
            tar.addfile(info)
    return buffer.getvalue()


def unpacked(data: bytes, directory: Path) -> str:
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-S", unpack.__file__, str(directory)],
        input=data,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise ValueError(done.stderr.decode())
    return done.stdout.decode().strip()


@pytest.fixture
def mounted(tmp_path: Path):
    """Mounts layers, lowest first, and gives the root."""
    roots: list[Path] = []

    def mount(*layers: bytes) -> Path:
        paths = [tmp_path / f"layer{number}" for number in range(len(layers))]
        for data, path in zip(layers, paths, strict=True):
            unpacked(data, path)
        for name in ("root", "upper", "work"):
            (tmp_path / name).mkdir()
        mount_overlay(tmp_path / "root", paths, tmp_path / "upper", tmp_path / "work")
        roots.append(tmp_path / "root")
        return tmp_path / "root"

    yield mount
    for root in roots:
        unmount(root)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_owner_mode_time_and_digest(tmp_path: Path):
    data = layer(("d", None), ("d/suid", b"x"), ("d/hard", "=d/suid"))
    plain, packed = unpacked(data, tmp_path / "a"), unpacked(gzip.compress(data), tmp_path / "b")
    assert plain == packed
    found = (tmp_path / "a" / "d" / "suid").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (12, 34, 0o4755)
    assert found.st_nlink == 2
    assert (tmp_path / "a" / "d").stat().st_mtime == 1_000_000


def test_all_mounts_below_a_folder_go(tmp_path: Path):
    folder = tmp_path / "a folder"
    for name in ("layer", "root", "upper", "work"):
        (folder / name).mkdir(parents=True)
    (folder / "layer" / "inner").mkdir()
    mount_overlay(folder / "root", [folder / "layer"], folder / "upper", folder / "work")
    for name in ("upper2", "work2"):
        (folder / name).mkdir()
    inner = folder / "root" / "inner"
    mount_overlay(inner, [folder / "layer"], folder / "upper2", folder / "work2")
    unmount_below(folder)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_whiteouts_hide_what_is_below(mounted):
    root = mounted(
        layer(("a", b"1"), ("d", None), ("d/x", b"1"), ("e", None), ("e/old", b"1"), ("f", None)),
        layer((".wh.a", b""), ("d/.wh.x", b""), ("d/y", b"2"), ("e", None), ("e/.wh..wh..opq", b""),
              ("e/new", b"2"), (".wh.f", b"")),
    )  # fmt: skip
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert found == ["d", "d/y", "e", "e/new"]


def test_a_layer_may_change_a_kind(mounted):
    root = mounted(layer(("x", None), ("x/in", b"1"), ("y", b"1")), layer(("x", b"2"), ("y", None)))
    assert (root / "x").read_bytes() == b"2"
    assert (root / "y").is_dir()


@pytest.mark.parametrize("prefix", ["../../../", "/", "./../", "a/../../../"])
def test_names_that_want_out_stay_inside(tmp_path: Path, prefix: str):
    unpacked(layer(("escaped", b"x"), prefix=prefix), tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert (tmp_path / "in" / "escaped").exists()


def test_links_that_want_out_stay_inside(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    data = layer(
        ("up", "->../outside"),
        ("abs", f"->{outside}"),
        ("abs/file", b"theirs"),
    )
    with pytest.raises(ValueError):
        unpacked(data, tmp_path / "in")  # the link leads nowhere in the chroot
    unpacked(layer(("d", None), ("s", "->/d"), ("s/file", b"in")), tmp_path / "in2")
    assert (tmp_path / "in2" / "d" / "file").read_text() == "in"
    with pytest.raises(ValueError):
        unpacked(layer(("h", f"={outside}/file")), tmp_path / "in3")
    assert (outside / "file").read_text() == "mine"


@pytest.mark.parametrize("data", [b"no tar at all" * 100, layer(("x", b"1" * 5000))[:3000]])
def test_damaged_layers(tmp_path: Path, data: bytes):
    with pytest.raises(ValueError) as failed:
        unpacked(data, tmp_path / "in")
    assert "Traceback" not in str(failed.value)


def test_zstd_is_refused_in_words(tmp_path: Path):
    with pytest.raises(ValueError, match="zstd"):
        unpacked(b"\x28\xb5\x2f\xfd" + bytes(600), tmp_path / "in")


def test_looking_into_a_root_follows_its_links_inside(tmp_path: Path):
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "real").write_text("in")
    (root / "etc" / "passwd").symlink_to("/etc/real")
    (root / "up").symlink_to("../../../../etc")
    (root / "loop").symlink_to("loop")
    assert read_inside(root, "etc/passwd") == "in"
    assert resolve_inside(root, "/up/real") == root / "etc" / "real"
    assert read_inside(root, "etc/none") == ""
    assert read_inside(root, "etc") == ""
    with pytest.raises(RuntimeRefused):
        resolve_inside(root, "loop")


def test_a_new_volume_gets_what_the_image_has_there(tmp_path: Path):
    source, volume = tmp_path / "source", tmp_path / "volume"
    (source / "d").mkdir(parents=True)
    (source / "d" / "file").write_text("x")
    (source / "d" / "file").chmod(0o640)
    os.chown(source / "d" / "file", 12, 34)
    (source / "link").symlink_to("/nowhere")
    volume.mkdir()
    copy_up(source, volume)
    found = (volume / "d" / "file").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12, 34, 0o640)
    assert (volume / "link").readlink() == Path("/nowhere")
    shutil.rmtree(volume)
