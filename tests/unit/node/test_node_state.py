"""What a node is, read back from its folder."""

from pathlib import Path

import pytest

from swarm.node.state import NodeState, StateError, StateFolder

STATE = NodeState(cluster_id="c", node_id="n", raft_id=7, managers=("a:1", "b:2"))


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    assert folder.load() == NodeState()
    folder.save(STATE)
    assert folder.load() == STATE
    assert folder.change(raft_id=8).raft_id == 8
    assert StateFolder(tmp_path / "state").load().raft_id == 8


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b'"x"', b"7", b'{"raft": 1}', b"\xff\xfe"])
def test_a_damaged_file_is_refused_in_a_line(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "node.json").write_bytes(bad)
    with pytest.raises(StateError, match=r"^[^\n]*node\.json is damaged[^\n]*$"):
        StateFolder(tmp_path).load()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.json").mkdir()
    with pytest.raises(StateError, match="can't be read"):
        StateFolder(tmp_path).load()


def test_forgotten_is_forgotten(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.save(STATE)
    folder.raft.mkdir()
    folder.forget_raft()
    assert folder.load().raft_id == 0
    assert not folder.raft.exists()
    assert not folder.has_log
    folder.forget_all()
    assert folder.load() == NodeState()
