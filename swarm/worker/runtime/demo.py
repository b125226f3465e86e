"""The demo image, `swarm/demo:latest`: made on the spot, needs no registry.

A static busybox and a script: it serves HTTP on `$PORT` (8000 unless told otherwise), answers with
who it is and its environment on `/`, with "ok" on `/healthz`, and ends at once on SIGTERM.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
from pathlib import Path

from swarm.worker.runtime.image_archive import Entry, write_archive
from swarm.worker.runtime.port import Images, RuntimeFailed

DEMO_NAME = "swarm/demo"
DEMO_REFERENCE = "swarm/demo:latest"
BUSYBOX_PATHS = ("/bin/busybox", "/usr/bin/busybox", "/sbin/busybox")
ELF_INTERPRETER = 3  # PT_INTERP: the program needs a loader, so it is not static

# It says that it listens only when it does: the shell starts httpd beside itself.
SERVER = b"""#!/bin/sh
port="${PORT:-8000}"
httpd -f -p "$port" -h /www &
server=$!
trap 'kill $server; exit 0' TERM INT
listening=$(printf ':%04X 0*:0000 0A' "$port")
tries=0
until grep -q "$listening" /proc/net/tcp /proc/net/tcp6 2>/dev/null || [ $tries -ge 100 ]; do
  tries=$((tries + 1))
  usleep 10000
done
echo "demo listens on port $port"
wait $server
"""

# The environment is that of the container's first process: httpd adds to its own.
PAGE = b"""#!/bin/sh
value() { tr '\\000' '\\n' < /proc/1/environ | sed -n "s/^$1=//p"; }
echo 'Content-Type: text/plain'
echo
echo "service: $(value SWARM_SERVICE)"
echo "slot: $(value SWARM_SLOT)"
echo "node: $(value SWARM_NODE)"
echo "task: $(value SWARM_TASK_ID)"
echo "hostname: $(hostname)"
echo
tr '\\000' '\\n' < /proc/1/environ
"""


def is_demo(reference: str) -> bool:
    """Whether an image reference means the demo image, whatever its tag or digest."""
    name = reference.partition("@")[0].removeprefix("docker.io/")
    return name == DEMO_NAME or name.startswith(DEMO_NAME + ":")


async def write_demo_image(archive: Path, reference: str = DEMO_REFERENCE) -> None:
    """Writes the image as an archive for `Images.load`.

    Raises RuntimeFailed where this machine has no static busybox.
    """
    busybox = await asyncio.to_thread(_busybox)
    listing = await asyncio.create_subprocess_exec(
        busybox, "--list", stdout=asyncio.subprocess.PIPE
    )
    applets, _ = await listing.communicate()
    program = await asyncio.to_thread(busybox.read_bytes)
    entries = _entries(program, applets.decode().split())
    config: dict[str, object] = {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": ["/bin/demo"],
        "WorkingDir": "/",
        "ExposedPorts": {"8000/tcp": {}},
    }
    await asyncio.to_thread(write_archive, archive, reference, entries, config)


async def ensure_demo_image(images: Images, reference: str, scratch: Path) -> str:
    """Makes and loads the demo image where it is missing; never pulls. Its name without a digest.

    `scratch` is an existing directory. Raises RuntimeFailed, see `write_demo_image`.
    """
    name = reference.partition("@")[0].removeprefix("docker.io/")
    name = DEMO_REFERENCE if name == DEMO_NAME else name
    if not await images.has(name):
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            archive = Path(directory) / "demo.tar"
            await write_demo_image(archive, name)
            await images.load(archive)
    return name


def has_static_busybox() -> bool:
    """Whether this machine has what the image is made of."""
    return _find_busybox() is not None


def _busybox() -> Path:
    found = _find_busybox()
    if found is None:
        raise RuntimeFailed(
            "the demo image needs a static busybox on this machine: install the package "
            "busybox-static"
        )
    return found


def _find_busybox() -> Path | None:
    for name in BUSYBOX_PATHS:
        path = Path(name)
        if path.is_file() and is_static(path):
            return path
    return None


def is_static(path: Path) -> bool:
    """Whether a 64-bit little-endian ELF program needs no loader."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:6] != b"\x7fELF\x02\x01":
        return False
    (offset,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    kinds = [
        struct.unpack_from("<I", head, offset + index * size)[0]
        for index in range(count)
        if offset + (index + 1) * size <= len(head)
    ]
    return ELF_INTERPRETER not in kinds


def _entries(busybox: bytes, applets: list[str]) -> list[Entry]:
    directories = ("bin", "etc", "proc", "sys", "dev", "root", "run", "var", "www", "www/cgi-bin")
    return [
        *(Entry(path) for path in directories),
        Entry("tmp", mode=0o1777),
        Entry("bin/busybox", busybox),
        *(Entry(f"bin/{name}", link="busybox") for name in applets if name != "busybox"),
        Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
        Entry("etc/group", b"root:x:0:\nnogroup:x:65534:\n"),
        Entry("bin/demo", SERVER),
        Entry("www/cgi-bin/index.cgi", PAGE),
        Entry("www/healthz", b"ok\n", mode=0o644),
    ]
