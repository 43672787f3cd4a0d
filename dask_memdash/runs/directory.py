"""A directory of recorded runs: the manifest of each, and the names of its segments.

A run is ``<directory>/<run id>/run.json`` and segments beside it.  The manifest is
written atomically, and after the segments that it names: what it names is there.
While a scheduler writes, or if it was killed, there are live segments as well
(``live-main.sqlite``), in the directory that ``live`` of the manifest names.

Here is what writing and reading share.  Imports the standard library only, and not
``sqlite3``.
"""

from __future__ import annotations

import calendar
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any

from dask_memdash.errors import RunError

#: Name of the manifest, and what it says that it is.
MANIFEST = "run.json"
FORMAT = "dask-memdash-run"

#: Version of the manifest.
MANIFEST_VERSION = 1

#: Kinds of segments: all but the history, and the history at three resolutions.
KINDS = ("main", "s1", "s10", "s60")

#: Seconds between two rows of the history, by kind of segment.
RESOLUTION = {"s1": 1.0, "s10": 10.0, "s60": 60.0}

#: Characters that a run's name, a tag's name and its text keep, and tags that are kept.
MAX_NAME = 200
MAX_TAGS = 50

#: The last instant that a date can be told of: the end of the year 9999.
LAST_INSTANT = 253_402_300_799.0

#: Bytes of a manifest that are read at most.
MAX_MANIFEST = 16 * 2**20

_CLOSED = re.compile(r"(\d{4,})-(main|s1|s10|s60)\.sqlite")
_LIVE = re.compile(r"live-(main|s1|s10|s60)\.sqlite")
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class Segment:
    """One closed segment, as the manifest names it."""

    #: File in the run's directory.
    name: str
    kind: str
    #: Unix times that it covers: from its opening to its closing.
    first: float
    last: float
    #: Size of the file, in bytes.
    bytes: int


@dataclass(frozen=True, slots=True)
class LivePlace:
    """Where the segments lie that are being written."""

    directory: str
    host: str
    pid: int
    #: Which process that is (:mod:`dask_memdash.runs.living`): when it started, in
    #: clock ticks since the boot of that id, and the inode of its pid namespace.
    started: int | None = None
    boot: str = ""
    namespace: int | None = None


@dataclass(slots=True)
class Manifest:
    """What is known of a run without opening it."""

    id: str
    started: float
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    #: Unix time of its orderly end; None while it is written or was killed.
    ended: float | None = None
    #: Unix time when this was last written.
    updated: float = 0.0
    #: Versions of what was recorded with: dask_memdash, dask, distributed, python.
    versions: dict[str, str] = field(default_factory=dict)
    #: Of the scheduler: its id and address.
    scheduler: dict[str, str] = field(default_factory=dict)
    #: `n_workers` (the most at once), `most_memory` of the cluster and `most_worker` of
    #: one worker's process (bytes), and counts: `failures`, `deaths`, `incidents`.
    summary: dict[str, int | None] = field(default_factory=dict)
    #: Closed segments, oldest first.
    segments: list[Segment] = field(default_factory=list)
    live: LivePlace | None = None
    #: Rows that could not be written, and sentences on what was left out and why.
    lost_rows: int = 0
    left_out: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as it stands in ``run.json``."""
        return {"format": FORMAT, "version": MANIFEST_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: object, where: str) -> Manifest:
        """Rebuild it; what is not known is ignored.

        Parameters
        ----------
        values
            What ``run.json`` holds.
        where
            Name of the file, for errors.

        Raises
        ------
        RunError
            It is not a manifest, or one of a newer version.
        """
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            raise RunError(where, "it is not the manifest of a recorded run")
        version = values.get("version")
        if not isinstance(version, int) or version > MANIFEST_VERSION:
            raise RunError(
                where,
                f"it has version {version!r} and this dask_memdash reads up to "
                f"{MANIFEST_VERSION}: open it with a newer one",
            )
        known = {one.name for one in fields(cls)}
        kept = {name: value for name, value in values.items() if name in known}
        try:
            kept["segments"] = [_part(Segment, s) for s in kept.get("segments", ())]
            live = kept.get("live")
            kept["live"] = None if live is None else _part(LivePlace, live)
            manifest = cls(**kept)
            _make_well(manifest)
        except (AttributeError, TypeError, ValueError) as error:
            raise RunError(where, f"it is damaged ({error})") from None
        return manifest


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One entry of a list of runs: a manifest, or why there is none."""

    #: Directory of the run.
    path: str
    manifest: Manifest | None
    #: What is wrong with it, naming the file; None where nothing is.
    error: str | None = None


def _make_well(manifest: Manifest) -> None:
    """Make each value what it should be, so that whoever reads it need not look.

    Raises
    ------
    AttributeError, TypeError, ValueError
        Something is impossible.
    """
    manifest.id, manifest.name = manifest.id[:MAX_NAME], manifest.name[:MAX_NAME]
    manifest.tags = clean_tags(manifest.tags)
    for facts in (manifest.versions, manifest.scheduler):
        _only(str, *facts.values())
    _only((int, NoneType), *manifest.summary.values())
    _only(str, *manifest.left_out)
    _only(int, manifest.lost_rows)
    manifest.started = _instant(manifest.started)
    manifest.updated = _instant(manifest.updated)
    if manifest.ended is not None:
        manifest.ended = _instant(manifest.ended)
    for segment in manifest.segments:
        found = segment_of(segment.name)
        _only(int, segment.bytes)
        _instant(segment.first), _instant(segment.last)
        if found is None or found[1] != segment.kind:
            raise ValueError("the name of a segment is impossible")
    if (live := manifest.live) is not None:
        _only(str, live.directory, live.host, live.boot)
        _only(int, live.pid)
        _only((int, NoneType), live.started, live.namespace)


