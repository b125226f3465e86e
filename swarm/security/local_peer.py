"""How a uid travels from the unix socket that users reach to gRPC: in a socket's name.

gRPC does not tell who is at the other end of a unix socket, but shows the peer's name
(`context.peer()`); `swarm.node.local_socket` gives its connections such names.
"""

import re

_NAME = re.compile(r"/uid-(\d+)-\d+$")


def peer_name(uid: int, number: int) -> str:
    """A file name for one connection of this user."""
    return f"uid-{uid}-{number}"


def uid_of_peer(peer: str) -> int | None:
    """The uid in a call's `context.peer()`; None where there is none to be known."""
    found = _NAME.search(peer)
    return int(found.group(1)) if found else None
