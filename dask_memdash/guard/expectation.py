"""What a task is expected to take: learnt from measurements, and from deaths.

The expectation of a prefix is the 0.9-quantile of its tasks' peaks.  A task that was
cut short by its worker's death needs at least what it held: that counts as one more
task where it says more than is known, and is remembered for its own key.

Imports the standard library and the model only; sizes are integers in bytes.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from dask_memdash.model.quantiles import QuantileSketch

#: The quantile of a prefix's peaks that is expected.
QUANTILE = 0.9

#: Peaks of a prefix that one worker remembers, prefixes that it does, and keys.
RECENT_PEAKS = 20
MAX_PREFIXES = 2_000
MAX_KEYS = 200

#: Tasks of a prefix that end unmeasured before it is taken for one that cannot be
#: measured, which nothing is expected of.
UNMEASURED = 3

#: A change of an expectation that is told: by so large a part, or so many bytes.
TOLD_PART = 0.05
TOLD_BYTES = 2**20


class Expectations:
    """What one worker expects: what the cluster has learnt, and what it saw itself."""

    def __init__(self) -> None:
        self._cluster: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        self._own: OrderedDict[str, deque[int]] = OrderedDict()
        self._unmeasured: OrderedDict[str, int] = OrderedDict()

    def of(self, prefix: str, key: str) -> int | None:
        """Return what a task is expected to take; None where nothing is known."""
        known = [
            size
            for size in (
                self._cluster.get(prefix),
                self._of_own(prefix),
                self._keys.get(key),
            )
            if size is not None
        ]
        if known:
            return max(known)
        return 0 if self._unmeasured.get(prefix, 0) >= UNMEASURED else None

    def has_ended(self, prefix: str) -> bool:
        """Whether a task of a prefix has ended here."""
        return prefix in self._own or prefix in self._unmeasured

    def learn(self, prefix: str, peak: int | None) -> None:
        """Take in a task that has ended here; `peak` is None where not measured."""
        if peak is None:
            count = self._unmeasured.pop(prefix, 0)
            self._unmeasured[prefix] = count + 1
            _bound(self._unmeasured, MAX_PREFIXES)
            return
        peaks = self._own.pop(prefix, None) or deque(maxlen=RECENT_PEAKS)
        peaks.append(peak)
        self._own[prefix] = peaks
        _bound(self._own, MAX_PREFIXES)

    def take(self, prefixes: Mapping[str, int], keys: Mapping[str, int]) -> None:
        """Take in what the cluster has learnt since."""
        self._cluster.update(prefixes)
        while len(self._cluster) > MAX_PREFIXES:
            del self._cluster[next(iter(self._cluster))]
        self._keys.update(keys)
        while len(self._keys) > MAX_KEYS:
            del self._keys[next(iter(self._keys))]

    def _of_own(self, prefix: str) -> int | None:
        peaks = self._own.get(prefix)
        if not peaks:
            return None
        return sorted(peaks)[math.ceil(QUANTILE * len(peaks)) - 1]


class Learning:
    """What the scheduler has learnt, and what of it has been told to workers."""

    def __init__(self) -> None:
        # Prefix → what its tasks held that were cut short, the newest.
        self._cut: OrderedDict[str, deque[int]] = OrderedDict()
        self._keys: OrderedDict[str, int] = OrderedDict()
        # Prefix → (how many peaks that was, what workers were told).
        self._told: OrderedDict[str, tuple[int, int]] = OrderedDict()
        # Prefixes and keys of which a task was cut short since.
        self._news: set[str] = set()
        self._new_keys: set[str] = set()

    def died(self, prefix: str, key: str, held: int) -> None:
        """Take in what a task held when its worker died under it."""
        cut = self._cut.pop(prefix, None) or deque(maxlen=RECENT_PEAKS)
        cut.append(held)
        self._cut[prefix] = cut
        _bound(self._cut, MAX_PREFIXES)
        self._keys[key] = max(held, self._keys.pop(key, 0))
        _bound(self._keys, MAX_KEYS)
        self._news.add(prefix)
        self._new_keys.add(key)

    def changes(
        self, peaks: Iterable[tuple[str, QuantileSketch]]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return what is expected otherwise than when this was asked last.

        Parameters
        ----------
        peaks
            Prefixes with the peaks of their tasks that were measured.

        Returns
        -------
        dict of str to int, dict of str to int
            By prefix; and by key, of tasks that were cut short.
        """
        changed: dict[str, int] = {}
        for prefix, sketch in peaks:
            cut = self._cut.get(prefix, ())
            told = self._told.get(prefix)
            news = prefix in self._news or told is None or told[0] != sketch.count
            if not news or not (sketch.count or cut):
                continue
            size = expected(sketch, cut)
            if told is None or abs(size - told[1]) > _trifle(told[1]):
                changed[prefix] = size
            elif told is not None:
                size = told[1]
            self._told.pop(prefix, None)
            self._told[prefix] = sketch.count, size
        _bound(self._told, MAX_PREFIXES)
        keys = {key: self._keys[key] for key in self._new_keys if key in self._keys}
        self._news.clear()
        self._new_keys.clear()
        return changed, keys

    def all(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return all that workers have been told, for one that has just come."""
        prefixes = {prefix: size for prefix, (_, size) in self._told.items()}
        return prefixes, dict(self._keys)


def expected(peaks: QuantileSketch, cut: Collection[int] = ()) -> int:
    """Return what a task is expected to take, in bytes.

    Parameters
    ----------
    peaks
        Of tasks that were measured to their end.
    cut
        What tasks held that were cut short: they would have taken at least that.
    """
    known = peaks.quantile(QUANTILE) or 0
    more = [size for size in cut if size > known]
    if not more:  # what says less than is known says nothing
        return known
    both = QuantileSketch.of(more)
    both.merge(peaks)
    return max(known, _quantile_above(both))


def _quantile_above(sketch: QuantileSketch) -> int:
    """Return the quantile, the larger of two values that it lies between."""
    rank = math.ceil(QUANTILE * sketch.count) - 1
    return sketch.quantile((rank + 0.5) / max(1, sketch.count - 1)) or 0


def _trifle(told: int) -> float:
    return max(TOLD_BYTES, TOLD_PART * told)


def _bound(known: OrderedDict[str, Any], most: int) -> None:
    while len(known) > most:
        known.popitem(last=False)
