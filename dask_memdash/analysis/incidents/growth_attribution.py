"""What grew and no stored output explains: to whom it belongs, and what nobody counted.

The pool is the growth of the baseline from idle to idle and what is in execution though
no running task is known to hold it.  It is given out in this order:

- arguments and records of the tasks that the worker was sent (`graph`), and what actors
  keep (`actors`), beyond the parts of the breakdown of that name: these are theirs
  already, and the pool holds none of them,
- stored outputs that are larger than Dask believes (`hidden`),
- what tasks held beside their output when they ended (`leaked`, or `moved` where they
  hand it over to a shuffle),
- what the process grew by while the running tasks ran (`charged`): native code that is
  not counted.  No task is charged with more than that,
- what came after the last report while tasks ended of which none had told yet what they
  leave (`ended`, or `untold` where it is not known whose they were),
- the rest is nobody's (`unaccounted`): threads, plugins, caches, modules.
"""

from __future__ import annotations

from dataclasses import dataclass

from dask_memdash.analysis.incidents.case import Case, most_held
from dask_memdash.analysis.incidents.ended_unseen import of_ended
from dask_memdash.model.breakdown import scale
from dask_memdash.model.evidence import Expected
from dask_memdash.model.incidents import Suspect

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

#: Stands for a prefix where a part of the breakdown is known and no prefix of it.
UNNAMED = ""

#: Outputs measured at less than so many times what Dask believes are no lie.
LIE = 1.5

#: Tasks that must have finished before what they left is called a leak: the first ones
#: import modules and fill caches.
ENOUGH = 3

#: What tasks may have left since the last heartbeat at most, as times of what was known
#: to be left by then.
MOST_SINCE = 3


#: How far growth that was not counted is believed to be a task's own: where it all came
#: while the task ran; where what the process had at its begin is not known, or it came
#: before too; where several ran, so that how much each took is a guess; where tasks of
#: the same prefix have finished with far less.
ALL_IN_ITS_TIME, TIME_NOT_KNOWN, UNLIKE_OTHERS = 0.85, 0.5, 0.3
SEVERAL_RAN = 0.45

#: Times that what is in the buffers of a shuffle is in memory beside them at most: it
#: is split, pickled, cut into frames to be sent, and put together where it arrives.
COPIES = 5

#: Seconds that a task is taken to have run at least, where its rate is asked for.
SHORTEST = 0.01

#: Share of an empty worker's room from which a piece of a shuffle is large.
LARGE_PIECE = 0.4

#: Share of the growth that must have come while the running tasks ran for the former.
MOST_OF_IT = 0.7


@dataclass(frozen=True, slots=True)
class Growth:
    """How the pool is given out; sizes in bytes, which sum to the pool."""

    #: By prefix, arguments and records of tasks that the worker was sent.
    graph: dict[str, int]
    #: By prefix, what its actors keep; `UNNAMED` where no prefix is known, as above.
    actors: dict[str, int]
    #: By prefix, what its stored outputs take beyond what Dask believes.
    hidden: dict[str, int]
    #: By prefix, what its tasks have handed over to a shuffle.
    moved: dict[str, int]
    #: By prefix, what its tasks have left behind.
    leaked: dict[str, int]
    #: By key of a running task, what may be its own beyond what was counted for it.
    charged: dict[str, int]
    #: How far `charged` is believed to be the tasks' own, from 0 to 1.
    belief: float
    #: By prefix, what came while its tasks ran and ended, each with as much, and no
    #: report told any more what they left.
    ended: dict[str, int]
    #: The same where it is not known to be of these tasks.
    untold: int
    #: What nobody counted.
    unaccounted: int

    @property
    def running(self) -> int:
        """What the running tasks may hold beyond their counts."""
        return sum(self.charged.values())

    @property
    def nobodys(self) -> int:
        """What nobody counted, and what is not believed to be the running tasks'."""
        return self.unaccounted + round((1 - self.belief) * self.running)


