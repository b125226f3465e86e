"""What an agent must know again after a restart: a small sqlite database.

One table of rows (`swarm.worker.core.events.Row`), written in transactions that are fsynced before
`save` returns. Blocking: to be called from one worker thread. No secrets are in it; specs are, so
only the owner may read it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from swarm.disk import is_no_space
from swarm.worker.core.events import Row

FORMAT = 1

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DatabaseError(Exception):
    """The database cannot be used; the message names the file and says what to do."""


class Database:
    def __init__(self, path: Path) -> None:
        """Opens it, or makes a new one. Raises DatabaseError."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            # The thread of the worker is another one than that of closing.
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._check_format()
        except sqlite3.Error as error:
            self._connection.close()
            raise self._unusable(error) from None
        except DatabaseError:
            self._connection.close()
            raise

    def load(self) -> list[Row]:
        try:
            return [Row(*row) for row in self._connection.execute("SELECT * FROM rows")]
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def save(self, puts: Sequence[Row], deletes: Sequence[tuple[str, str]]) -> None:
        """All of it or nothing, durable on return. Raises DatabaseError."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", puts)
            connection.executemany("DELETE FROM rows WHERE kind = ? AND key = ?", deletes)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise self._unusable(error) from None

    def close(self) -> None:
        self._connection.close()

    def _check_format(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            raise DatabaseError(
                f"{self._path} was written by a newer swarmd (format {version}): "
                "install that version again"
            )
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS rows (kind TEXT NOT NULL, key TEXT NOT NULL, "
            "value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID"
        )
        self._connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _unusable(self, error: sqlite3.Error | OSError) -> DatabaseError:
        if isinstance(error, OSError):
            reason, advice = str(error.strerror), "see to its folder"
        else:
            # The low byte is the kind of error, what is above it where it was met.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            reason, advice = str(error), self._advice(code)
        if self._disk_is_full(error):
            reason, advice = "no space left on its disk", "free some"
        return DatabaseError(
            f"the agent's database {self._path} cannot be used ({reason}): {advice}"
        )

    def _advice(self, code: int) -> str:
        if code in _DAMAGED:
            return (
                "move it away and start again; running tasks are found by their containers, the "
                "rest comes from a manager"
            )
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return "another process uses it: end that one"
        return "see to its disk, and to who may write there"

    def _disk_is_full(self, error: sqlite3.Error | OSError) -> bool:
        if isinstance(error, OSError):
            return is_no_space(error)
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            return True
        # What its shared memory lacks is told as an I/O error.
        folder = next(path for path in self._path.parents if path.exists())
        return os.statvfs(folder).f_bavail == 0
