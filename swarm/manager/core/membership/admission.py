"""Whose Raft messages a manager takes: its members', and strangers' that it may hear of yet."""

from swarm.manager.core.store import View

# How a refusal begins; the refused manager knows them.
REMOVED = "removed"
SUPERSEDED = "superseded"


def refusal(view: View, raft_id: int, node_id: str, incarnation: int) -> str:
    """Why messages from the node's member `raft_id`, whose store is of `incarnation` (0: it has
    none yet), are not taken; empty when they are."""
    cluster = view.cluster()
    if cluster is not None and 0 < incarnation < cluster.incarnation:
        return f"{SUPERSEDED}: the swarm was made anew without this manager"
    member = view.member(raft_id)
    if member is None:
        return ""  # this manager is new and knows nobody yet; Raft ignores strangers itself
    if member.removed:
        return f"{REMOVED}: this manager is not a member of the Raft group any more"
    if member.node_id != node_id:
        return "this raft id belongs to another node"
    return ""
