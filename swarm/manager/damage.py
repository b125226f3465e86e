"""What to do where Raft's log or its snapshots are damaged; docs/operations.md has it at length."""

from pathlib import Path


def way_out(raft_folder: Path) -> str:
    """For the end of an error. Whatever happens, the folder is moved, not repaired or deleted."""
    return (
        f"Move {raft_folder} away. If the other managers have their quorum: `swarmctl node demote` "
        "for this node on one of them, start swarmd here, then `swarmctl node promote`. If they "
        "have not: `swarmctl init --force-new-cluster` on one whose log is whole, then `swarmctl "
        "leave --force` and join again here. If there is none: `swarmctl leave --force` and "
        "`swarmctl cluster restore` with a backup."
    )
