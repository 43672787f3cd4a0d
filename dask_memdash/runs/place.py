"""Where a run is written: beside its manifest, or in a spool on a local disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dask_memdash.runs.local_disk import is_network
from dask_memdash.runs.upload import SPOOLS, Spool, Uploader, send_what_was_left


def prepare(to: str, run: str, scratch: str) -> tuple[Path, Uploader | None]:
    """Make the directory that a run's segments are written in.

    Parameters
    ----------
    to
        The directory or URL of all runs.
    run
        The run's id.
    scratch
        Directory for what is written on a local disk and sent from there.

    Returns
    -------
    tuple of Path and Uploader or None
        The directory, and what sends closed segments from it.

    Raises
    ------
    OSError
    """
    places = (Path(scratch), Path(tempfile.gettempdir()))
    local = next((p for p in places if not is_network(p)), places[-1])
    remote = "://" in to
    if not remote and not is_network(to):
        home = Path(to).absolute() / run
        home.mkdir(0o700, parents=True, exist_ok=True)
        return home, None
    send_what_was_left(local)
    goal = f"{to.rstrip('/')}/{run}" if remote else str(Path(to).absolute() / run)
    spool = Spool(local / SPOOLS / run, goal)
    return spool.path, Uploader(spool)
