"""What a node is, as its state folder says: kept in DIR/node.json, replaced as a whole.

Nothing secret is in it: keys are under DIR/certificates, Raft's log under DIR/raft.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from swarm.disk import write_durably


class StateError(Exception):
    """The state folder can't be used: one line, with the way out."""


@dataclass(frozen=True, slots=True)
class NodeState:
    cluster_id: str = ""
    node_id: str = ""
    listen_addr: str = ""
    advertise_addr: str = ""
    # 0: not (yet) a member of the Raft group.
    raft_id: int = 0
    # While the log is made that of a new cluster: the raft id that this node has in it.
    new_raft_id: int = 0
    # The cluster was made anew without this manager, whose log is kept.
    superseded: bool = False
    # HOST:PORT of managers' mutual TLS listeners, the last that this node heard of.
    managers: tuple[str, ...] = field(default=())


class StateFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "node.json"

    @property
    def raft(self) -> Path:
        return self.folder / "raft"

    @property
    def worker(self) -> Path:
        return self.folder / "worker"

    @property
    def has_log(self) -> bool:
        """Whether Raft's log is there, if only with nothing in it."""
        return any((self.raft / "wal").glob("*.wal"))

    def load(self) -> NodeState:
        """An empty state where there is none: the node is in no cluster. StateError."""
        try:
            content = json.loads(self._path.read_text())
            content["managers"] = tuple(content.get("managers", ()))
            return NodeState(**content)
        except FileNotFoundError:
            return NodeState()
        except OSError as error:
            raise StateError(f"{self._path} can't be read: {error.strerror or error}") from None
        except (ValueError, TypeError, AttributeError):
            raise StateError(
                f"{self._path} is damaged: restore it from a backup, or move {self.folder} away, "
                "start swarmd again and join the swarm anew"
            ) from None

    def save(self, state: NodeState) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(asdict(state), indent=2) + "\n"
        write_durably(self._path, text.encode(), mode=0o600)

    def change(self, **changes: object) -> NodeState:
        state = replace(self.load(), **changes)  # pyright: ignore[reportArgumentType]
        self.save(state)
        return state

    def forget_raft(self) -> None:
        """Not a manager any more: its log and keys go, and its old raft id never comes back."""
        self.change(raft_id=0, superseded=False)
        shutil.rmtree(self.raft, ignore_errors=True)

    def forget_all(self) -> None:
        """The node left its cluster. node.json goes first: nothing half left is started again."""
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self.raft, ignore_errors=True)
        shutil.rmtree(self.worker, ignore_errors=True)
