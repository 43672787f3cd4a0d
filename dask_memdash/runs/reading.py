"""Reading a recorded run: its segments, closed and live, each asked read-only.

Every question is one short transaction a segment: a reader that kept one open would
make the live log grow.  Live segments are opened anew for each, so that the writer can
close them.  A segment that cannot be read is named in :attr:`RunReader.problems`, and
the others answer.

Covers files and rows; what they mean stands in :mod:`dask_memdash.store.recorded`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dask_memdash.errors import RunError
from dask_memdash.runs.directory import (
    MANIFEST,
    Manifest,
    live_kind,
    live_segments,
    read_manifest,
    runs_in,
    segment_of,
)
from dask_memdash.runs.living import STATES, state_of
from dask_memdash.runs.packing import DICTIONARY, unpack
from dask_memdash.runs.schema import APPLICATION_ID, SCHEMA_VERSION

#: Connections to closed segments that are kept open, and pages that each keeps, in KiB.
KEPT = 24
CACHE = 512

#: Longest wait for a lock of the writer's, in seconds.
PATIENCE = 2.0

#: Least time between two looks for new segments of a run that is still written, in s.
LOOK = 1.0

Row = tuple[Any, ...]


class EmptyFileError(RunError):
    """A segment that is being begun, or whose scheduler was killed just then."""


@dataclass(slots=True, eq=False)
class SegmentFile:
    """One segment of a run, as a file that can be asked."""

    path: Path
    kind: str
    #: Unix times that it covers; None while it is written or where it was never closed.
    first: float
    last: float | None
    #: 0 of a live one.
    number: int
    dictionary: bytes = DICTIONARY

    @property
    def live(self) -> bool:
        """Whether it was never closed."""
        return self.number == 0

    def connect(self) -> sqlite3.Connection:
        """Open it read-only, and look whether it is a segment of a known version.

        Raises
        ------
        RunError
            It is none, or of a newer version, or cannot be opened.
        """
        address = f"file:{quote(str(self.path.absolute()))}?mode=ro"
        try:
            return _opened(address, self.path)
        except sqlite3.OperationalError as error:
            if not self.path.is_file():
                raise RunError(str(self.path), "the file is missing") from None
            log = self.path.with_name(self.path.name + "-wal")
            if not (log.is_file() and log.stat().st_size):
                try:  # a medium that nobody can write to: nobody changes it either
                    return _opened(f"{address}&immutable=1", self.path)
                except sqlite3.Error as again:
                    raise RunError(str(self.path), f"it is damaged ({again})") from None
            raise RunError(
                str(self.path),
                f"it cannot be read ({error}): to read the log beside it, SQLite must "
                "be able to write in its directory. Copy the whole run to where you "
                "can write, and open that",
            ) from None
        except sqlite3.Error as error:
            raise RunError(str(self.path), f"it is damaged ({error})") from None

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when something is written to it."""
        sizes = []
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                found = path.stat()
                sizes += [found.st_size, found.st_mtime_ns]
            except OSError:
                sizes += [0, 0]
        return tuple(sizes)


