"""A list of recorded runs: what their manifests tell, searched and sorted.

Reads ``run.json`` of each run and the sizes of its files, and opens none of them.  A
run that is damaged is a row that says so.  Covers runs in local directories; those
behind a URL are :mod:`dask_memdash.runs.remote`'s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dask_memdash.runs.directory import (
    MANIFEST,
    Manifest,
    RunEntry,
    began_of,
    entry_of,
    run_directories,
)
from dask_memdash.runs.living import DAMAGED, STATES, WRITTEN, state_of
from dask_memdash.text import plain

#: Characters of a sentence on what is wrong with a run.
MOST_SAID = 500


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a list; what is not known is None."""

    id: str
    #: Directory of the run, or its URL.
    path: str
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    #: Unix time, and length in seconds: until its end, or until it was last written.
    began: float | None = None
    seconds: float | None = None
    #: The most workers at once.
    workers: int | None = None
    failures: int | None = None
    deaths: int | None = None
    #: The most that one worker's process took, and all of them together, in bytes.
    most_worker: int | None = None
    most_memory: int | None = None
    #: Of its files, in bytes.
    size: int | None = None
    #: One of :data:`dask_memdash.runs.living.STATES`, and what is known beside it.
    state: str = DAMAGED
    note: str = ""


#: Column → whether its largest comes first unless told otherwise, and what sorts.
SORTS: dict[str, tuple[bool, Callable[[RunRow], Any]]] = {
    "began": (True, lambda row: row.began),
    "name": (False, lambda row: row.name.casefold() or None),
    "length": (True, lambda row: row.seconds),
    "workers": (True, lambda row: row.workers),
    "failures": (True, lambda row: row.failures),
    "deaths": (True, lambda row: row.deaths),
    "memory": (True, lambda row: row.most_worker),
    "size": (True, lambda row: row.size),
    "state": (False, lambda row: list(STATES).index(row.state)),
}


class LocalRuns:
    """The runs of a local directory, or the one that it is.

    What has not changed since it was last looked at is not read again.

    Parameters
    ----------
    directory
        Need not exist yet.
    """

    def __init__(self, directory: str | Path) -> None:
        self.place = str(directory)
        self._known: dict[Path, tuple[tuple[int, ...], RunEntry]] = {}

    def rows(self, now: float | None = None) -> list[RunRow]:
        """Return its runs, in no order.

        Raises
        ------
        RunError
            The directory cannot be listed.
        """
        moment = time.time() if now is None else now
        known, self._known = self._known, {}
        rows = []
        for path in run_directories(self.place):
            stamp = _stamp(path / MANIFEST)
            before = known.get(path)
            entry = before[1] if before and before[0] == stamp else entry_of(path)
            self._known[path] = (stamp, entry)
            rows.append(row_of(entry, moment))
        return rows

    def fetch(self, run: str) -> Path | None:
        """Return the directory of a run by its id; None where there is none."""
        root = Path(self.place)
        return next((p for p in run_directories(root) if _id_of(p) == run), None)


def row_of(entry: RunEntry, now: float) -> RunRow:
    """Return the row of a run in a local directory.

    Parameters
    ----------
    now
        Unix time.
    """
    path = Path(entry.path)
    manifest = entry.manifest
    size, heard = files_in(path)
    if manifest is None:
        note = plain(entry.error or "", MOST_SAID)
        began = began_of(_id_of(path))
        return RunRow(_id_of(path), str(path), began=began, size=size, note=note)
    live = manifest.live
    if live is not None and Path(live.directory).absolute() != path.absolute():
        more, later = files_in(Path(live.directory))
        size, heard = size + more, max(heard, later)
    return replace(told_by(manifest, str(path), now, heard), id=_id_of(path), size=size)


def told_by(manifest: Manifest, path: str, now: float, heard: float = 0.0) -> RunRow:
    """Return what a manifest alone tells of a run.

    Parameters
    ----------
    heard
        When something of it was last written, in Unix time.
    """
    state, note = state_of(manifest, now, heard)
    last = manifest.ended
    if last is None:
        last = now if state == WRITTEN else manifest.updated
    if manifest.left_out and not note:
        note = plain(manifest.left_out[-1], MOST_SAID)
    summary = manifest.summary
    return RunRow(
        manifest.id,
        path,
        plain(manifest.name),
        {plain(name): plain(text) for name, text in manifest.tags.items()},
        manifest.started,
        max(0.0, last - manifest.started) if last else None,
        summary.get("n_workers"),
        summary.get("failures"),
        summary.get("deaths"),
        summary.get("most_worker"),
        summary.get("most_memory"),
        sum(segment.bytes for segment in manifest.segments),
        state,
        note,
    )


def select(
    rows: Iterable[RunRow],
    *,
    search: str = "",
    name: str = "",
    tags: Sequence[str] = (),
    sort: str = "began",
    reverse: bool = False,
) -> list[RunRow]:
    """Return the runs that are asked for, sorted; what is not known comes last.

    Parameters
    ----------
    search
        Words that each have to be in id, name, a tag or the state.
    name
        What has to be in the name.
    tags
        ``name`` or ``name=text``, all of which a run must have.
    sort
        One of `SORTS`.
    """
    words = search.casefold().split()
    found = [
        row
        for row in rows
        if name.casefold() in row.name.casefold()
        and all(_has(row, tag) for tag in tags)
        and (not words or _says(row, words))
    ]
    largest_first, key = SORTS[sort]
    known = [row for row in found if key(row) is not None]
    # Of equals the newest first.
    known.sort(key=lambda row: row.began or 0.0, reverse=True)
    known.sort(key=key, reverse=largest_first is not reverse)
    return known + [row for row in found if key(row) is None]


def _has(row: RunRow, tag: str) -> bool:
    name, equals, text = tag.partition("=")
    return row.tags.get(name) == text if equals else name in row.tags


def _says(row: RunRow, words: Iterable[str]) -> bool:
    tags = [f"{name}: {text} {name}={text}" for name, text in row.tags.items()]
    text = "\n".join([row.id, row.name, STATES[row.state], *tags]).casefold()
    return all(word in text for word in words)


def _id_of(path: Path) -> str:
    """Return what a run is called in addresses: the name of its directory."""
    return path.name or path.absolute().name


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def files_in(directory: Path) -> tuple[int, float]:
    """Return the size of a directory's files in bytes, and the last change of one."""
    size, last = 0, 0.0
    try:
        with os.scandir(directory) as found:
            for one in found:
                if one.is_file(follow_symlinks=False):
                    stat = one.stat(follow_symlinks=False)
                    size += stat.st_size
                    last = max(last, stat.st_mtime)
    except OSError:
        pass
    return size, last
