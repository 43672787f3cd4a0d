"""What a run has over time: breakdowns of all resolutions, tasks, prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from dask_memdash.model.pauses import KEPT_OF_CLUSTER, KEPT_OF_WORKER
from dask_memdash.model.series import Series
from dask_memdash.runs.directory import RESOLUTION
from dask_memdash.runs.reading import RunReader
from dask_memdash.runs.schema import CLUSTER
from dask_memdash.runs.tables import FIGURES
from dask_memdash.store.cluster_shapes import History
from dask_memdash.store.prefix_shapes import PrefixMinute
from dask_memdash.store.recorded_catalogue import KnownWorker
from dask_memdash.store.worker_shapes import PastTask

#: Names of the columns, as the store has them.
COLUMNS = ("process", *FIGURES[1:])

#: Seconds that a minute is with what was last read before it.
MINUTE = 66.0

#: Tasks that a worker was seen to run: the newest that are given, as of a live one; and
#: segments back from the instant in which they are looked for.
TASKS = 60
BACK = 3

#: Times the spacing of a resolution, from which on two rows have nothing between them
#: because nothing changed.
STOOD_STILL = 2.5

_ROWS = (
    f"SELECT time, {', '.join(FIGURES)} FROM breakdown "
    "WHERE process = ? AND time > ? AND time <= ? ORDER BY time"
)


def history(
    reader: RunReader,
    until: float,
    worker: KnownWorker | None,
    since: float | None,
    points: int,
) -> History:
    """Return the breakdown over time up to an instant."""
    process = CLUSTER if worker is None else worker.process
    start = since if since is not None else float("-inf")
    if worker is not None:  # a process's id may have been another worker's before
        start = max(start, worker.added - 1.0)
    stop = until if worker is None or worker.left is None else min(until, worker.left)
    rows: dict[float, tuple[float, Sequence[Any]]] = {}
    for segment in reader.files(until=stop):
        if segment.last is not None and segment.last < start:
            continue
        spacing = RESOLUTION.get(segment.kind, 1.0)
        for time, *row in reader.ask(segment, _ROWS, (process, start, stop)):
            known = rows.get(time)
            if known is None or known[0] > spacing:
                rows[time] = (spacing, row)
    series = Series(COLUMNS, max(4, 2 * len(rows) + 4), 0.0)
    before: float | None = None
    figures: Sequence[Any] = ()
    for time in sorted(rows):
        spacing, now = rows[time]
        if before is not None and time - before > STOOD_STILL * spacing:
            series.append(time - spacing, figures)  # it had not changed until then
        figures = [value or 0 for value in now]
        series.append(time, figures)
        before = time
    bands, count = pauses(reader, until, worker, since)
    beside = {"pauses": bands, "n_pauses": count}
    return cast(History, {**series.columns(since, points), **beside})


def pauses(
    reader: RunReader, until: float, worker: KnownWorker | None, since: float | None
) -> tuple[list[list[float | None]], int]:
    """Return beginning and end of each pause up to an instant, and their number."""
    where, values = "began <= ?", [until]
    if worker is not None:
        where, values = f"{where} AND worker = ?", [until, worker.id]
    found: dict[tuple[int, float], float | None] = {}
    for segment in reversed(reader.files("main", until=until)):
        for number, began, ended in reader.ask(
            segment, f"SELECT worker, began, ended FROM pauses WHERE {where}", values
        ):
            if ended is not None or (number, began) not in found:
                found[number, began] = ended
    bands = [
        [began, None if ended is None or ended > until else ended]
        for (_, began), ended in sorted(found.items(), key=lambda item: item[0][1])
    ]
    keep = KEPT_OF_CLUSTER if worker is None else KEPT_OF_WORKER
    shown = [
        band
        for band in bands[-keep:]
        if since is None or band[1] is None or band[1] > since
    ]
    return shown, len(found)


def prefix_minute(reader: RunReader, name: str, until: float) -> PrefixMinute:
    """Return what a prefix had in the minute up to an instant, where it changed.

    The first is what stood as the minute began, if the record goes back so far.
    """
    began = until - MINUTE
    rows = reader.ask_all(
        reader.files("main", until=until)[:2],
        "SELECT time, managed, executing FROM prefix_states "
        "WHERE prefix = ? AND time <= ? AND time >= coalesce((SELECT max(time) "
        "FROM prefix_states WHERE prefix = ? AND time <= ?), ?)",
        (name, until, name, began, began),
    )
    told = sorted((time, (m or 0) + (e or 0)) for time, m, e in rows)
    return {"time": [t for t, _ in told], "bytes": [size for _, size in told]}


def task_history(
    reader: RunReader, worker: KnownWorker, until: float, reported: float
) -> list[PastTask]:
    """Return the tasks that a worker was seen to run up to an instant, oldest first.

    Parameters
    ----------
    reported
        When it was last heard of by then.
    """
    tasks: dict[tuple[str, float], PastTask] = {}
    for segment in reader.files("main", until=until)[:BACK]:
        for began, seen, key, prefix, thread, running, peak, method in reader.ask(
            segment,
            "SELECT began, seen, key, prefix, thread, running, peak, method "
            "FROM tasks WHERE worker = ? AND began <= ? ORDER BY began DESC LIMIT ?",
            (worker.id, until, TASKS),
        ):
            later = seen > until  # what it came to hold is not known of this instant
            tasks.setdefault(
                (key, began),
                {
                    "key": key,
                    "prefix": prefix,
                    "thread": thread,
                    "start": began,
                    "seen": until if later else seen,
                    # No later report of its worker is without it.
                    "running": later or (bool(running) and seen >= reported),
                    "peak": None if later else peak,
                    "method": method,
                },
            )
    return sorted(tasks.values(), key=lambda t: (t["start"], t["seen"]))[-TASKS:]
