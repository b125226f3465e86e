"""What an agent must know again after a restart: a small sqlite database.

One table of rows (`swarm.worker.core.events.Row`), written in transactions that are fsynced before
`save` returns. Blocking: to be called from one worker thread. No secrets are in it; specs are, so
only the owner may read it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from swarm.worker.core.events import Row

FORMAT = 1


class DatabaseError(Exception):
    """The database cannot be used; the message names the file and says what to do."""


class Database:
    def __init__(self, path: Path) -> None:
        """Opens it, or makes a new one. Raises DatabaseError."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
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
            raise DatabaseError(f"{self._path}: {error}") from None

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

    def _unusable(self, error: sqlite3.Error) -> DatabaseError:
        return DatabaseError(
            f"the agent's database {self._path} cannot be used ({error}): move it away and start "
            "again; running tasks are found by their containers, the rest comes from a manager"
        )
