"""The smallest image that runs: one program that ends with 0. What `probe` runs a container of."""

from __future__ import annotations

import platform
import struct
from pathlib import Path

from swarm.worker.runtime.demo import write_demo_image
from swarm.worker.runtime.image_archive import Entry, write_archive
from swarm.worker.runtime.port import Images

PROBE_REFERENCE = "swarm/probe:latest"
LOAD_ADDRESS = 0x400000
HEADERS_BYTES = 64 + 56

# exit(0): machine type of the ELF header, instructions.
PROGRAMS = {
    "x86_64": (62, bytes.fromhex("31ffb83c0000000f05")),
    "aarch64": (183, bytes.fromhex("000080d2a80b80d2010000d4")),
}


async def ensure_probe_image(images: Images, scratch: Path) -> tuple[str, tuple[str, ...]]:
    """Loads the image where it is missing; its reference and the command to run in it."""
    program = PROGRAMS.get(platform.machine())
    if not await images.has(PROBE_REFERENCE):
        archive = scratch / "probe.tar"
        if program is None:
            await write_demo_image(archive, PROBE_REFERENCE)
        else:
            entry = Entry("true", elf(*program))
            write_archive(archive, PROBE_REFERENCE, [entry], {"Cmd": ["/true"]})
        await images.load(archive)
    return PROBE_REFERENCE, ("/true",) if program else ("/bin/true",)


def elf(machine: int, code: bytes) -> bytes:
    """A static 64-bit program of one segment (elf(5))."""
    size = HEADERS_BYTES + len(code)
    entry = LOAD_ADDRESS + HEADERS_BYTES
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        b"\x7fELF", 2, 1, 1, 0, 2, machine, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1000)
    return header + segment + code
