"""What the guards of a cluster's workers did, together: counts, and the newest actions.

A worker that has left keeps its counts here.  Imports the standard library only.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from dask_memdash.model.event_parts import GuardAction, Guarding

#: Actions that are kept, and workers whose counts are kept apart.
KEPT = 1_000
WORKERS = 5_000

#: What is summed up over workers.
SUMMED = ("held", "seconds", "opened", "drained", "passed", "failed")


@dataclass(frozen=True, slots=True)
class GuardDone:
    """One action of one worker's guard."""

    #: Counted from 1 in the order in which the scheduler heard of it.
    number: int
    address: str
    name: str
    action: GuardAction


class GuardLog:
    """Belongs to the model.  Empty where no worker has a guard."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, Guarding] = OrderedDict()
        # Of workers that are not kept apart any more.
        self._older = Guarding("off")
        self._recent: deque[GuardDone] = deque(maxlen=KEPT)
        #: How many actions there were of each kind.
        self.kinds: Counter[str] = Counter()
        #: How many there were in all.
        self.number = 0

    def see(
        self,
        address: str,
        name: str,
        guard: Guarding | None,
        actions: Iterable[GuardAction],
    ) -> None:
        """Take in what a worker tells of its guard."""
        if guard is None:
            return
        self._last.pop(address, None)
        self._last[address] = guard
        if len(self._last) > WORKERS:
            _, gone = self._last.popitem(last=False)
            self._older = _summed(self._older, gone)
        for action in actions:
            self.number += 1
            self.kinds[action.kind] += 1
            self._recent.append(GuardDone(self.number, address, name, action))

    @property
    def total(self) -> Guarding | None:
        """The counts of all workers so far, and the mode of most; None without any."""
        if not self._last:
            return None
        total = self._older
        for guard in self._last.values():
            total = _summed(total, guard)
        modes = Counter(guard.mode for guard in self._last.values())
        acting = [mode for mode, _ in modes.most_common() if mode != "off"]
        return replace(total, mode=acting[0] if acting else "off")

    def newest(self, most: int) -> list[GuardDone]:
        """Return the newest actions, newest first."""
        return list(islice(reversed(self._recent), most))

    def since(self, number: int) -> Iterator[GuardDone]:
        """Iterate over what came after an action, oldest first, as far as kept."""
        missing = self.number - number
        begin = max(0, len(self._recent) - missing)
        return islice(self._recent, begin, None)


def _summed(one: Guarding, other: Guarding) -> Guarding:
    sums = {name: getattr(one, name) + getattr(other, name) for name in SUMMED}
    return replace(one, **sums)
