"""What tasks may have left that ended after their worker's last report.

A report tells what the tasks that ended held beside their outputs.  A worker that dies
within a second of its first tasks never tells it of them: what grew meanwhile and is in
no count may be theirs.  It is taken to be where as many ended as hold that much; where
fewer did, it stays what nobody counted.  Of a prefix whose tasks have told what they
leave, that stands.
"""

from __future__ import annotations

from dask_memdash.analysis.incidents.case import NEAR, Case, most_held

#: Tasks of a prefix that have told what they left, from which that is known of it.
TOLD = 3

#: How much larger what came may be than what as many tasks hold, to be all theirs.
AS_MUCH = 1.1


def of_ended(case: Case, nobodys: int) -> tuple[dict[str, int], int]:
    """Say how much of what nobody counted tasks may have left that ended unseen.

    Returns
    -------
    ended
        By prefix, where tasks of only one ran, and as many of them ended as hold that
        much.
    untold
        The same where others ran too, so that it may be theirs.
    """
    came = min(nobodys, _since_report(case) - _while_none_ended(case))
    if came <= 0 or case.unseen:
        return {}, 0
    ended = {row.prefix for row in case.storage if row.count}
    quiet = {prefix for prefix in ended if not _told(case, prefix)}
    most = sum(_outputs(case, prefix) * _each(case, prefix) for prefix in quiet)
    if came > AS_MUCH * most:
        return {}, 0
    ran = ended | {suspect.prefix for suspect in case.suspects}
    return (dict.fromkeys(quiet, came), 0) if len(ran) == 1 else ({}, came)


def _since_report(case: Case) -> int:
    """Return by how much the process grew after its last report, in bytes.

    Where none came: since its first idle moment.
    """
    grown = max(0, case.parts.process - case.idle)
    if not case.facts.baseline:
        return grown
    reported = case.facts.baseline[-1][0]
    before = [size for time, size in case.timeline if time <= reported]
    if not before and case.timeline and case.timeline[0][0] <= reported + NEAR:
        before = [case.timeline[0][1]]
    return max(0, case.parts.process - before[-1]) if before else 0


def _while_none_ended(case: Case) -> int:
    """Return what grew since the youngest task began, where all threads are busy."""
    if not case.suspects or len(case.suspects) < case.facts.nthreads:
        return 0
    return min((case.grown_since(suspect) or 0 for suspect in case.suspects), default=0)


def _told(case: Case, prefix: str) -> bool:
    expected = case.facts.expected.get(prefix)
    return expected is not None and expected.weighed.count >= TOLD


def _outputs(case: Case, prefix: str) -> int:
    """Return how many tasks of a prefix are known to have ended there."""
    return sum(row.count for row in case.storage if row.prefix == prefix)


def _each(case: Case, prefix: str) -> int:
    """Return the most that a task of a prefix is known to hold, in bytes."""
    own = [most_held(s) or 0 for s in case.suspects if s.prefix == prefix]
    expected = case.facts.expected.get(prefix)
    usual = 0 if expected is None else expected.max or 0
    return max([usual, *own], default=0)
