"""The classic that runs out of memory: an all-to-all rechunk.

The arrays of :func:`dask_memdash.demos.shuffles.array`, larger and larger, until a task
is given up with ``KilledWorker``; then MemDash's JSON API is asked what happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from distributed import KilledWorker

from dask_memdash.demos import tables, terminal
from dask_memdash.demos.api import Api
from dask_memdash.demos.cluster import Plan, Running, running
from dask_memdash.demos.experiment import Result, Say, series
from dask_memdash.demos.shuffles import array


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is run."""

    #: √n of the arrays, smallest first.
    sizes: Sequence[int]
    #: As :func:`dask.array.rechunk` names it.
    method: str
    #: Longest run of one array, in seconds.
    timeout: float


@contextmanager
def session(plan: Plan, experiment: Experiment, say: Say) -> Iterator[bool]:
    """Run the experiment on a cluster of its own, and keep that up inside the block.

    Yields
    ------
    bool
        Whether a task was given up, and every reported cause stands on evidence: see
        :func:`explain`.
    """
    with running(plan) as cluster:
        say(f"\nWatch it live: {cluster.page}\n")
        results = list(until_killed(cluster, experiment, say))
        say("\n" + tables.outcomes(results) + "\n")
        yield explain(Api(cluster.api), results, say)


def until_killed(
    cluster: Running, experiment: Experiment, say: Say
) -> Iterator[Result]:
    """Compute array after array until ``KilledWorker``, or one takes too long."""
    cases = [array(root, 1.0, experiment.method) for root in experiment.sizes]
    for result in series(cluster, cases, experiment.timeout, say):
        yield result
        if result.outcome == KilledWorker.__name__:
            return


def explain(api: Api, results: Sequence[Result], say: Say) -> bool:
    """Tell in words what MemDash knows of the run that failed.

    Returns
    -------
    bool
        A task was given up with ``KilledWorker``, and MemDash names tasks that were
        executing at the deaths behind it.
    """
    last = results[-1]
    given_up = [i for i in last.incidents if i["kind"] == "killed-worker"]
    if last.outcome != KilledWorker.__name__:
        say(
            "No task was given up with KilledWorker: "
            f"the last array ended with {last.outcome!r}. "
            "Try larger arrays (--sizes) or a lower --memory-limit."
        )
        return False
    if not given_up:
        say("Dask gave a task up, but MemDash has no incident of it.")
        return False
    explained = True
    for incident in given_up:
        details = api.incident(incident["id"])
        attempts = [api.incident(attempt) for attempt in details["attempts"]]
        say("\n".join(terminal.killed_worker(details, attempts)) + "\n")
        explained &= any(attempt["suspects"] for attempt in attempts)
    if not explained:
        say("MemDash does not know which tasks were running at the deaths.")
    return explained
