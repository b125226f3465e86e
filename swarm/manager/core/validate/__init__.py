"""A request to a Transaction, or to an error that says what to do. Pure.

`service`, `node`, `cluster` build transactions; `resolve` finds what a reference means.
"""

from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest, refusal, verdict_of

__all__ = ["ErrorCode", "InvalidRequest", "refusal", "verdict_of"]