def give_out(case: Case) -> Growth:
    """Say to whom what grew belongs."""
    pool = case.grown + case.unexplained
    sent = {p: row.size for p, row in case.facts.graph.items()}
    graph, pool = _named(case.parts.graph, sent, sent, pool)
    kept = {p: row.size for p, row in case.facts.actors.items()}
    grown = {p: row.grown for p, row in case.facts.actors.items()}
    actors, pool = _named(case.parts.actors, kept, grown, pool)
    hidden = _fit(_hidden(case), pool)
    pool -= sum(hidden.values())
    left = _left(case, hidden)
    if _large_pieces(case):
        left = {name: size for name, size in left.items() if not hands_over(name)}
    left = _fit(left, max(0, pool - _grown_meanwhile(case)))
    pool -= sum(left.values())
    # What of the pool is in execution: only that can be the running tasks' own.
    rest = min(pool, case.unexplained)
    # Tasks that have finished since the last heartbeat have left something too.
    since = round(rest * _share_of_leaks(case, left, rest))
    since = min(since, MOST_SINCE * sum(left.values()))
    more = scale(left, since)
    left = {prefix: size + more[prefix] for prefix, size in left.items()}
    charged, belief = _charged(case, rest - since)
    lying = {name for name in left if _is_known_to_lie(case, name)}
    for name in lying:
        hidden[name] = hidden.get(name, 0) + left.pop(name)
    moved, leaked = _sort(left)
    nobodys = pool - since - sum(charged.values())
    ended, untold = of_ended(case, nobodys)
    nobodys -= sum(ended.values()) + untold
    copies = _copies_on_their_way(case, moved, nobodys)
    moved = {p: moved.get(p, 0) + copies.get(p, 0) for p in {**moved, **copies}}
    return Growth(
        graph=graph,
        actors=actors,
        hidden=hidden,
        moved=moved,
        leaked=leaked,
        charged=charged,
        belief=belief,
        ended=ended,
        untold=untold,
        unaccounted=nobodys - sum(copies.values()),
    )


def _named(
    part: int, sizes: dict[str, int], most: dict[str, int], pool: int
) -> tuple[dict[str, int], int]:
    """Share a part of the breakdown out by prefix; return that, and the pool's rest.

    A prefix is given from the pool what the part lacks of the most that it is known to
    have: what arrived since the part was counted.
    """
    shares = scale(sizes, part)
    if part and not any(shares.values()):
        shares = {UNNAMED: part}
    more = _fit({p: max(0, n - shares.get(p, 0)) for p, n in most.items()}, pool)
    whole = {p: shares.get(p, 0) + more.get(p, 0) for p in {**shares, **more}}
    return {p: n for p, n in whole.items() if n > 0}, pool - sum(more.values())


def _charged(case: Case, rest: int) -> tuple[dict[str, int], float]:
    """Return what of the rest each running task may hold, and how sure that is.

    At most what the process grew by since it began, less what was counted for it; all
    together at most what it grew by since the oldest began.
    """
    ran = [suspect for suspect in case.running if not suspect.gathering]
    if not ran or rest <= 0 or _shared_out(case):
        # Estimated shares sum to the growth since the oldest running task began: what
        # else there is was there before.
        return {}, 1.0
    if shuffles_in_memory(case) and all(hands_over(s.prefix) for s in ran):
        return (
            {},
            1.0,
        )  # what they have handed over stays in memory, and is the shuffle's
    pieces = _large_pieces(case)
    if pieces:
        shares = {key: max(1, size) for key, size in pieces.items()}
        return scale(shares, rest), ALL_IN_ITS_TIME
    since = {s.key: case.grown_since(s) for s in ran}
    known = [size for size in since.values() if size is not None]
    if len(known) < len(since):
        most = {s.key: _usual_most(case, s, rest) for s in ran}
        return _fit(most, rest), TIME_NOT_KNOWN
    most = {s.key: max(0, (since[s.key] or 0) - (s.bytes or 0)) for s in ran}
    together = max(0, max(known) - case.counted)
    pool = min(rest, together)
    # What is not measured has no count that could say how little it is.
    open_ = {s.key: most[s.key] for s in ran if s.bytes is None}
    charged = _fit(open_, pool)
    counted = {key: size for key, size in most.items() if key not in open_}
    charged |= _since_last_look(case, counted, pool - sum(charged.values()))
    if any(_needed_less(case, suspect) for suspect in ran):
        return charged, UNLIKE_OTHERS
    if len(ran) > 1 and sum(charged.values()) > case.counted:
        return charged, SEVERAL_RAN
    in_its_time = sum(charged.values()) >= MOST_OF_IT * rest
    return charged, ALL_IN_ITS_TIME if in_its_time else TIME_NOT_KNOWN