class RunReader:
    """A recorded run.

    Parameters
    ----------
    directory
        Of the run: where its ``run.json`` and its segments lie.

    Raises
    ------
    RunError
        There is no run, or none of its segments can be read.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        #: File → why it cannot be read.
        self.problems: dict[str, str] = {}
        self._open: OrderedDict[Path, sqlite3.Connection] = OrderedDict()
        # Who forgets to close a run gets no warning of files that are open.
        weakref.finalize(self, _close_all, self._open)
        self._segments: dict[Path, SegmentFile] = {}
        self._looked = float("-inf")
        #: Grows when something was found to be new.
        self.version = 0
        self._stamp: Any = None
        self.manifest = self._read_manifest()
        self.refresh(force=True)
        if not self._segments:
            why = "; ".join(f"{path}: {why}" for path, why in self.problems.items())
            raise RunError(str(self.directory), why or "it has no segments")

    def close(self) -> None:
        """Let go of its files."""
        _close_all(self._open)

    def state(self) -> tuple[str, str]:
        """Return how the run stands, in words, and a sentence where more is known."""
        state, note = state_of(self.manifest, time.time())
        return STATES[state], note

    # -- files -----------------------------------------------------------------

    def refresh(self, force: bool = False) -> int:
        """Look for what is new, at most once a second; give the version."""
        now = time.monotonic()
        ended = self.manifest.ended is not None
        if not force and (ended or now < self._looked + LOOK):
            return self.version
        self._looked = now
        if not force:
            self.manifest = self._read_manifest()
        self._find()
        stamp = [(str(s.path), s.stamp() if s.live else ()) for s in self.files()]
        if stamp != self._stamp:
            self._stamp = stamp
            self.version += 1
        return self.version

    def files(self, *kinds: str, until: float | None = None) -> list[SegmentFile]:
        """Return the segments of some kinds, newest first.

        Parameters
        ----------
        until
            Only those that began by then, in Unix time.
        """
        found = [
            segment
            for segment in self._segments.values()
            if (not kinds or segment.kind in kinds)
            and (until is None or segment.first <= until)
        ]
        return sorted(found, key=lambda s: (s.live, s.number, s.first), reverse=True)

    def _read_manifest(self) -> Manifest:
        try:
            return read_manifest(self.directory)
        except RunError as error:
            if (self.directory / MANIFEST).exists():
                self.problems[error.path] = error.why
        names = [path.name for path in _listed(self.directory)]
        if not any(segment_of(n) or n.startswith("live-") for n in names):
            raise RunError(
                str(self.directory),
                self.problems.get(
                    str(self.directory / MANIFEST),
                    f"there is no recorded run here (no {MANIFEST}, no segments)",
                ),
            )
        return Manifest(id=self.directory.name, started=0.0)

    def _find(self) -> None:
        """Take in what lies there now; what cannot be opened becomes a problem."""
        named = {s.name: s for s in self.manifest.segments}
        there: dict[Path, tuple[str, int]] = {}
        for path in _listed(self.directory):
            found = segment_of(path.name)
            if found is not None:
                there[path] = (found[1], found[0])
        for name in named.keys() - {path.name for path in there}:
            # Age removes detail on purpose; the manifest then names it no more.
            self.problems[str(self.directory / name)] = "the file is missing"
        for kind, path in live_segments(self.manifest, self.directory).items():
            there[path] = (kind, 0)
        for path in self._segments.keys() - there.keys():
            del self._segments[path]
            self._forget(path)
        for path, (kind, number) in there.items():
            if path in self._segments or str(path) in self.problems:
                continue
            segment = SegmentFile(path, kind, 0.0, None, number)
            known = named.get(path.name)
            if known is not None and known.first is not None:
                segment.first, segment.last = known.first, known.last
                self._segments[path] = segment
                continue
            facts: list[Any] = self.ask(segment, "SELECT key, value FROM meta")
            meta = dict(facts)
            if str(path) not in self.problems and (meta or number):
                segment.first = _number(meta.get("opened")) or 0.0
                segment.last = _number(meta.get("closed"))
                self._segments[path] = segment

    # -- rows ------------------------------------------------------------------

    def ask(
        self, segment: SegmentFile, query: str, values: Sequence[Any] = ()
    ) -> list[Row]:
        """Return the rows of one question to one segment; none where it is damaged."""
        if str(segment.path) in self.problems:
            return []
        try:
            if segment.live:
                connection = segment.connect()
                try:
                    return connection.execute(query, values).fetchall()
                finally:
                    connection.close()
            return self._connection(segment).execute(query, values).fetchall()
        except RunError as error:
            if segment.live and not segment.path.is_file():
                self._looked = float("-inf")  # it was closed just now: look again
            elif not (segment.live and isinstance(error, EmptyFileError)):
                self.problems[error.path] = error.why
        except sqlite3.Error as error:
            if "locked" not in str(error) and "busy" not in str(error):
                self.problems[str(segment.path)] = f"it is damaged ({error})"
                self._forget(segment.path)
        return []

    def ask_all(
        self, segments: Iterable[SegmentFile], query: str, values: Sequence[Any] = ()
    ) -> list[Row]:
        """Return the rows of one question to several segments, one after another."""
        return [row for segment in segments for row in self.ask(segment, query, values)]

    def answer(self, segment: SegmentFile, stored: bytes | str) -> Any:
        """Return an answer as it was recorded; None where it is damaged."""
        try:
            return unpack(stored, self._dictionary(segment, stored))
        except (ValueError, RecursionError) as error:
            self.problems[str(segment.path)] = f"it is damaged ({error})"
            return None

    def _dictionary(self, segment: SegmentFile, stored: bytes | str) -> bytes:
        if segment.dictionary is DICTIONARY and isinstance(stored, bytes):
            told = self.ask(segment, "SELECT value FROM meta WHERE key = 'dictionary'")
            if told:
                segment.dictionary = bytes.fromhex(told[0][0])
        return segment.dictionary

    def _connection(self, segment: SegmentFile) -> sqlite3.Connection:
        known = self._open.pop(segment.path, None)
        if known is None:
            known = segment.connect()
        self._open[segment.path] = known
        while len(self._open) > KEPT:
            self._open.popitem(last=False)[1].close()
        return known

    def _forget(self, path: Path) -> None:
        connection = self._open.pop(path, None)
        if connection is not None:
            connection.close()


def _close_all(connections: OrderedDict[Path, sqlite3.Connection]) -> None:
    while connections:
        connection = connections.popitem()[1]
        with contextlib.suppress(sqlite3.Error):  # it is another thread's
            connection.close()


def find_run(path: str | Path, run: str | None = None) -> Path:
    """Return the directory of a run.

    Parameters
    ----------
    path
        That directory itself, or one that holds runs.
    run
        Its id or its name, where there are several: of several with one name, the
        newest.

    Raises
    ------
    RunError
        There is none, or there are several and none is named.
    """
    root = Path(path)
    if not root.is_dir():
        raise RunError(str(root), "there is no such directory")
    itself = (root / MANIFEST).exists() or any(
        segment_of(p.name) or live_kind(p.name) for p in _listed(root)
    )
    if itself and run is None:
        return root
    found = [entry for entry in runs_in(root) if entry.manifest or run is not None]
    if run is not None:
        found = [
            entry
            for entry in found
            if Path(entry.path).name == run
            or (
                entry.manifest is not None
                and run in (entry.manifest.id, entry.manifest.name)
            )
        ]
    if not found:
        what = (
            f"there is no run {run!r} here" if run else "there is no recorded run here"
        )
        raise RunError(str(root), what)
    newest = max(found, key=lambda entry: Path(entry.path).name)
    if run is None and len(found) > 1:
        raise RunError(
            str(root),
            f"it holds {len(found):,} runs: name one of them; the newest is "
            f"{Path(newest.path).name}",
        )
    return Path(newest.path)


def _opened(address: str, path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, timeout=PATIENCE, isolation_level=None
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE}")
        connection.execute("PRAGMA query_only = 1")
        (identity,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (schema,) = connection.execute("PRAGMA schema_version").fetchone()
        if identity == schema == 0:
            raise EmptyFileError(str(path), "it is no segment of a run: it is empty")
        if identity != APPLICATION_ID:
            raise RunError(str(path), "it is no segment of a recorded run")
        if version > SCHEMA_VERSION:
            raise RunError(
                str(path),
                f"it has version {version} and this dask_memdash reads up to "
                f"{SCHEMA_VERSION}: open it with a newer one",
            )
        connection.execute("SELECT count(*) FROM meta").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RunError(str(directory), f"it cannot be listed: {why}") from None


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
