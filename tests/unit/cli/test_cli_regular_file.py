"""What a user names as a file is read at once, or said in a line not to be one."""

import os

import pytest

from swarm.cli import regular_file


def test_a_file_and_a_pipe_of_the_shell(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert regular_file.read(tmp_path / "a") == b"content"
    out, into = os.pipe()
    os.write(into, b"piped")
    os.close(into)
    assert regular_file.read(f"/dev/fd/{out}") == b"piped"
    os.close(out)


def test_what_has_no_end_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").touch()
    os.truncate(tmp_path / "big", 1 << 30)
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="it is no regular file"):
            regular_file.read(path)
    with pytest.raises(OSError, match=f"it is larger than {regular_file.BYTES_MAX} bytes"):
        regular_file.read(tmp_path / "big")
    with pytest.raises(IsADirectoryError):
        regular_file.read(tmp_path)