def _since_last_look(case: Case, most: dict[str, int], pool: int) -> dict[str, int]:
    """Share out what grew beyond the counts of tasks, at most `most` for each.

    What came after the last look at them is thought to have come as fast as what they
    held by then.
    """
    rates = {
        s.key: round((s.bytes or 0) / max(s.seconds, SHORTEST))
        for s in case.running
        if s.key in most
    }
    share = scale(rates, min(pool, case.unseen)) if any(rates.values()) else {}
    later = {key: min(size, most[key]) for key, size in share.items()}
    left = {key: size - later.get(key, 0) for key, size in most.items()}
    more = _fit(left, pool - sum(later.values()))
    whole = {key: later.get(key, 0) + more.get(key, 0) for key in most}
    return {key: size for key, size in whole.items() if size}


def _large_pieces(case: Case) -> dict[str, int]:
    """Return by key what running tasks of P2P shuffles work on, where that is large.

    Such a task takes its inputs, joins and splits them, and what it hands over is
    copied again to be sent: the buffers that nobody counts are those of its pieces.
    """
    room = case.usable
    sizes = {
        s.key: (most_held(s) or 0) + (s.inputs.size if s.inputs is not None else 0)
        for s in case.suspects
        if hands_over(s.prefix)
    }
    return {k: n for k, n in sizes.items() if room and n >= LARGE_PIECE * room}


def shuffles_in_memory(case: Case) -> bool:
    """Say whether P2P shuffles are known to keep all that they are given in memory."""
    return case.facts.spill_room.shuffles_on_disk is False


def shuffling(case: Case) -> list[str]:
    """Name the prefixes of P2P shuffles: that run, that are to run, that have run."""
    names = [
        *(suspect.prefix for suspect in case.suspects),
        *(task.prefix for task in case.assigned),
        *case.facts.expected,
    ]
    return [name for name in dict.fromkeys(names) if hands_over(name)]


def _copies_on_their_way(
    case: Case, moved: dict[str, int], rest: int
) -> dict[str, int]:
    """Return what nobody counted and is copies of what a shuffle's buffers hold."""
    names = shuffling(case)
    if not names or rest <= 0:
        return {}
    most = COPIES * case.parts.transfer - sum(moved.values())
    size = min(rest, most)
    return {names[0]: size} if size > 0 else {}


def _usual_most(case: Case, suspect: Suspect, rest: int) -> int:
    """Return the most beyond its count that a task's like have been seen to need."""
    expected = case.expected(suspect.prefix)
    if expected is None or expected.max is None or expected.finished < ENOUGH:
        return rest
    return max(0, min(rest, expected.max - (suspect.bytes or 0)))


def _needed_less(case: Case, suspect: Suspect) -> bool:
    """Say whether a task's like have finished with far less than came meanwhile."""
    expected = case.expected(suspect.prefix)
    if expected is None or expected.max is None or expected.finished < ENOUGH:
        return False
    return 2 * expected.max < (case.grown_since(suspect) or 0)


def _grown_meanwhile(case: Case) -> int:
    """Return what grew while no task can have ended, so that none has left it behind.

    Where every thread has its running task, that is since the youngest of them began.
    """
    if not case.suspects or len(case.suspects) < case.facts.nthreads:
        return 0
    since = [case.grown_since(suspect) for suspect in case.suspects]
    youngest = min((size for size in since if size is not None), default=0)
    return max(0, youngest - case.counted - case.inputs_in_use)


def _is_known_to_lie(case: Case, prefix: str) -> bool:
    """Say whether an earlier death showed a prefix's outputs to be larger than said."""
    return any(e.cause == "sizeof" and e.prefix == prefix for e in case.earlier)


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
        if expected is None:
            continue
        if _size_is_known(case, prefix) and not expected.weighed.because:
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
