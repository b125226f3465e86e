"""What becomes of a redirection where the kernel's tool can't be run."""

from pathlib import Path

import pytest

from swarm.worker.network.redirect import Redirect, RedirectError


async def test_a_tool_that_is_no_program_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nft"
    tool.write_bytes(b"\0 no program")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RedirectError, match="nft can't be run: Exec format error"):
        await Redirect("c", "n", "br0").add("10.0.0.2")
