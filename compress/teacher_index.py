"""The index of a teacher cache: an SQLite file that several processes read and write at once."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..runtime.errors import DataError, UsageError

__all__ = ["FORMAT", "Index"]

FORMAT = 1
_APPLICATION_ID = 0x65495143  # "eIQC"
_BUSY_SECONDS = 60.0
_SCHEMA = (
    "CREATE TABLE members (place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
    " features TEXT NOT NULL, row_bytes INTEGER NOT NULL)",
    "CREATE TABLE entries (member_key TEXT NOT NULL, item_key TEXT NOT NULL, image_sha256 TEXT NOT NULL,"
    " fold TEXT NOT NULL, crop TEXT NOT NULL, distortion TEXT NOT NULL, raw REAL NOT NULL, crc32 INTEGER NOT NULL,"
    " shard TEXT NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (member_key, item_key)) WITHOUT ROWID",
)


class Index:
    """The index, made if its file is empty or not there.

    Attributes:
        path: of its file.
    """

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            UsageError: the file is something else, or of a newer format.
            DataError: it may not be written, or another process does not let go of it.
        """
        self.path = path
        self._connection, self._pid = _connected(path), os.getpid()
        self._abandoned: list[sqlite3.Connection] = []

    def close(self) -> None:
        """Close this process's connection."""
        if self._pid == os.getpid():
            self._connection.close()

    def query(self, query: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query gives.

        Raises:
            DataError: the index cannot be read.
        """
        try:
            return self._own().execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path} cannot be read ({error})",
                expected="the index of a teacher cache, whole",
                mend="repeat the command; where it stays so, fill a cache in another folder",
            ) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction for writing: all of it is kept or, after an error or the end of the process, nothing.

        Raises:
            DataError: it cannot be written.
        """
        index = self._own()
        try:
            index.execute("BEGIN IMMEDIATE")
            try:
                yield index
                index.execute("COMMIT")
            except BaseException:
                if index.in_transaction:
                    index.execute("ROLLBACK")
                raise
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path} cannot be written ({error})",
                expected="a disk with room, and an index that is whole and may be written",
                mend="free space or mend the permissions, and repeat the command; what was done is kept",
            ) from error

    def _own(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            # A connection must not be used by two processes after a fork, nor closed by the second.
            self._abandoned.append(self._connection)
            self._connection, self._pid = _connected(self.path), os.getpid()
        return self._connection


def _connected(path: Path) -> sqlite3.Connection:
    try:
        index = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        index.execute("BEGIN IMMEDIATE")
        (application,) = index.execute("PRAGMA application_id").fetchone()
        (version,) = index.execute("PRAGMA user_version").fetchone()
        (tables,) = index.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        if (application, version, tables) == (0, 0, 0):
            for statement in _SCHEMA:
                index.execute(statement)
            index.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            index.execute(f"PRAGMA user_version = {FORMAT}")
            application, version = _APPLICATION_ID, FORMAT
        index.execute("COMMIT")
        if application == _APPLICATION_ID and 1 <= version <= FORMAT:
            _write_ahead(index)
            index.execute("PRAGMA synchronous = FULL")
            return index
    except sqlite3.OperationalError as error:
        raise DataError(
            f"{path} cannot be opened ({error})",
            expected="an index that may be written, and no process that holds it for long",
            mend="check the folder's permissions and the room on the disk, and repeat the command",
        ) from error
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"{path} ({error})", expected="the index of a teacher cache", mend="name another folder"
        ) from error
    index.close()
    newer = application == _APPLICATION_ID
    raise UsageError(
        f"{path}, {f'of format {version}' if newer else 'the database of something else'}",
        expected=f"the index of a teacher cache of format {FORMAT}",
        mend="pip install --upgrade edgeiqa, or name another folder" if newer else "name another folder",
    )


def _write_ahead(index: sqlite3.Connection) -> None:
    """Let readers go on while one process writes. The switch, made once, needs the index for itself for a moment."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            index.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
