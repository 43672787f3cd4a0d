"""A worker's last seconds as plain data: the shape of the JSON API.

Where they are not known, the shape is the same, empty, and says why.
"""

from __future__ import annotations

from dask_memdash.model.incidents import DEATHS, Incident
from dask_memdash.model.last_seconds import stacked, unpack
from dask_memdash.store.evidence_shapes import LastSeconds

#: Why an incident of an earlier MemDash's record has none.
NOT_RECORDED = "the MemDash that recorded this did not keep them"


def nothing(why: str) -> LastSeconds:
    """Return the shape without any sample.

    Parameters
    ----------
    why
        Why nothing is known, as half a sentence.
    """
    return LastSeconds(
        why_not=why,
        time=[],
        process=[],
        managed=[],
        transfer=[],
        actors=[],
        retained=[],
        graph=[],
        baseline=[],
        tasks=[],
        others=[],
        n_others=[],
        uncounted=[],
        unknown=[],
    )


def last_seconds(incident: Incident) -> LastSeconds:
    """Return what an incident's worker was made of before it died."""
    if incident.last_seconds is None:
        return nothing(_why_not(incident))
    last = unpack(incident.last_seconds)
    made = stacked(last)
    parts = {name: list(sizes) for name, sizes in made.parts.items()}
    return LastSeconds(
        why_not="",
        time=list(made.time),
        process=list(made.process),
        managed=parts["managed"],
        transfer=parts["transfer"],
        actors=parts["actors"],
        retained=parts["retained"],
        graph=parts["graph"],
        baseline=parts["baseline"],
        tasks=[
            {
                "key": row.key or None,
                "prefix": row.prefix,
                "count": row.tasks,
                "begin": row.begin,
                "bytes": list(sizes),
            }
            for row, sizes in zip(last.tasks, made.tasks, strict=True)
        ],
        others=list(made.others),
        n_others=list(last.n_others),
        uncounted=list(made.uncounted),
        unknown=list(made.unknown),
    )


def _why_not(incident: Incident) -> str:
    """Say why nothing is known of an incident's worker over time."""
    if incident.kind not in DEATHS:
        return "they are kept of workers that died"
    if not incident.nanny:
        return "the worker had no nanny, which samples a worker from outside"
    if not incident.reported:
        return "the worker's nanny has not reported its death"
    return "the worker's nanny had not sampled it"