def _only(kind: Any, *values: object) -> None:
    if not all(isinstance(value, kind) for value in values):
        raise ValueError("a value is impossible")


def _instant(value: float) -> float:
    """Return an instant that has a date; ValueError for another."""
    instant = float(value)
    if not 0.0 <= instant <= LAST_INSTANT:
        raise ValueError("an instant is impossible")
    return instant


def began_of(name: str) -> float | None:
    """Return when a run began by its id, in Unix time; None if it is none."""
    if not is_run_id(name):
        return None
    try:
        return float(calendar.timegm(time.strptime(name[:15], "%Y%m%d-%H%M%S")))
    except ValueError:
        return None


def new_run_id(now: float | None = None) -> str:
    """Return the id of a run that starts now: UTC time and six random digits."""
    moment = time.gmtime(time.time() if now is None else now)
    return f"{time.strftime('%Y%m%d-%H%M%S', moment)}-{secrets.token_hex(3)}"


def is_run_id(name: str) -> bool:
    """Whether a name is the id of a run, and so safe as the name of a directory."""
    return _RUN_ID.fullmatch(name) is not None


def closed_name(number: int, kind: str) -> str:
    """Return the name of the closed segment of a number, from 1 up."""
    return f"{number:04d}-{kind}.sqlite"


def live_name(kind: str) -> str:
    """Return the name of the segment of a kind that is being written."""
    return f"live-{kind}.sqlite"


def segment_of(name: str) -> tuple[int, str] | None:
    """Return number and kind of a closed segment's name; None for another name."""
    found = _CLOSED.fullmatch(name)
    return None if found is None else (int(found[1]), found[2])


def live_kind(name: str) -> str | None:
    """Return the kind of a live segment's name; None for another name."""
    found = _LIVE.fullmatch(name)
    return None if found is None else found[1]


def clean_tags(tags: Mapping[Any, Any] | None) -> dict[str, str]:
    """Return tags as a manifest keeps them: short texts, a bounded number."""
    pairs = list((tags or {}).items())[:MAX_TAGS]
    return {str(name)[:MAX_NAME]: str(text)[:MAX_NAME] for name, text in pairs}


def write_manifest(directory: str | Path, manifest: Manifest) -> None:
    """Write a run's manifest, readable by its owner alone; whole or not at all.

    Raises
    ------
    OSError
        It cannot be written; the one that was there stays.
    """
    path = Path(directory, MANIFEST)
    draft = path.with_name(f".{MANIFEST}.{os.getpid()}")
    text = json.dumps(manifest.to_dict(), indent=1)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def parse_manifest(content: bytes | str, where: str) -> Manifest:
    """Return the manifest that a ``run.json`` holds.

    Raises
    ------
    RunError
        It is not one, or of a newer version.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunError(where, f"it is damaged ({error})") from None
    return Manifest.from_dict(values, where)


def read_manifest(directory: str | Path) -> Manifest:
    """Return the manifest of a run in a local directory.

    Raises
    ------
    RunError
        There is none, or it cannot be read.
    """
    path = Path(directory, MANIFEST)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MANIFEST + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RunError(str(path), f"it cannot be read: {why}") from None
    if len(content) > MAX_MANIFEST:
        raise RunError(str(path), "it is too large for a manifest")
    return parse_manifest(content, str(path))


def live_segments(manifest: Manifest, directory: str | Path) -> dict[str, Path]:
    """Return kind → file of the segments of a run that were never closed.

    Parameters
    ----------
    manifest
        Of the run.
    directory
        Of the run, where they lie unless the manifest names another place.
    """
    places = [Path(directory)]
    if manifest.live is not None and manifest.live.directory:
        places.append(Path(manifest.live.directory))
    found: dict[str, Path] = {}
    for place in places:
        for kind in KINDS:
            path = place / live_name(kind)
            if kind not in found and path.is_file():
                found[kind] = path
    return found


def run_directories(directory: str | Path) -> Iterator[Path]:
    """Yield the directories of runs in a local one, by name; or the one that it is.

    Raises
    ------
    RunError
        The directory cannot be listed.
    """
    root = Path(directory)
    if (root / MANIFEST).is_file():
        yield root
        return
    try:
        with os.scandir(root) as found:
            names = sorted(one.name for one in found if one.is_dir())
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RunError(str(root), f"it cannot be listed: {why}") from None
    for name in names:
        if is_run_id(name) or (root / name / MANIFEST).is_file():
            yield root / name


def runs_in(directory: str | Path) -> Iterator[RunEntry]:
    """Yield the runs of a local directory, by name; or the one that it is.

    A run whose manifest cannot be read is an entry with an error.

    Raises
    ------
    RunError
        The directory cannot be listed.
    """
    for path in run_directories(directory):
        yield entry_of(path)


def entry_of(path: Path) -> RunEntry:
    """Return the entry of a run in a local directory."""
    try:
        return RunEntry(str(path), read_manifest(path))
    except RunError as error:
        return RunEntry(str(path), None, str(error))


def _part(cls: Any, values: Mapping[str, Any]) -> Any:
    known = {one.name for one in fields(cls)}
    return cls(**{name: value for name, value in values.items() if name in known})
