"""One segment while it is written: made, appended to, closed.

The one connection that writes or checkpoints a file; SQLite up to 3.51.2 can damage a
file where two do.  Belongs to one thread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dask_memdash.runs import schema
from dask_memdash.runs.packing import DICTIONARY
from dask_memdash.runs.tables import BY_NAME

#: Size to which SQLite cuts a log that an open reader has made grow, in bytes.
LOG_LIMIT = 16 * 2**20

#: Since when SQLite has VACUUM INTO.
VACUUM_INTO = (3, 27, 0)

#: Milliseconds to wait for a reader who is in our way.
BUSY = 200


class LiveSegment:
    """A segment that is written, at ``live-<kind>.sqlite``.

    Parameters
    ----------
    path
        Its file, which must not exist.
    kind
        Its kind.
    run
        Id of its run.
    now
        Unix time.

    Raises
    ------
    OSError, sqlite3.Error
    """

    def __init__(self, path: Path, kind: str, run: str, now: float) -> None:
        self.path = path
        self.kind = kind
        self.opened = now
        self.rows = 0
        # SQLite gives its log the mode of the file itself.
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        self._inode = os.fstat(handle).st_ino
        os.close(handle)
        try:
            self._db = _connect(path)
            # Twenty empty tables take a page each.
            self._db.execute(f"PRAGMA page_size = {4096 if kind == 'main' else 1024}")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("BEGIN")
            for statement in schema.statements():
                self._db.execute(statement)
            facts = {
                "schema_version": str(schema.SCHEMA_VERSION),
                "run": run,
                "kind": kind,
                "opened": repr(now),
                "dictionary": DICTIONARY.hex(),
            }
            self._db.executemany(BY_NAME["meta"].insert, facts.items())
            self._db.execute("COMMIT")
        except BaseException:
            self.abandon()
            remove(path)
            raise

    def write(self, rows: Mapping[str, Iterable[Sequence[Any]]]) -> None:
        """Write rows, by table, in one transaction: all or none.

        Raises
        ------
        sqlite3.Error
        """
        written = 0
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for table, some in rows.items():
                written += self._db.executemany(BY_NAME[table].insert, some).rowcount
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self.rows += written

    @property
    def size(self) -> int:
        """What is in it, in bytes, the log apart."""
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        return int(pages) * int(self._db.execute("PRAGMA page_size").fetchone()[0])

    @property
    def log_size(self) -> int:
        """Size of its log, in bytes."""
        try:
            return Path(f"{self.path}-wal").stat().st_size
        except OSError:
            return 0

    @property
    def there(self) -> bool:
        """Whether its name still leads to what is written."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def close(self, target: Path, now: float) -> int:
        """Make it a closed segment of another name; return its size in bytes.

        Where a reader holds it open, what is in it is copied by SQLite itself, and
        the reader keeps what it has.

        Raises
        ------
        OSError, sqlite3.Error
            It is still live.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for statement in schema.INDEXES:
                self._db.execute(statement.replace("INDEX", "INDEX IF NOT EXISTS", 1))
            self._db.execute(BY_NAME["meta"].insert, ("closed", repr(now)))
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        if self._becomes_one_file():
            self._db.close()
            self.path.rename(target)
        else:
            draft = target.with_name(f".{target.name}")
            remove(draft)
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            try:
                self._copy_to(draft)
                draft.rename(target)
            except BaseException:
                remove(draft)
                raise
            self.abandon()
            remove(self.path)
        return target.stat().st_size

    def _copy_to(self, path: Path) -> None:
        """Copy what is in it into an empty file, whoever reads it meanwhile."""
        if sqlite3.sqlite_version_info >= VACUUM_INTO:
            self._db.execute("VACUUM INTO ?", (str(path),))
            return
        with contextlib.closing(_connect(path)) as copy:
            self._db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")

    def abandon(self) -> None:
        """Let it go as it is: it stays whole, with its log."""
        with contextlib.suppress(AttributeError, sqlite3.Error):
            self._db.close()

    def _becomes_one_file(self) -> bool:
        """Put the log into the file; False where a reader is in the way."""
        try:
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if busy:
                return False
            mode = self._db.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return False
            raise
        return bool(mode == "delete")


class LeftSegment(LiveSegment):
    """A live segment that a killed scheduler has left, to be closed.

    Only where nobody else can be writing it.

    Raises
    ------
    LookupError
        Nothing was written to it.
    OSError, sqlite3.Error
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.kind = kind
        self._inode = path.stat().st_ino
        self._db = _connect(path)
        if not self._db.execute("PRAGMA schema_version").fetchone()[0]:
            self.abandon()
            raise LookupError(f"{path} is empty")
        facts = dict(self._db.execute("SELECT key, value FROM meta"))
        self.opened = float(facts["opened"])


def remove(path: Path) -> None:
    """Remove a file of SQLite and what lies beside it, if it is there."""
    for end in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            Path(f"{path}{end}").unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        path, timeout=BUSY / 1000, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
    db.execute("PRAGMA cache_size = -2000")
    return db
