"""What is said of simulated deaths, held against what is true of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from corpus.faults import Evidence, choose, tell
from corpus.plan import Plan, Truth
from corpus.scenarios import SCENARIOS
from corpus.world import Ramp, hash_of
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import Event, GraphArrived, TaskKilled, Ticked
from dask_memdash.model.incidents import DEATHS
from dask_memdash.store.live import LiveStore
from dask_memdash.terms import NOT_MEMORY

#: What is said where there is no incident.
NONE = "no incident"


@dataclass(frozen=True)
class Verdict:
    """One death: what was said of it, and whether that is right."""

    seed: int
    scenario: str
    fault: str
    young: bool
    threads: int
    truth: Truth
    relief: str
    #: What was said.
    cause: str
    said_relief: str | None
    prefix: str | None
    key: str | None
    confidence: float
    text: str
    #: Evidence that is gone for good.
    lost: frozenset[str]
    #: Whether a worker before died of the same, and what is said of both together:
    #: of the task that Dask gave up.
    twice: bool
    together: str | None

    @property
    def true_cause(self) -> str:
        """The cause, as the confusion matrix names it."""
        return "/".join(sorted(self.truth.causes)) or NONE

    @property
    def exact(self) -> bool:
        """Whether the cause that was said is the true one."""
        if not self.truth.causes:
            return self.cause == NONE or self.cause in NOT_MEMORY
        return self.cause in self.truth.causes

    @property
    def right(self) -> bool:
        """Whether the evidence that was left allows what was said."""
        if self.together not in (None, "unknown", *self.truth.causes, *self.left):
            return False
        return self.exact or self.cause in self.left

    @property
    def left(self) -> frozenset[str]:
        """Causes that are right as well, as some evidence is gone."""
        left = (self.truth.without.get(name, frozenset()) for name in self.lost)
        return frozenset().union(*left)

    @property
    def blind(self) -> bool:
        """Whether nothing was said although the flight recorder arrived."""
        unknown = self.cause == "unknown" and "unknown" not in self.truth.causes
        return unknown and not self.lost & {"report", "recorder"}

    @property
    def missed(self) -> bool:
        """Whether it is blind though nothing that the cause rests on was lost."""
        return self.blind and "unknown" not in self.left

    @property
    def relief_right(self) -> bool | None:
        """Whether the relief is right; None where it is not to be judged."""
        if not self.exact or not self.truth.causes or self.lost:
            return None
        return self.said_relief in self.truth.reliefs

    @property
    def responsible_right(self) -> bool | None:
        """Whether the responsible is right; None where it is not to be judged."""
        if not self.exact or not self.truth.causes or self.lost:
            return None
        if len(self.truth.causes) > 1 and self.cause == "unaccounted":
            return self.prefix is None
        if self.truth.key is not None and self.key != self.truth.key:
            return False
        return self.prefix == self.truth.prefix


def earlier(plan: Plan) -> list[Event]:
    """Return the death of a worker before, of the same tasks; Dask gives one up then.

    The worker in its place is the plan's own, and dies of the same.
    """
    world = plan.world
    first = world.later(-60.0, "tcp://10.0.0.1:4000", world.pid - 100)
    for task in first.tasks:
        # Between two looks of a nanny a task grows on: no two deaths are alike.
        task.counted = int(task.counted * plan.random.uniform(0.94, 1.0))
        task.native = int(task.native * plan.random.uniform(0.94, 1.0))
    missing = max(0, world.rss(world.died) - first.rss(first.died))
    first.grown.append(Ramp(missing, first.joined, first.joined + 0.01))
    told = tell(replace(plan, world=first, more=[]))
    task = world.tasks[0]
    plan.more.append(
        TaskKilled(
            time=world.died + 0.015,
            task=task.info(),
            hash=hash_of(task.key),
            address=world.address,
            allowed_failures=1,
        )
    )
    own = (*told.before[:1], *told.beats, *told.leaving, *told.removed, *told.reports)
    return sorted(own, key=lambda event: event.time)


@dataclass
class Imagined:
    """A death to be told: its truth, and what arrives of it."""

    scenario: str
    plan: Plan
    truth: Truth
    fault: str
    lost: frozenset[str]
    #: Whether a worker before died of the same.
    twice: bool
    #: What was told before, and of the death itself.
    before: list[Event]
    told: Evidence


def imagine(seed: int) -> Imagined:
    """Let one worker die as its seed says."""
    random = Random(seed)
    scenario = SCENARIOS[seed % len(SCENARIOS)]
    plan, truth = scenario(random)
    graph = any(isinstance(event, GraphArrived) for event in plan.more)
    twice = bool(plan.world.tasks) and truth.memory and not graph
    twice = twice and random.random() < 0.25
    before = earlier(plan) if twice else []
    told = tell(plan)
    fault = choose(random)
    lost = frozenset(fault(told, plan))
    name = scenario.__name__.rstrip("_")
    return Imagined(name, plan, truth, fault.__name__, lost, twice, before, told)


def told_model(imagined: Imagined) -> ClusterModel:
    """Tell all of it to a model."""
    model = ClusterModel()
    for event in (*imagined.before, *imagined.told.events()):
        model.handle(event)
    model.handle(Ticked(imagined.plan.world.died + 100))
    return model


def simulate(seed: int) -> Verdict:
    """Let one worker die, tell it to the model, and judge what is said."""
    imagined = imagine(seed)
    world = imagined.plan.world
    model = told_model(imagined)
    deaths = [i for i in model.incidents if i.kind in DEATHS]
    own = [i for i in deaths if i.worker.pid == world.pid]
    store = LiveStore(model)
    said = store.incident(own[0].id)["diagnosis"] if own else None
    killed = [i for i in model.incidents if i.kind == "killed-worker"]
    together = store.incident(killed[0].id)["diagnosis"] if killed else None
    diagnosis = said or {}
    responsible = diagnosis.get("responsible", {})
    return Verdict(
        seed=seed,
        scenario=imagined.scenario,
        fault=imagined.fault,
        young=imagined.plan.young,
        threads=world.nthreads,
        truth=imagined.truth,
        relief=imagined.plan.relief,
        cause="doubled incident" if len(own) > 1 else diagnosis.get("cause", NONE),
        said_relief=diagnosis.get("relief"),
        prefix=responsible.get("prefix"),
        key=responsible.get("key"),
        confidence=diagnosis.get("confidence", 0.0),
        text=diagnosis.get("text", ""),
        lost=imagined.lost,
        twice=imagined.twice,
        together=together["cause"] if together else None,
    )
