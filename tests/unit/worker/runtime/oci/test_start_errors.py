"""What runc and crun say of a container that does not start, in Docker's words."""

import pytest

from swarm.worker.runtime.oci.start_errors import start_failure

MISSING = 'exec: "nosuch": executable file not found in $PATH'


RUNC = 'time="2026-11-25T13:00:00Z" level=error msg="runc run failed: unable to start container '


@pytest.mark.parametrize(
    ("line", "words", "exit_code"),
    [
        (
            RUNC + r"process: error during container init: exec: \"nosuch\": executable file not "
            'found in $PATH"',
            MISSING,
            127,
        ),
        (RUNC + r'process: exec: \"nosuch\": executable file not found in $PATH"', MISSING, 127),
        ("executable file `nosuch` not found in $PATH: No such file or directory", MISSING, 127),
        (
            RUNC + r'process: exec: \"/data\": permission denied"',
            'exec: "/data": permission denied',
            126,
        ),
        ("the OCI runtime ended with 1", "the OCI runtime ended with 1", 128),
    ],
)
def test_a_start_that_failed(line: str, words: str, exit_code: int) -> None:
    failure = start_failure(line)
    assert (str(failure), failure.exit_code) == (words, exit_code)
