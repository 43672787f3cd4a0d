"""The card of the guard: what waits for memory, and what was done so far.

Where ``memdash.guard`` is off there is no such card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dask_memdash.store.guard_shapes import ClusterGuard, GuardAct, GuardHolds
from dask_memdash.views.base import TextView

#: Rows of each list at most.
MOST = 8


class Rows(NamedTuple):
    """The first rows of a list, and how many more there are."""

    shown: Sequence[Any]
    more: int


class Alike(NamedTuple):
    """Actions of one kind on tasks of one prefix, one after another on one worker."""

    newest: GuardAct
    times: int
    #: The longest that one of them had waited, in seconds, and the most one needed.
    seconds: float
    need: int


def together(actions: Sequence[GuardAct]) -> list[Alike]:
    """Join neighbours that say the same of tasks of one prefix."""
    found: list[Alike] = []
    for act in actions:
        last = found[-1] if found else None
        if last is not None and _name(last.newest) == _name(act):
            found[-1] = Alike(
                last.newest,
                last.times + 1,
                max(last.seconds, act["seconds"]),
                max(last.need, act["need"]),
            )
        else:
            found.append(Alike(act, 1, act["seconds"], act["need"]))
    return found


def _name(act: GuardAct) -> tuple[str, str, str]:
    return act["kind"], act["address"], act["prefix"]


def rows(found: Sequence[Any]) -> Rows:
    """Cut a list to what is shown."""
    return Rows(found[:MOST], max(0, len(found) - MOST))


def waiting_for(guard: ClusterGuard | None, prefix: str) -> GuardHolds | None:
    """Return what waits of one prefix; None where nothing does."""
    waiting = [] if guard is None else guard["waiting"]
    return next((held for held in waiting if held["prefix"] == prefix), None)


def done_to(guard: ClusterGuard | None, prefix: str) -> Mapping[str, int]:
    """Count the newest actions on tasks of one prefix, by kind."""
    found: dict[str, int] = {}
    for act in [] if guard is None else guard["actions"]:
        if act["prefix"] == prefix:
            found[act["kind"]] = found.get(act["kind"], 0) + 1
    return found


class GuardView(TextView):
    """What the guards of all workers do."""

    template = "guard.html"

    def draw(self) -> None:
        """Bring the card up to date; empty without a guard."""
        guard = self.store.cluster()["guard"]
        if guard is None:
            self.about.write(guard=None)
            return
        self.about.write(
            guard=guard,
            waiting=rows(guard["waiting"]),
            actions=rows(together(guard["actions"])),
        )
