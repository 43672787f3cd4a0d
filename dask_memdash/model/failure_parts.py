"""What a failure is made of: its incidents, what they share, what they have cost.

How incidents are put together is :mod:`dask_memdash.model.failures`'s.

Imports the standard library only.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeVar

from dask_memdash.model.incidents import DEATHS

#: Kinds that name a failure, first those that say most about how it went.
WEIGHTIEST = ("killed-worker", "stuck")

#: Tasks that a failure cut short of which it is known whether they are still to run.
MAX_CUT_SHORT = 20

#: What incidents of one failure have in common: a graph, a client's prefix, or a key.
Link = tuple[str, ...] | tuple[str, int]

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Loss:
    """What incidents have cost; None where it is not known of any."""

    keys: int | None = None
    bytes: int | None = None
    #: Work to repeat, in seconds.
    seconds: float | None = None
    #: Of these keys and bytes, what the cluster's memory of intermediates has too.
    keys_stored: int | None = None
    bytes_stored: int | None = None

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            _sum(self.keys, other.keys),
            _sum(self.bytes, other.bytes),
            _sum(self.seconds, other.seconds),
            _sum(self.keys_stored, other.keys_stored),
            _sum(self.bytes_stored, other.bytes_stored),
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an incident comes from."""

    #: What it shares with others of its failure.
    links: frozenset[Link]
    prefixes: frozenset[str]
    #: Whether the prefix alone is known, so that any failure with it will do.
    vague: bool = False
    #: Graphs whose outputs were lost with the worker.
    lost: frozenset[str] = frozenset()
    #: The graph, where it had finished before: what was lost of it is made again.
    again: str | None = None

    @property
    def graph(self) -> str | None:
        """The graph, None where it is not of one that is known."""
        return next((str(link[1]) for link in self.links if link[0] == "graph"), None)

    def meets(self, other: Origin) -> bool:
        """Say whether both are of one failure, as far as is known."""
        if not self.links.isdisjoint(other.links):
            return True
        if self.again in other.lost or other.again in self.lost:
            return True
        unsure = (
            self.vague or other.vague or (self.graph is None) != (other.graph is None)
        )
        return unsure and not self.prefixes.isdisjoint(other.prefixes)


@dataclass(frozen=True, slots=True)
class Member:
    """What a failure keeps of one of its incidents."""

    id: str
    time: float
    kind: str
    #: Name of the worker: one that is restarted keeps it, and has a new address.
    worker: str
    origin: Origin
    loss: Loss
    #: Keys of tasks that it cut short, or that Dask gave up, as text: some of them.
    keys: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Failure:
    """The incidents of one computation."""

    id: str
    #: Unix time of the first incident, in seconds.
    opened: float
    #: When it was closed; None while it is open.
    closed: float | None = None
    #: Id of its graph, as the order has it; None for single submits, and where no
    #: task was involved.
    graph: str | None = None
    #: The incidents that are listed, oldest first.
    members: OrderedDict[str, Member] = field(default_factory=OrderedDict)
    #: Those that are only counted any more: kind → number, and what they cost.
    others: Counter[str] = field(default_factory=Counter)
    others_loss: Loss = field(default=Loss())
    #: Names of all workers that were involved.
    workers: set[str] = field(default_factory=set)
    #: Whether tasks of its are still to run, as last looked at.
    alive: bool = False

    @property
    def kinds(self) -> Counter[str]:
        """Kind of incident → how many."""
        return self.others + Counter(member.kind for member in self.members.values())

    @property
    def count(self) -> int:
        """How many incidents it has had."""
        return len(self.members) + self.others.total()

    @property
    def deaths(self) -> int:
        """How many workers' processes have died."""
        return sum(number for kind, number in self.kinds.items() if kind in DEATHS)

    @property
    def kind(self) -> str:
        """The kind of incident that says most: how it ended, or what was most."""
        kinds = self.kinds
        for kind in WEIGHTIEST:
            if kinds[kind]:
                return kind
        deaths = {kind: number for kind, number in kinds.items() if kind in DEATHS}
        most = deaths or dict(kinds)
        return max(sorted(most), key=lambda kind: most[kind])

    @property
    def killed(self) -> list[str]:
        """The listed incidents in which Dask gave tasks up, oldest first."""
        return [m.id for m in self.members.values() if m.kind == "killed-worker"]

    @property
    def cut_short(self) -> list[str]:
        """Keys of tasks that it cut short and that Dask has not given up, as text.

        The newest of them.
        """
        found: dict[str, None] = {}
        for member in reversed(self.members.values()):
            if member.kind in DEATHS:
                found.update(dict.fromkeys(member.keys))
        for member in self.members.values():
            if member.kind == "killed-worker":
                for key in member.keys:
                    found.pop(key, None)
        return list(found)[:MAX_CUT_SHORT]

    @property
    def loss(self) -> Loss:
        """What its incidents have cost, summed."""
        return sum((m.loss for m in self.members.values()), self.others_loss)

    @property
    def last(self) -> float:
        """Unix time of the newest incident, in seconds."""
        return max((m.time for m in self.members.values()), default=self.opened)

    def shares(self, origin: Origin, but: Collection[str] = ()) -> bool:
        """Say whether something of this origin belongs here, by the other incidents.

        Parameters
        ----------
        but
            Ids of incidents that do not count.
        """
        return any(
            origin.meets(member.origin)
            for member in self.members.values()
            if member.id not in but
        )


def _sum(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
