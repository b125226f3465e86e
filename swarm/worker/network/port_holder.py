"""Which process listens on a port of this machine, as far as /proc tells."""

from __future__ import annotations

from pathlib import Path

_LISTEN = "0A"


def holder_of(port: int, proc: Path = Path("/proc")) -> str:
    """ "pid 123 (nginx)", or "another program" where that cannot be seen. Blocking."""
    inodes = _listening_inodes(port, proc)
    if inodes:
        wanted = {f"socket:[{inode}]" for inode in inodes}
        for process in proc.iterdir():
            if process.name.isdigit() and _has_socket(process, wanted):
                return f"pid {process.name} ({_name(process)})"
    return "another program"


def _listening_inodes(port: int, proc: Path) -> set[str]:
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _has_socket(process: Path, wanted: set[str]) -> bool:
    try:
        return any(str(fd.readlink()) in wanted for fd in (process / "fd").iterdir())
    except OSError:
        return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "unknown"
