"""Whether a run is still written: by its manifest and the process that it names.

A pid alone names no process: it is given away again, and means another process in
another container.  So the manifest has, beside it, when that process started, and on
which boot of which machine, in which pid namespace.  Where these say nothing (a run
of another machine), only time does: a manifest is written each 20 s.
"""

from __future__ import annotations

import os
from pathlib import Path

from dask_memdash.runs.directory import LivePlace, Manifest
from dask_memdash.system.proc import pid_namespace, start_ticks
from dask_memdash.text import format_duration

#: States of a run, and how they are told.
ENDED, WRITTEN, CUT_SHORT, UNKNOWN, DAMAGED = (
    *("ended", "written", "cut-short", "unknown"),
    "damaged",
)
STATES = {
    ENDED: "ended",
    WRITTEN: "still written",
    CUT_SHORT: "did not end in order",
    UNKNOWN: "not known",
    DAMAGED: "damaged",
}

#: Seconds without a word after which a run of another machine is over.
SILENCE = 24 * 3600.0


def this_place(directory: str | Path, root: str = "/proc") -> LivePlace:
    """Return where this process writes a run."""
    pid = os.getpid()
    return LivePlace(
        str(directory),
        os.uname().nodename,
        pid,
        started=start_ticks(pid, root),
        boot=_boot(root),
        namespace=pid_namespace(),
    )


def lives(place: LivePlace, root: str = "/proc") -> bool | None:
    """Whether the process that writes somewhere lives; None if it cannot be told.

    Parameters
    ----------
    root
        Stands in for ``/proc`` in tests.
    """
    if place.host != os.uname().nodename:
        return None
    if place.boot != _boot(root) or place.namespace != pid_namespace():
        # The machine was started again since, or is another one of that name.
        return None
    state, started = _process(place.pid, root)
    if state is None or state in "ZX":
        return False
    return None if place.started is None else started == place.started


def state_of(manifest: Manifest, now: float, heard: float = 0.0) -> tuple[str, str]:
    """Return the state of a run, one of `STATES`, and a sentence where more is known.

    Parameters
    ----------
    manifest
        Of the run.
    now
        Unix time.
    heard
        When something of the run was last written, by its files, in Unix time.
    """
    if manifest.ended is not None:
        return ENDED, ""
    place = manifest.live
    if place is None:
        return (
            CUT_SHORT,
            "the process that wrote it is gone; what it left was closed later",
        )
    alive = lives(place)
    if alive is not None:
        return (
            (WRITTEN, "") if alive else (CUT_SHORT, "the process that wrote it is gone")
        )
    silent = now - max(manifest.updated, heard)
    where = f"from here process {place.pid} of {place.host} cannot be seen"
    if silent >= SILENCE:
        last = format_duration(silent)
        return CUT_SHORT, f"nothing of it was written for {last}"
    if silent < 0:
        return UNKNOWN, f"{where}, and its clock is ahead of this one's"
    return UNKNOWN, f"{where}; it was last written {format_duration(silent)} ago"


def _boot(root: str) -> str:
    try:
        path = Path(root, "sys/kernel/random/boot_id")
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _process(pid: int, root: str) -> tuple[str | None, int | None]:
    """Return state and start of a process; None where there is none."""
    try:
        stat = Path(f"{root}/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        words = stat.rpartition(")")[2].split()
        return words[0], int(words[19])
    except (OSError, ValueError, IndexError):
        return None, None
