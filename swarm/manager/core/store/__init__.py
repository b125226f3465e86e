"""The cluster's state: tables with indexes, transactions, snapshots, and drafts over them.

`Store` is what is committed, `Draft` a view with changes that nobody has proposed yet;
`View` is what both can be asked. Messages in it are never mutated: copy, change, replace.
"""

from swarm.manager.core.store.changes import Applied, StoreChange
from swarm.manager.core.store.draft import Draft
from swarm.manager.core.store.file_index import FileKey, files_of_container
from swarm.manager.core.store.ids import Ids, RandomIds
from swarm.manager.core.store.objects import (
    SlotKey,
    StoreObject,
    UnknownOperation,
    ended,
    guard,
    noun_of,
    revision_id,
    slot_key,
    table_of,
    wanted,
    wrap,
)
from swarm.manager.core.store.retention import KEPT_REVISIONS, prunable_revisions
from swarm.manager.core.store.snapshot import FEATURE_LEVEL, StoreImage
from swarm.manager.core.store.store import (
    TRANSACTION_BYTES_MAX,
    Restoration,
    Store,
    check_size,
)
from swarm.manager.core.store.view import View

__all__ = [
    "FEATURE_LEVEL",
    "KEPT_REVISIONS",
    "TRANSACTION_BYTES_MAX",
    "Applied",
    "Draft",
    "FileKey",
    "Ids",
    "RandomIds",
    "Restoration",
    "SlotKey",
    "Store",
    "StoreChange",
    "StoreImage",
    "StoreObject",
    "UnknownOperation",
    "View",
    "check_size",
    "ended",
    "files_of_container",
    "guard",
    "noun_of",
    "prunable_revisions",
    "revision_id",
    "slot_key",
    "table_of",
    "wanted",
    "wrap",
]
