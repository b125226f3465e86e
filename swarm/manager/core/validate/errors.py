"""Why a request can't be done: one line for the user, and a code for the API."""

from enum import Enum

from swarm.api.v1.store_pb2 import (
    VERDICT_EXISTS,
    VERDICT_IN_USE,
    VERDICT_NAME_TAKEN,
    VERDICT_NOT_FOUND,
    VERDICT_PORT_TAKEN,
    VERDICT_PRECONDITION,
    VERDICT_STALE_TERM,
    VERDICT_VERSION,
    Verdict,
)


class ErrorCode(Enum):
    INVALID = "invalid"
    NOT_FOUND = "not found"
    # Somebody else changed it meanwhile: read again and repeat.
    CONFLICT = "conflict"
    ALREADY_EXISTS = "already exists"
    # Right in itself, but not while things are as they are.
    FAILED_PRECONDITION = "failed precondition"


class InvalidRequest(Exception):  # noqa: N818  # the contract's name
    """The message is one line, says what is wrong and what to do."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INVALID) -> None:
        # What a user sent is quoted in it: a line stays a line.
        self.message = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in message
        )
        super().__init__(self.message)
        self.code = code


def changed_since(noun: str, name: str, written: int, check_index: int) -> str:
    """What --check-index says. It stays true, so that it is asked once: no ErrorCode.CONFLICT."""
    return (
        f"{noun} {name} was changed at index {written}, after --check-index {check_index}: "
        "look at it again with --plan"
    )


_CODES = {
    VERDICT_EXISTS: ErrorCode.ALREADY_EXISTS,
    VERDICT_NOT_FOUND: ErrorCode.NOT_FOUND,
    VERDICT_VERSION: ErrorCode.CONFLICT,
    VERDICT_NAME_TAKEN: ErrorCode.ALREADY_EXISTS,
    VERDICT_PORT_TAKEN: ErrorCode.FAILED_PRECONDITION,
    VERDICT_STALE_TERM: ErrorCode.CONFLICT,
    VERDICT_IN_USE: ErrorCode.FAILED_PRECONDITION,
    VERDICT_PRECONDITION: ErrorCode.FAILED_PRECONDITION,
}
_VERDICTS = {
    ErrorCode.NOT_FOUND: VERDICT_NOT_FOUND,
    ErrorCode.CONFLICT: VERDICT_VERSION,
    ErrorCode.ALREADY_EXISTS: VERDICT_EXISTS,
    ErrorCode.FAILED_PRECONDITION: VERDICT_PRECONDITION,
}


def refusal(verdict: Verdict) -> InvalidRequest:
    """The error for a transaction that apply refused."""
    return InvalidRequest(verdict.message, _CODES.get(verdict.code, ErrorCode.CONFLICT))


def verdict_of(invalid: InvalidRequest) -> Verdict:
    """The verdict that says the same as this error, which is not of ErrorCode.INVALID."""
    return Verdict(code=_VERDICTS[invalid.code], message=invalid.message, refused=True)
