"""The classic that runs out of memory: an all-to-all rechunk.

The arrays of :func:`dask_memdash.demos.shuffles.array`, larger and larger, until a task
is given up with ``KilledWorker``; then MemDash's JSON API is asked what happened, and
the same array is rechunked once more as MemDash advises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from distributed import KilledWorker

from dask_memdash.demos import tables, terminal
from dask_memdash.demos.advice import Advice, followed, taken_apart
from dask_memdash.demos.api import Api
from dask_memdash.demos.cluster import Plan, Running, running
from dask_memdash.demos.experiment import Result, Say, run, series
from dask_memdash.demos.shuffles import array
from dask_memdash.terms import DEATHS

#: As Dask calls the method whose tasks the guard can hold back: those of a P2P shuffle
#: keep what they make in buffers.
HELD_BACK = "tasks"

#: How many times as long as others the run with the guard may take: tasks wait for each
#: other, and what is stored goes to disk and back.
LONGER_GUARDED = 3

#: What is said where following the advice was not enough.
NOT_ENOUGH = "It did not complete: the advice was not enough."


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is run."""

    #: √n of the arrays, smallest first.
    sizes: Sequence[int]
    #: As :func:`dask.array.rechunk` names it.
    method: str
    #: Longest run of one array, in seconds.
    timeout: float
    #: Whether to tell of each death too.
    details: bool = False


@contextmanager
def session(plan: Plan, experiment: Experiment, say: Say) -> Iterator[bool]:
    """Run the experiment, follow the advice, and keep the clusters up inside the block.

    Yields
    ------
    bool
        Whether a task was given up, and the same rechunk completed once MemDash's
        advice was followed.
    """
    with running(plan) as cluster:
        say(f"\nWatch it live: {cluster.page}\n")
        results = list(until_killed(cluster, experiment, say))
        advice = explain(Api(cluster.api), results, experiment.details, say)
        if advice is None:
            yield False
            return
        changed = followed(advice.line, replace(plan, port=0))
        if changed is None:
            say("\nThat is not for this demo to change, so it ends here.")
            yield False
            return
        with following(changed, experiment, results[-1], say) as completed:
            pass
        guarded = replace(plan, port=0, guard=True)
        root = experiment.sizes[len(results) - 1]
        with under_guard(guarded, experiment, root, say):
            yield completed


@contextmanager
def under_guard(
    plan: Plan, experiment: Experiment, root: int, say: Say
) -> Iterator[None]:
    """Rechunk the same array task by task, with the guard on and no advice followed.

    Says what became of it, whatever that is.
    """
    how = "The same rechunk as at first, with"
    if experiment.method != HELD_BACK:
        how = "The same array task by task, which the guard can hold back, with"
    what = f"{how} `MemDash(guard=True)` and nothing else changed:"
    say("\n".join(["", *terminal.paragraph(what), ""]))
    with running(plan) as cluster:
        case = array(root, 1.0, HELD_BACK)
        longest = LONGER_GUARDED * experiment.timeout
        after = run(cluster, case, longest, lambda text: None)
        guard = Api(cluster.api).get("cluster")["guard"]
        told = f"{tables.with_guard(after)} {tables.what_it_did(guard, after)}"
        say("\n".join(terminal.paragraph(told)))
        yield


@contextmanager
def following(
    plan: Plan, experiment: Experiment, before: Result, say: Say
) -> Iterator[bool]:
    """Run what has failed again, on a new cluster as it was advised.

    Yields
    ------
    bool
        Whether it completed, without a death.
    """
    size = terminal.workers(plan.workers, plan.threads, plan.memory_limit)
    what = f"The same rechunk with that line, on a new cluster of {size} each:"
    say("\n".join(["", *terminal.paragraph(what), ""]))
    with running(plan) as cluster:
        after = run(cluster, before.case, experiment.timeout, lambda text: None)
        say(tables.before_and_after(before, after))
        completed = after.outcome == "ok" and not after.deaths
        if completed:
            say("\nIt completed: the advice helped.")
        else:
            say("\n".join(["", *tables.diagnoses([after]), "", NOT_ENOUGH]))
        yield completed


def until_killed(
    cluster: Running, experiment: Experiment, say: Say
) -> Iterator[Result]:
    """Compute array after array until ``KilledWorker``, or one takes too long."""
    cases = [array(root, 1.0, experiment.method) for root in experiment.sizes]
    for result in series(cluster, cases, experiment.timeout, say):
        yield result
        if result.outcome == KilledWorker.__name__:
            return


def explain(
    api: Api, results: Sequence[Result], details: bool, say: Say
) -> Advice | None:
    """Tell in words what MemDash knows of the run that failed.

    Parameters
    ----------
    details
        Whether to tell of each death behind it too.

    Returns
    -------
    Advice or None
        The one with a line to paste that was told; None where there is none, or no
        task was given up with ``KilledWorker``.
    """
    last = results[-1]
    if last.outcome != KilledWorker.__name__:
        say(
            "No task was given up with KilledWorker: "
            f"the last array ended with {last.outcome!r}. "
            "Try larger arrays (--sizes) or a lower --memory-limit."
        )
        return None
    failure = last.failure
    if failure is None:
        say("Dask gave a task up, but MemDash has no failure of it.")
        return None
    advices = map(taken_apart, failure["diagnosis"]["advice"][:1])
    advice = next(advices, None)
    apart = last.deaths - failure["deaths"]
    say("\n" + "\n".join(terminal.failure(failure, apart)))
    deaths = [i for i in last.incidents if i["kind"] in DEATHS] if details else []
    for incident in deaths:
        say("\n" + "\n".join(terminal.death(api.incident(incident["id"]))))
    return advice
