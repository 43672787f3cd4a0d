"""What a process was made of at each sample of its last minute.

The recorders say what every task holds at this instant only.  Whoever samples the
process reads them anyway, and notes here whose the memory was: a death's story then has
the running tasks over time.  Kept in the sampler's own process, which outlives the
worker, and bounded: the largest tasks of each sample, the others as one sum.  Not
thread-safe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from dask_memdash.flight.format import Slot
from dask_memdash.model.breakdown import PARTS, Breakdown, Reading, break_down
from dask_memdash.model.last_seconds import LastSeconds, TaskSeconds
from dask_memdash.system.proc import RssParts

#: Tasks told apart at one sample, the largest.
LARGEST = 8

#: Samples told at a death at most; the earlier, the farther apart.
MOST = 120

#: Tasks that were there at the end, and prefixes of those that were not, told apart.
MOST_TASKS, MOST_PREFIXES = 12, 6

#: What of a worker's reading says what its process is made of.
NAMES = (
    *("managed_claimed", "incoming", "outgoing", "shuffle", "free", "base"),
    *("file", "base_file", "actors", "graph"),
)

Values = Mapping[str, float | None]

_now, _rss = attrgetter("now"), attrgetter("rss")


class Whose(NamedTuple):
    """A task: its slot may be another's later, and begin and key tell them apart."""

    slot: int
    #: Unix time in seconds.
    begin: float
    key: str
    digest: str


class Moment(NamedTuple):
    """One sample, in bytes."""

    #: Unix time in seconds.
    time: float
    rss: int
    #: RSS that is pages of files; None where the kernel does not say.
    file: int | None
    #: The reading's `NAMES`; None where it could not be read.
    beside: tuple[float | None, ...] | None
    busy: bool
    #: Whether what tasks hold is known to be resident.
    resident: bool
    #: What each of the largest tasks held, and the others together.
    held: tuple[tuple[Whose, int], ...]
    others: int
    n_others: int


class Moments:
    """The samples of a process's last minute.

    Parameters
    ----------
    prefix_of
        Gives the prefix of a key's text.
    span
        Seconds that are kept.
    most
        Samples kept at most.
    """

    def __init__(self, prefix_of: Callable[[str], str], span: float, most: int) -> None:
        self._prefix_of = prefix_of
        self._span = span
        self._moments: deque[Moment] = deque(maxlen=most)
        # Of the last sample, so that what has not changed is kept once.
        self._beside: tuple[float | None, ...] | None = None
        self._whose: dict[Whose, Whose] = {}

    def __len__(self) -> int:
        return len(self._moments)

    def note(
        self,
        time: float,
        rss: int,
        parts: RssParts | None,
        readings: Sequence[Values | None],
        tasks: Sequence[Slot],
        *,
        resident: bool,
    ) -> None:
        """Note a sample.

        Parameters
        ----------
        time
            Unix time in seconds.
        rss
            In bytes.
        parts
            What the RSS is made of; None where the kernel does not say.
        readings
            The last ones of the process's workers, None where torn: only where there is
            one of them it is known what the process is made of.
        tasks
            All that run or are pending, as counted now.
        resident
            Whether what is counted for them is known to be resident.
        """
        reading = readings[0] if len(readings) == 1 else None
        file = None if parts is None else parts.file
        beside = None if reading is None else tuple(map(reading.get, NAMES))
        if self._moments and time < self._moments[-1].time:
            self._moments.clear()  # the clock was set back: what came before is apart
        if beside == self._beside:
            beside = self._beside
        self._beside = beside
        measured = [task for task in tasks if task.measured and task.now > 0]
        others = n_others = 0
        if len(measured) > LARGEST:
            measured.sort(key=_now, reverse=True)
            n_others = len(measured) - LARGEST
            others = sum(task.now for task in measured[LARGEST:])
            del measured[LARGEST:]
        before, self._whose = self._whose, {}
        held = []
        for task in measured:
            whose = Whose(task.index, task.begin, task.key, task.digest)
            whose = before.get(whose, whose)
            self._whose[whose] = whose
            held.append((whose, task.now))
        alone, busy = tuple(held), bool(tasks)
        self._moments.append(
            Moment(time, rss, file, beside, busy, resident, alone, others, n_others)
        )
        while self._moments[0].time < time - self._span:
            self._moments.popleft()

    def told(self) -> LastSeconds | None:
        """Tell them, thinned; None where there are none."""
        moments = thin(list(self._moments), MOST)
        if not moments:
            return None
        rows = self._rows(moments)
        apart = {whose for row in rows for whose in row[1]}
        others, n_others = [], []
        for moment in moments:
            rest = [size for whose, size in moment.held if whose not in apart]
            others.append(moment.others + sum(rest))
            n_others.append(moment.n_others + len(rest))
        made = [_broken_down(moment) for moment in moments]
        return LastSeconds(
            time=tuple(moment.time for moment in moments),
            process=tuple(moment.rss for moment in moments),
            parts=_parts(made),
            tasks=tuple(_row(key, whose, moments, key[1]) for key, whose in rows),
            others=tuple(others),
            n_others=tuple(n_others),
        )

    def _rows(
        self, moments: Sequence[Moment]
    ) -> list[tuple[tuple[str, str], set[Whose]]]:
        """Choose what is told apart: (key, prefix) and the tasks, largest first.

        The tasks that were there at the end one by one; those before by prefix, and
        their key is empty.
        """
        last = dict(moments[-1].held)
        most: dict[str, int] = {}
        ended: dict[str, set[Whose]] = {}
        for moment in moments:
            sums: dict[str, int] = {}
            for whose, size in moment.held:
                if whose not in last:
                    prefix = self._prefix_of(whose.key)
                    ended.setdefault(prefix, set()).add(whose)
                    sums[prefix] = sums.get(prefix, 0) + size
            for prefix, size in sums.items():
                most[prefix] = max(most.get(prefix, 0), size)
        running = sorted(last, key=lambda whose: -last[whose])[:MOST_TASKS]
        prefixes = sorted(most, key=lambda prefix: -most[prefix])[:MOST_PREFIXES]
        return [
            *(((w.key, self._prefix_of(w.key)), {w}) for w in running),
            *((("", prefix), ended[prefix]) for prefix in prefixes),
        ]


