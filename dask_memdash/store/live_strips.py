"""Where the strips of a living cluster's workers come from: the model's histories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.incidents import DEATHS as KINDS
from dask_memdash.model.incidents import Incident
from dask_memdash.model.pauses import PauseLog
from dask_memdash.model.series import Series
from dask_memdash.store.natural_order import natural
from dask_memdash.store.strips import DEATHS, Points, Track, unseen_death

#: Incidents that are looked through for deaths, the newest.
LOOKED_THROUGH = 400


def tracks_of(model: ClusterModel, since: float) -> list[Track]:
    """Return all processes of a model that were there after an instant.

    Those that died have the last moments that their nanny sampled, which reach further
    than the last heartbeat.
    """
    tracks: dict[tuple[str, int], Track] = {}
    for key, process in model.processes.by_key.items():
        members = list(process.members.values())
        first = min(members, key=lambda w: natural(w.info.name))
        tracks[key] = Track(
            key=(*key, members[0].info.time),
            name=first.info.name,
            address=first.info.address,
            limit=process.limit,
            cursor=process.history.last,
            read=_reader(process.history),
            others=len(members) - 1,
            pauses=_bands([w.pauses for w in members], since),
        )
    for gone in model.processes.departed.values():
        info = gone.worker.info
        if gone.left >= since and (info.host, info.pid) not in tracks:
            tracks[info.host, info.pid] = Track(
                key=(info.host, info.pid, info.time),
                name=info.name,
                address=info.address,
                limit=info.limit,
                cursor=gone.history.last,
                read=_reader(gone.history),
                left=gone.left,
                pauses=_bands([gone.worker.pauses], since),
            )
    unseen: list[Track] = []
    for incident in deaths_of(model, since):
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


def deaths_of(model: ClusterModel, since: float) -> list[Incident]:
    """Return the newest deaths after an instant."""
    newest = islice(model.incidents, LOOKED_THROUGH)
    found = (i for i in newest if i.kind in KINDS and i.time >= since)
    return list(islice(found, DEATHS))


def _bands(logs: Sequence[PauseLog], since: float) -> Sequence[Sequence[float | None]]:
    if not any(log.count for log in logs):  # most of a thousand
        return ()
    return [band for log in logs for band in log.bands(since)]


def _reader(series: Series) -> Callable[[float], Points]:
    def read(since: float) -> Points:
        before = series.before(since)
        times, (process, spilled) = series.since(
            since if before is None else before, "process", "spilled"
        )
        return times, process, spilled

    return read
