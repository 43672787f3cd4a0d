"""What MemDash itself costs: processor time and memory, measured where it runs.

Covers: the processor time of what the host calls (hooks, heartbeats, marks, samplers),
by the clock of the thread that is charged for it, and an estimate of what our own
data weighs.  Does not cover: what native code adds to each allocation (see
``benchmarks/``), and the host's own work on messages of ours.

Imports the standard library only.
"""

from __future__ import annotations

import functools
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

#: Calls that take less, in seconds, are timed ever more rarely, up to one in so many: a
#: prime, so that of calls of several kinds by turns each kind has its turn.
CHEAP = 2e-4
RAREST = 31

#: Seconds over which a rate is taken at least.
SPAN = 5.0

#: What is weighed without a look inside, and what its elements make up.
LEAVES = (str, bytes, int, float, type(None), array, type)
SEQUENCES = (list, tuple, set, frozenset, deque)

#: A container's elements that are weighed; the others are taken to be like them.
SAMPLE = 16

#: How many times as long as it took to weigh is waited at least before the next time.
RESTS = 5000


class CostMeter:
    """Adds up the processor time that functions take, and says at what rate.

    Calls of cheap functions are timed by sample, since reading the clock costs as much
    as some of them do.  Functions may be called from several threads; a count that is
    lost between two of them does not matter here.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        #: Processor time in seconds, so far.
        self.seconds = 0.0
        self._clock = clock
        self._since = clock()
        self._then = 0.0
        self._rate: float | None = None

    def metered(self, function: F) -> F:
        """Wrap a function so that its processor time is counted."""
        stride = left = 1

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            nonlocal stride, left
            left -= 1
            if left > 0:
                return function(*args, **kwargs)
            begun = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                left = stride = self.charge(time.thread_time() - begun, stride)

        return timed  # type: ignore[return-value]

    def charge(self, spent: float, calls: int) -> int:
        """Add up what a call took that stands for so many, in seconds.

        Returns
        -------
        int
            For how many calls the next one that is timed will stand.
        """
        self.seconds += spent * calls
        # One that is dear now and then does not have all those after it timed.
        return min(2 * calls, RAREST) if spent < CHEAP else max(1, calls // 4)

    def rate(self) -> float | None:
        """Return seconds of processor time per second: the share of a core.

        Over the last `SPAN` seconds or a little more; None before so long.
        """
        now = self._clock()
        if now - self._since >= SPAN:
            self._rate = (self.seconds - self._then) / (now - self._since)
            self._since, self._then = now, self.seconds
        return self._rate


def metered_methods(*names: str) -> Callable[[C], C]:
    """Decorate a class so that its instances' `cost` is charged for these methods."""

    def decorate(cls: C) -> C:
        for name in names:
            setattr(cls, name, _charging(getattr(cls, name)))
        return cls

    return decorate


def _charging(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method that is called some times a second, and so is always timed."""

    @functools.wraps(method)
    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        begun = time.thread_time()
        try:
            return method(self, *args, **kwargs)
        finally:
            self.cost.seconds += time.thread_time() - begun

    return timed


class Backoff:
    """How far MemDash holds back where it costs more than its budget.

    Parameters
    ----------
    budget
        Share of a core.
    most
        Highest level.
    young
        So many first rates count for nothing: what a start costs, once, is no reason to
        hold back.
    eased
        Part of the budget below which a level is given back.  Where a level halves the
        cost, as much as it saved must fit in again; where it saves less, more.
    """

    def __init__(
        self, budget: float, most: int, *, young: int = 0, eased: float = 0.25
    ) -> None:
        self.level = 0
        #: How many rates in a row it has held back by now.
        self.lasts = 0
        self._budget = budget
        self._most = most
        self._young = young
        self._eased = eased * budget
        self._judged: float | None = None

    def judge(self, rate: float | None) -> int:
        """Take in a rate, each but once; give the level, 0 if nothing is held back."""
        if rate is not None and rate != self._judged:
            self._judged = rate
            if self._young > 0:
                self._young -= 1
            elif rate > self._budget:
                self.level = min(self._most, self.level + 1)
            elif rate < self._eased:
                self.level = max(0, self.level - 1)
            self.lasts = self.lasts + 1 if self.level else 0
        return self.level


class Scale:
    """Weighs something now and then, the more rarely the longer that takes.

    Parameters
    ----------
    every
        Seconds from one time to the next at least.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._weight = 0
        self._weighed = self._next = float("-inf")

    def weight(self, thing: object, now: float) -> int:
        """Return what an object weighs, or weighed last, in bytes.

        Parameters
        ----------
        now
            Seconds of any clock; where it was set back, it is weighed again.
        """
        if not self._weighed <= now < self._next:
            # First, so that what cannot be weighed is not tried again at once.
            self._weighed, self._next = now, now + self._every
            begun = time.thread_time()
            self._weight = weigh(thing)
            took = time.thread_time() - begun
            self._next = now + max(self._every, RESTS * took)
        return self._weight


def weigh(thing: object, depth: int = 8) -> int:
    """Estimate what an object and all that it holds weigh, in bytes.

    Of large containers some elements are weighed and the others taken to be like them.
    Shared objects count wherever they are met, short strings and numbers among them.
    """
    size = sys.getsizeof(thing, 64)
    if depth <= 0 or isinstance(thing, LEAVES):
        return size
    if isinstance(thing, SEQUENCES):
        return size + _sampled(thing, len(thing), depth)
    if isinstance(thing, Mapping):
        return size + _sampled(thing.items(), len(thing), depth)
    kind: Any = type(thing)
    names = _names_of(kind)
    held: Iterable[object]
    if names is not None:
        held = [getattr(thing, name, None) for name in names]
    else:
        held = getattr(thing, "__dict__", {}).values()
    return size + sum([weigh(item, depth - 1) for item in held])


@functools.cache
def _names_of(kind: type) -> tuple[str, ...] | None:
    """Return the names of a dataclass's fields; None for another type."""
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else None


def _sampled(items: Iterable[object], count: int, depth: int) -> int:
    taken = list(islice(items, SAMPLE))
    if not taken:
        return 0
    return sum([weigh(item, depth - 1) for item in taken]) * count // len(taken)