def thin(moments: list[Moment], most: int) -> list[Moment]:
    """Keep about so many at most: the last ones all, of those before fewer and fewer.

    Of those that lie between two that are kept, the fullest is kept.
    """
    number = len(moments)
    if number <= most:
        return moments
    more = number / most - 1
    backs = {round(k * (1 + more * (k / most) ** 2)) for k in range(most)}
    ends = sorted(number - back for back in backs)
    return [
        max(moments[begin:end], key=_rss)
        for begin, end in zip([0, *ends], ends, strict=False)
    ]


def _row(
    key: tuple[str, str],
    whose: set[Whose],
    moments: Sequence[Moment],
    prefix: str,
) -> TaskSeconds:
    """Return what a task, or the tasks of a prefix that had ended, held at each."""
    sizes: list[int | None] = []
    for moment in moments:
        held = [size for one, size in moment.held if one in whose]
        if held or not moment.n_others or not key[0]:
            sizes.append(sum(held))
        else:
            sizes.append(None if moment.time >= min(w.begin for w in whose) else 0)
    places = [place for place, size in enumerate(sizes) if size]
    first, end = places[0], places[-1] + 1
    (only, *_) = whose
    return TaskSeconds(
        key=key[0],
        digest=only.digest if key[0] else "",
        prefix=prefix,
        tasks=len(whose),
        begin=min(one.begin for one in whose),
        first=first,
        bytes=tuple(sizes[first:end]),
    )


def _broken_down(moment: Moment) -> Breakdown | None:
    if moment.beside is None:
        return None
    known = {
        name: None if value is None else int(value)
        for name, value in zip(NAMES, moment.beside, strict=True)
    }
    for name in ("managed_claimed", "incoming", "outgoing", "shuffle"):
        known[name] = known[name] or 0
    if moment.file is not None:
        known["file"] = moment.file
    live = moment.others + sum(size for _, size in moment.held)
    if moment.resident:
        # What is being spilled is claimed until the worker says otherwise.
        room = max(0, moment.rss - live - (known["base"] or 0))
        known["managed_claimed"] = min(known["managed_claimed"] or 0, room)
    return break_down(
        Reading(moment.time, moment.rss, live=live, busy=moment.busy, **known)  # type: ignore[arg-type]
    )


def _parts(made: Sequence[Breakdown | None]) -> dict[str, tuple[int | None, ...]]:
    columns = {
        name: tuple(None if one is None else getattr(one, name) for one in made)
        for name in PARTS
    }
    return {name: sizes for name, sizes in columns.items() if any(sizes)}
