"""Where the strips of a living cluster's workers come from: the model's histories."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.incidents import DEATHS as KINDS
from dask_memdash.model.incidents import Incident
from dask_memdash.model.processes import (
    Departed,
    ProcessKey,
    ProcessState,
    WorkerState,
)
from dask_memdash.model.series import Series
from dask_memdash.store.natural_order import natural
from dask_memdash.store.strip_shapes import Strips
from dask_memdash.store.strips import (
    DEATHS,
    Points,
    StripBook,
    Track,
    unseen_death,
    width_for,
)

#: Processes from which on a cluster is large, and how long an answer then stands at
#: most, in seconds.
LARGE = 100
STANDS = 5.0

#: Least width of its bins, in seconds: its workers are heard of no more often.
LEAST_OF_LARGE = 5.0

#: Incidents that are looked through for deaths, the newest.
LOOKED_THROUGH = 400


class LiveStrips:
    """Answers what strips a model's workers have.

    Of a large cluster an answer stands while no bin begins, at most `STANDS` seconds:
    a cell changes little within one.

    Parameters
    ----------
    model
        Of the living cluster.
    """

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._tracks = Tracks(model)
        self._book = StripBook()
        # (What was asked and when, the answer), of a large cluster.
        self._standing: tuple[object, Strips] | None = None

    def answer(self, start: float, end: float) -> Strips:
        """Return the strips of a stretch of time."""
        model = self._model
        large = len(model.processes.by_key) > LARGE
        least = LEAST_OF_LARGE if large else 0.0
        step = width_for(start, end, least)
        asked = (
            *(step, math.floor(start / step), math.floor(end / step)),
            *(len(model.processes.by_key), len(model.incidents)),
            math.floor(model.time / STANDS),
        )
        if large and self._standing is not None and self._standing[0] == asked:
            return self._standing[1]
        tracks = self._tracks.since(start - step)
        answer = self._book.answer(tracks, start, end, model.time, least)
        self._standing = (asked, answer)
        return answer


class Tracks:
    """The processes of a model as tracks, kept from one look to the next.

    Parameters
    ----------
    model
        Of the living cluster.
    """

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        # Process → what its track was made of, and the track; by name.
        self._known: dict[ProcessKey, tuple[ProcessState, int, Track]] = {}

    def since(self, since: float) -> list[Track]:
        """Return all processes that were there after an instant, by name.

        Those that died have the last moments that their nanny sampled, which reach
        further than the last heartbeat.
        """
        tracks = self._living(since)
        for gone in self._model.processes.departed.values():
            key = (gone.worker.info.host, gone.worker.info.pid)
            if gone.left >= since and key not in tracks:
                tracks[key] = _departed(gone, since)
        unseen: list[Track] = []
        for incident in deaths_of(self._model, since):
            known = tracks.get((incident.worker.host, incident.worker.pid))
            if known is None or known.key[2] > incident.time:  # another of that number
                worker = incident.worker
                known = unseen_death(
                    incident.id, incident.time, worker.address, worker.name
                )
                known.limit = incident.limit
                unseen.append(known)
            if known.left is None and not known.others:
                known.left = incident.time
            if incident.reported:
                known.last_moments = incident.timeline
            known.deaths.append(
                {"time": incident.time, "incident": incident.id, "kind": incident.kind}
            )
        return [*tracks.values(), *unseen]

    def _living(self, since: float) -> dict[ProcessKey, Track]:
        """Return the tracks of the processes that are there, with what is new."""
        processes = self._model.processes.by_key
        known = self._known
        if len(known) != len(processes) or any(
            (kept := known.get(key)) is None
            or kept[0] is not process
            or kept[1] != len(process.members)
            for key, process in processes.items()
        ):
            self._make(processes)
        tracks = {}
        for key, (process, _, track) in self._known.items():
            track.cursor = process.history.last
            if track.left is not None or track.deaths:
                track.left, track.deaths, track.last_moments = None, [], ()
            track.pauses = _bands(process.members.values(), since)
            tracks[key] = track
        return tracks

    def _make(self, processes: dict[ProcessKey, ProcessState]) -> None:
        """Make the tracks anew, in the order of names."""
        made = []
        for key, process in processes.items():
            members = list(process.members.values())
            first = min(members, key=lambda w: natural(w.info.name))
            track = Track(
                key=(*key, members[0].info.time),
                name=first.info.name,
                address=first.info.address,
                limit=process.limit,
                cursor=None,
                read=_reader(process.history),
                others=len(members) - 1,
            )
            made.append((key, (process, len(members), track)))
        made.sort(key=lambda item: natural(item[1][2].name))
        self._known = dict(made)


def _departed(gone: Departed, since: float) -> Track:
    info = gone.worker.info
    return Track(
        key=(info.host, info.pid, info.time),
        name=info.name,
        address=info.address,
        limit=info.limit,
        cursor=gone.history.last,
        read=_reader(gone.history),
        left=gone.left,
        pauses=_bands((gone.worker,), since),
    )


def deaths_of(model: ClusterModel, since: float) -> list[Incident]:
    """Return the newest deaths after an instant."""
    newest = islice(model.incidents, LOOKED_THROUGH)
    found = (i for i in newest if i.kind in KINDS and i.time >= since)
    return list(islice(found, DEATHS))


def _bands(
    workers: Iterable[WorkerState], since: float
) -> Sequence[Sequence[float | None]]:
    logs = [worker.pauses for worker in workers if worker.pauses.count]
    return [band for log in logs for band in log.bands(since)] if logs else ()


def _reader(series: Series) -> Callable[[float], Points]:
    def read(since: float) -> Points:
        before = series.before(since)
        times, (process, spilled) = series.since(
            since if before is None else before, "process", "spilled"
        )
        return times, process, spilled

    return read
