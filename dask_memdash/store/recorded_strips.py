"""Where the strips of a recorded run's workers come from: its rows of each process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from dask_memdash.runs.directory import RESOLUTION
from dask_memdash.runs.reading import RunReader
from dask_memdash.store.natural_order import natural
from dask_memdash.store.recorded_catalogue import Catalogue, KnownWorker
from dask_memdash.store.recorded_cuts import DEATHS
from dask_memdash.store.strip_shapes import Strips
from dask_memdash.store.strips import DEATHS as MOST_DEATHS
from dask_memdash.store.strips import (
    Points,
    StripBook,
    Track,
    unseen_death,
    width_for,
)

_ROWS = (
    "SELECT process, min(time), max(process_bytes), max(spilled) FROM breakdown "
    "WHERE process > 0 AND time >= ? AND time <= ? "
    "GROUP BY process, CAST(time / ? AS INTEGER)"
)
_BEFORE = (
    "SELECT process, max(time), process_bytes, spilled FROM breakdown "
    "WHERE process > 0 AND time < ? GROUP BY process"
)
_LIMITS = (
    "SELECT worker, limit_bytes FROM worker_states WHERE rowid IN "
    "(SELECT max(rowid) FROM worker_states WHERE time <= ? GROUP BY worker)"
)
_PAUSES = "SELECT worker, began, ended FROM pauses WHERE began <= ?"


def strips(reader: RunReader, catalogue: Catalogue, start: float, end: float) -> Strips:
    """Return the strips of a stretch of time."""
    step = width_for(start, end)
    start = math.floor(start / step) * step
    points = _points(reader, start, end, step)
    pauses = _pauses(reader, end)
    limits = _limits(reader, end)
    sharing: dict[tuple[int, float], list[KnownWorker]] = {}
    for worker in catalogue.workers.values():
        if worker.added <= end and not worker.gone(start):
            whole = worker.process, worker.left or 0.0
            sharing.setdefault(whole, []).append(worker)
    tracks: dict[int, Track] = {}
    for workers in sharing.values():
        first = min(workers, key=lambda w: natural(w.name))
        known = [limits[w.id] for w in workers if limits.get(w.id) is not None]
        left = first.left if first.left is not None and first.gone(end) else None
        found = points.get(first.process, {})
        track = Track(
            key=(first.id,),
            name=first.name,
            address=first.address,
            limit=min(known, default=None),
            cursor=0,
            read=_reader(found, first.added - 1.0),
            left=left,
            others=len(workers) - 1,
            pauses=[band for w in workers for band in pauses.get(w.id, ())],
        )
        tracks.update((worker.id, track) for worker in workers)
    unseen = _add_deaths(catalogue, (start, end), tracks)
    alone = {id(track): track for track in tracks.values()}
    return StripBook().answer([*alone.values(), *unseen], start, end, end)


def _add_deaths(
    catalogue: Catalogue, span: tuple[float, float], tracks: Mapping[int, Track]
) -> list[Track]:
    """Give the dead their marks, and the last moments that were sampled of them.

    Those of which nothing else was recorded are returned.
    """
    unseen = []
    died = [
        entry
        for entry in catalogue.newest("incidents", span[1])
        if entry.began >= span[0] and entry.more[0] in DEATHS
    ][:MOST_DEATHS]
    for entry, answer in catalogue.answers("incidents", died):
        said = answer["worker"]
        worker = catalogue.named(said["address"], entry.began)
        track = None if worker is None else tracks.get(worker.id)
        if track is None:
            track = unseen_death(entry.id, entry.began, said["address"], said["name"])
            track.limit = answer["limit"]
            unseen.append(track)
        if track.left is None and not track.others:
            track.left = entry.began
        timeline = answer.get("timeline") or {}
        if answer.get("evidence") != "scheduler":
            track.last_moments = list(
                zip(timeline.get("time", ()), timeline.get("process", ()), strict=True)
            )
        track.deaths.append(
            {"time": answer["time"], "incident": entry.id, "kind": answer["kind"]}
        )
    return unseen


def _points(
    reader: RunReader, start: float, end: float, step: float
) -> dict[int, dict[float, tuple[int, int]]]:
    """Return of each process its points by time, and the last one before the start.

    No finer than bins need it, where a coarser history reaches as far.
    """
    found: dict[int, dict[float, tuple[int, int]]] = {}
    for kind in _kinds(step):
        for segment in reader.files(kind, until=end):
            if segment.last is not None and segment.last < start - step:
                continue
            for process, time, size, spilled in reader.ask(
                segment, _ROWS, (start, end, step)
            ):
                found.setdefault(process, {})[time] = (size or 0, spilled or 0)
    before: dict[int, tuple[float, int, int]] = {}
    for kind in ("main", *RESOLUTION):
        for segment in reader.files(kind, until=start)[:1]:
            for process, time, size, spilled in reader.ask(segment, _BEFORE, (start,)):
                if process not in before or time > before[process][0]:
                    before[process] = (time, size or 0, spilled or 0)
    for process, (time, *sizes) in before.items():
        found.setdefault(process, {})[time] = (sizes[0], sizes[1])
    return found


def _kinds(step: float) -> Sequence[str]:
    """Return the kinds of segments to read: those finer than bins, if any is enough."""
    fitting = [kind for kind, spacing in RESOLUTION.items() if spacing <= step]
    return ("main", *(kind for kind in RESOLUTION if kind not in fitting[:-1]))


def _limits(reader: RunReader, end: float) -> dict[int, int]:
    """Return each worker's limit as it was last known, where it had one."""
    found: dict[int, int] = {}
    for segment in reader.files("main", until=end):
        for worker, limit in reader.ask(segment, _LIMITS, (end,)):
            if limit is not None:
                found.setdefault(worker, limit)
    return found


def _pauses(reader: RunReader, end: float) -> dict[int, list[Sequence[float | None]]]:
    found: dict[tuple[int, float], float | None] = {}
    for segment in reversed(reader.files("main", until=end)):
        for worker, began, ended in reader.ask(segment, _PAUSES, (end,)):
            if ended is not None or (worker, began) not in found:
                found[worker, began] = ended
    bands: dict[int, list[Sequence[float | None]]] = {}
    for (worker, began), ended in sorted(found.items()):
        until = None if ended is None or ended > end else ended
        bands.setdefault(worker, []).append((began, until))
    return bands


def _reader(
    points: Mapping[float, tuple[int, int]], since: float
) -> Callable[[float], Points]:
    def read(_: float) -> Points:
        times = sorted(time for time in points if time >= since)
        return times, [points[t][0] for t in times], [points[t][1] for t in times]

    return read
