"""What grew and belongs to no running task: who left it behind.

The pool is the growth of the baseline from idle to idle and what is in execution
though no running task is known to hold it.  It is given out in this order: to stored
outputs that are larger than Dask believes (`hidden`), to prefixes whose tasks ended
holding more than their output (`leaked`, or `moved` where they hand it over to a
shuffle), and what remains to nobody (`nameless`), or
to the tasks that run (`running`: native code that is not counted).  A baseline that has
grown in one step only, as with modules that are imported, is nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.model.breakdown import scale
from dask_memdash.model.evidence import Expected

#: Types whose size Dask knows well.
KNOWN_SIZES = frozenset(
    {
        "NoneType",
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "float",
        "int",
        "numpy.ndarray",
        "str",
    }
)

#: How the prefixes of tasks end that hand their pieces over to a P2P shuffle.
HAND_OVER = ("rechunk-transfer", "shuffle-transfer", "hash-join-transfer")

#: How what a task holds is called where it is shared out.
ESTIMATED = "estimated"

#: Outputs measured at less than so many times what Dask believes are no lie.
LIE = 1.5

#: Tasks that must have finished before what they left is called a leak: the first ones
#: import modules and fill caches.
ENOUGH = 3

#: What tasks may have left since the last heartbeat at most, as times of what was known
#: to be left by then.
MOST_SINCE = 3


@dataclass(frozen=True, slots=True)
class Leftovers:
    """How the pool is given out; sizes in bytes."""

    #: By prefix, what its stored outputs take beyond what Dask believes.
    hidden: dict[str, int]
    #: By prefix, what its tasks have handed over to a shuffle.
    moved: dict[str, int]
    #: By prefix, what its tasks have left behind.
    leaked: dict[str, int]
    #: Growth of the baseline that no prefix is known to have left.
    nameless: int
    #: In execution, and counted for no task, but not left behind either.
    running: int


def give_out(case: Case) -> Leftovers:
    """Say to whom what grew belongs."""
    pool = case.grown + case.unexplained
    hidden = _fit(_hidden(case), pool)
    left = _fit(_left(case, hidden), pool - sum(hidden.values()))
    named = sum(hidden.values()) + sum(left.values())
    nameless = min(max(0, case.growing - named), max(0, case.grown - named))
    rest = case.unexplained - max(0, named - case.grown)
    if _shared_out(case):
        # Estimated shares sum to the growth since the oldest running task began: what
        # else there is was there before.
        return Leftovers(hidden, *_sort(left), nameless + rest, 0)
    # Tasks that have finished since the last heartbeat have left something too.
    since = round(rest * _share_of_leaks(case, left, rest))
    since = min(since, MOST_SINCE * sum(left.values()))
    more = scale(left, since)
    left = {prefix: size + more[prefix] for prefix, size in left.items()}
    return Leftovers(hidden, *_sort(left), nameless, rest - since)


def hands_over(prefix: str) -> bool:
    """Say whether tasks of a prefix hand what they make over to a P2P shuffle."""
    return prefix.endswith(HAND_OVER)


def left_by_each(expected: Expected) -> float:
    """Return what each task of a prefix has left behind on average, in bytes."""
    return expected.left / max(1, expected.weighed.count)


def _shared_out(case: Case) -> bool:
    """Say whether what the running tasks hold is their share of the growth."""
    return bool(case.suspects) and all(s.method == ESTIMATED for s in case.suspects)


def _hidden(case: Case) -> dict[str, int]:
    found = {}
    for prefix, claimed in case.facts.claimed.items():
        expected = case.facts.expected.get(prefix)
        if expected is None or _size_is_known(case, prefix):
            continue
        believed, measured = max(1, expected.weighed.believed), expected.weighed.left
        if expected.weighed.count and measured > LIE * believed:
            found[prefix] = round(claimed * (measured / believed - 1))
    return found


def _sort(left: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Tell what was handed over from what was left behind."""
    moved = {prefix: size for prefix, size in left.items() if hands_over(prefix)}
    return moved, {p: size for p, size in left.items() if p not in moved}


def _left(case: Case, hidden: dict[str, int]) -> dict[str, int]:
    found = {}
    for prefix, expected in case.facts.expected.items():
        left = expected.left - hidden.get(prefix, 0)
        if left > 0 and expected.weighed.count >= ENOUGH:
            found[prefix] = left
    return found


def _share_of_leaks(case: Case, left: dict[str, int], rest: int) -> float:
    """Return how much of what nobody explains is more of what is known to be left."""
    known = sum(left.values())
    if not known:
        return 0.0
    running = 0
    for suspect in case.suspects:
        expected = case.expected(suspect.prefix)
        if expected is None or expected.p95 is None or expected.finished < ENOUGH:
            running += rest  # it may hold anything
        else:
            running += max(0, expected.p95 - (suspect.bytes or 0))
    return known / (known + min(running, rest))


def _size_is_known(case: Case, prefix: str) -> bool:
    held = case.facts.held.get(prefix)
    return held is not None and bool(held.types) and set(held.types) <= KNOWN_SIZES


def _fit(sizes: dict[str, int], pool: int) -> dict[str, int]:
    """Scale sizes down until they fit into the pool."""
    if sum(sizes.values()) <= pool:
        return {name: size for name, size in sizes.items() if size > 0}
    return {name: size for name, size in scale(sizes, pool).items() if size > 0}
