"""Would it have lived?  The few changes that would have kept a failed run alive.

Tries a list of changes on what is known of one failure, the mildest first, and names at
most two that would have been enough: one that does with what there was, and one that
takes more memory.  Where the evidence does not allow that it says
why, or nothing.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dask_memdash.counterfactual.answer import DIED, LIVED, Answer, answer
from dask_memdash.counterfactual.change import Change
from dask_memdash.counterfactual.evidence import Evidence, gather_of
from dask_memdash.store.base import Store
from dask_memdash.terms import NOT_MEMORY
from dask_memdash.text import join

#: Multiples of the limit, and of the chunks' size, that are tried.
LIMITS = (1.5, 2.0, 3.0, 4.0)
CHUNKS = (0.5, 0.25)

#: Audits of limits that are looked at.
AUDITS = 200

#: What the answers take for granted of tasks that died.
TAKEN = (
    "This takes tasks that were cut short for no larger than the largest of their "
    "prefix that finished."
)

ASKED = (
    "a task asked for memory that it did not get, and how much more it would have "
    "needed is open"
)
BELOW = "memory ran out outside of the workers' own limits"
UNSEEN = (
    "by what was recorded it should have lived as it was, so something was not seen"
)


@dataclass(frozen=True, slots=True)
class Alternatives:
    """With what a failed run would have lived."""

    failure: str
    #: At most two answers, all 'lived'.
    lived: tuple[Answer, ...] = ()
    #: Changes that would not have been enough, where that is known of all.
    died: tuple[Change, ...] = ()
    #: Why nothing can be said, in words; empty where something can, or need not.
    because: str = ""
    #: By what multiple limits may grow before the machines have no more; None where
    #: that is not known.
    room: float | None = None
    #: What the answers take for granted; empty where that is nothing.
    taken: str = ""

    @property
    def lines(self) -> list[str]:
        """What is said, a sentence or two each; none where there is nothing to say."""
        if self.lived:
            said = [self._yes(one) for one in self.lived]
            return [*said, self.taken] if self.taken else said
        if self.died:
            tried = join(
                [change.in_words().removeprefix("with ") for change in self.died]
            )
            return [f"No, not with any one of these: {tried}."]
        return [f"Cannot say, because {self.because}."] if self.because else []

    def _yes(self, one: Answer) -> str:
        more = ""
        if self.room is not None and one.change.limit > max(1.0, self.room):
            more = " That is more than its machine has for its workers."
        return f"Yes, {one.change.in_words()}: {one.reason}{more}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "failure": self.failure,
            "lived": [one.to_dict() for one in self.lived],
            "because": self.because or None,
            "lines": self.lines,
        }


def alternatives(
    store: Store, failure_id: str, points: int | None = None
) -> Alternatives:
    """Say with what the run of a failure would have lived.

    Parameters
    ----------
    points
        See :func:`~dask_memdash.counterfactual.evidence.gather`.

    Raises
    ------
    UnknownFailureError
    """
    failed = store.failure(failure_id)
    nothing = Alternatives(failed["id"])
    kinds, diagnosis = failed["kinds"], failed["diagnosis"]
    if not failed["settled"] or diagnosis["cause"] in NOT_MEMORY:
        return nothing
    if kinds.get("memory-error"):
        return Alternatives(failed["id"], because=ASKED)
    if not failed["deaths"] and not kinds.get("stuck"):
        return nothing
    relief, cause = diagnosis["relief"], diagnosis["cause"]
    if cause == "overcommitted" or relief == "limit-above-memory":
        return Alternatives(failed["id"], because=BELOW)
    evidence = gather_of(store, failed, points)
    if evidence.deaths:  # what was learnt at one of them holds for all
        evidence = replace(evidence, deaths=(cause,))
    return judge(failed["id"], evidence, _room(store))


def judge(failure: str, evidence: Evidence, room: float | None = None) -> Alternatives:
    """Say it of evidence."""
    if answer(evidence, Change()).verdict == LIVED:
        return Alternatives(failure, because=UNSEEN)
    free, bought = free_changes(evidence), bought_changes()
    answers = [[answer(evidence, change) for change in way] for way in free + bought]
    found = [next((a for a in way if a.verdict == LIVED), None) for way in answers]
    kinds = (found[: len(free)], found[len(free) :])
    lived = tuple(a for kind in kinds for a in [*filter(None, kind)][:1])
    if lived:
        taken = TAKEN if evidence.suspects else ""
        return Alternatives(failure, lived, room=room, taken=taken)
    tried = [one for way in answers for one in way]
    if all(one.verdict == DIED for one in tried):
        most = tuple(way[-1].change for way in answers)
        return Alternatives(failure, died=most)
    return Alternatives(failure, because=_because(tried))


def free_changes(evidence: Evidence) -> list[Sequence[Change]]:
    """Return ways to do with what there is, each from mild to harsh."""
    threads = evidence.threads
    fewer = dict.fromkeys(n for n in (threads // 2, 1) if 1 <= n < threads)
    ways: list[Sequence[Change]] = [
        [] if evidence.spilling else [Change(spilling=True)],
        [Change(threads=n) for n in fewer],
        [Change(chunks=factor) for factor in CHUNKS],
    ]
    return [way for way in ways if way]


def bought_changes() -> list[Sequence[Change]]:
    """Return ways that take more memory than there was."""
    return [[Change(limit=factor) for factor in LIMITS], [Change(workers=1)]]


def _because(answers: Iterable[Answer]) -> str:
    """Return why nothing is said: what stands in the way of the largest limit."""
    unsure = [one for one in answers if one.because]
    return max(unsure, key=lambda one: one.change.limit).because


def _room(store: Store) -> float | None:
    """Return by what multiple limits may grow on the machine that has least room."""
    rooms = [
        audit["effective"] / audit["siblings"]
        for audit in store.limits(AUDITS)
        if audit["effective"] and audit["siblings"]
    ]
    return min(rooms, default=None)
