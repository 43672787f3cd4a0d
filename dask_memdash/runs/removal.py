"""Removing recorded runs: what may go, and that nothing else does.

A run goes only if nobody writes it any more, as far as can be told, and of its
directory only the files that a run is made of.  Covers local directories.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dask_memdash.errors import RunError
from dask_memdash.runs.directory import (
    MANIFEST,
    Manifest,
    entry_of,
    is_run_id,
    live_kind,
    run_directories,
)
from dask_memdash.runs.listing import RunRow, files_in, row_of
from dask_memdash.runs.living import DAMAGED, SILENCE, UNKNOWN, WRITTEN
from dask_memdash.runs.upload import GOAL, LOCK, SPOOLS, Spool
from dask_memdash.text import format_duration

#: Names of the files that a run is made of, whole ones and drafts.
_OURS = re.compile(
    r"\.?(\d{4,}|live)-(main|s1|s10|s60)\.sqlite(-wal|-shm|-journal|\.part)?"
    rf"|{re.escape(MANIFEST)}(\.part)?|\.{re.escape(MANIFEST)}\.\d+"
    rf"|{re.escape(GOAL)}|{LOCK}"
)


@dataclass(frozen=True, slots=True)
class Removal:
    """What would go, and what would stay although it was asked for."""

    rows: list[RunRow]
    #: Id → why it stays.
    kept: dict[str, str]


def plan(
    directory: str | Path,
    runs: Sequence[str] = (),
    older_than: float | None = None,
    now: float | None = None,
) -> Removal:
    """Say which runs may go.

    Parameters
    ----------
    directory
        Of the runs.
    runs
        Ids of those that are meant; empty for all.
    older_than
        Seconds since a run was last written; None for any.
    now
        Unix time.

    Raises
    ------
    RunError
        The directory cannot be listed, or a run that is named is not there.
    """
    if "://" in str(directory):
        raise RunError(
            str(directory),
            "runs behind a URL are removed with the tools of that store, such as "
            "aws s3 rm --recursive; each run is a directory of its own there",
        )
    moment = time.time() if now is None else now
    paths = {_name(path): path for path in run_directories(directory)}
    if missing := [name for name in runs if name not in paths]:
        raise RunError(str(directory), f"there is no run {missing[0]!r} here")
    found = Removal([], {})
    for name in dict.fromkeys(runs or paths):
        row, age = _looked_at(paths[name], moment)
        if older_than is not None and age < older_than:
            if runs:
                last = format_duration(max(age, 0.0))
                found.kept[name] = f"it was last written {last} ago"
            continue
        why = _why_not(paths[name], row, age)
        if why is None:
            found.rows.append(row)
        else:
            found.kept[name] = why
    return found


def remove(row: RunRow) -> str | None:
    """Remove a run; say what stays and why, or None if all is gone.

    Raises
    ------
    OSError
        A file cannot be removed.
    """
    path = Path(row.path)
    now, age = _looked_at(path, time.time())
    if (why := _why_not(path, now, age)) is not None:
        return why
    manifest = entry_of(path).manifest
    if manifest is not None and (why := _remove_spool(path, manifest)) is not None:
        return why
    ours = [one for one in path.iterdir() if _is_ours(one)]
    # The manifest last: what a removal that is cut short leaves is still a run.
    for one in sorted(ours, key=lambda file: file.name == MANIFEST):
        one.unlink(missing_ok=True)
    others = sorted(one.name for one in path.iterdir())
    if others:
        return f"{path} stays, since {others[0]!r} in it is not of the run"
    path.rmdir()
    return None


def _looked_at(path: Path, now: float) -> tuple[RunRow, float]:
    """Return a run's row, and how long ago something of it was written."""
    entry = entry_of(path)
    last = files_in(path)[1]
    if entry.manifest is not None:
        last = max(last, entry.manifest.updated, entry.manifest.ended or 0.0)
    return row_of(entry, now), now - last


def _why_not(path: Path, row: RunRow, age: float) -> str | None:
    """Return why a run may not go; None if it may."""
    if path.is_symlink():
        return "it is a link: remove what it leads to"
    if row.state == WRITTEN:
        return "it is still written"
    if row.state == UNKNOWN:
        return f"it may still be written: {row.note}"
    if row.state == DAMAGED:
        files = [one.name for one in path.iterdir()]
        if not is_run_id(path.name) or not any(map(_OURS.fullmatch, files)):
            return "it is not known to be a run; look at it, and remove it yourself"
        if any(map(live_kind, files)) and age < SILENCE:
            return (
                "its manifest is damaged, so it may still be written; it can be "
                "removed once nothing was written to it for a day"
            )
    return None


def _remove_spool(path: Path, manifest: Manifest) -> str | None:
    """Remove what a killed scheduler could not send, or it would come back."""
    live = manifest.live
    if live is None:
        return None
    spool = Path(live.directory)
    mine = spool.parent.name == SPOOLS and spool.name == path.name == manifest.id
    if not mine or spool.absolute() == path.absolute() or not (spool / GOAL).is_file():
        return None
    try:
        owned = Spool(spool)
    except BlockingIOError:
        return f"what is left of it in {spool} is being sent"
    except (OSError, ValueError, LookupError):
        return None
    owned.close(remove=True)
    return None


def _is_ours(path: Path) -> bool:
    return _OURS.fullmatch(path.name) is not None and (
        path.is_symlink() or not path.is_dir()
    )


def _name(path: Path) -> str:
    return path.name or path.absolute().name
