"""The classic that runs out of memory: an all-to-all rechunk.

An array of (n, n) random float64 in tall chunks (n, √n) becomes wide chunks (√n, n):
every output needs a piece of every input.  n grows until a task is given up with
``KilledWorker``; then MemDash's JSON API is asked what happened.

After https://github.com/jdanbrown/dask-oom (``oom_array.py``), which goes with
https://github.com/dask/dask/issues/2456.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future, KilledWorker

from dask_memdash.analysis.describe import format_bytes
from dask_memdash.demos import DemoError, words
from dask_memdash.demos.api import Api, deaths
from dask_memdash.demos.cluster import Plan, Running, running

#: √n of the arrays, smallest first; the first six are those of the original.
SIZES = (64, 96, 112, 120, 128, 144, 160)

#: Ways of rechunking, as :func:`dask.array.rechunk` names them.
METHODS = ("p2p", "tasks")

#: How long the last reports of a death may take to arrive, in seconds.
SETTLE = 20.0

#: Between two looks at the progress, in seconds.
TICK = 0.25

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is run."""

    sizes: Sequence[int] = SIZES
    method: str = "p2p"
    #: Longest run of one array, in seconds.
    timeout: float = 300.0


@dataclass(slots=True)
class Run:
    """One array: what was computed, and how it ended."""

    root: int
    method: str
    #: In seconds.
    runtime: float = 0.0
    #: ``done``, ``timed out`` or the name of the exception.
    outcome: str = "running"
    incidents: list[dict[str, Any]] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Length of a side."""
        return self.root**2

    @property
    def array_bytes(self) -> int:
        """Size of the array, in bytes."""
        return self.n**2 * 8

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk, in bytes."""
        return self.n * self.root * 8

    def row(self) -> list[str]:
        """Give the cells of the closing table."""
        return [
            f"{self.n:,} × {self.n:,}",
            format_bytes(self.array_bytes),
            format_bytes(self.chunk_bytes),
            words.seconds(self.runtime),
            self.outcome,
            str(deaths(self.incidents)),
        ]


HEADER = ("array", "size", "chunk", "runtime", "outcome", "deaths")


def require_dask_array() -> None:
    """See whether ``dask.array`` can be imported.

    Raises
    ------
    DemoError
        It cannot: NumPy is missing.
    """
    try:
        import dask.array  # noqa: F401
    except ImportError as error:
        raise DemoError(
            f"the demo computes with dask.array, which cannot be imported ({error}). "
            'Install what it needs: pip install "dask-memdash[demo]"'
        ) from None


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
        runs = list(until_killed(cluster, experiment, say))
        say("\n" + words.table(HEADER, [run.row() for run in runs]) + "\n")
        yield explain(Api(cluster.api), runs, say)


def until_killed(cluster: Running, experiment: Experiment, say: Say) -> Iterator[Run]:
    """Compute array after array until ``KilledWorker``, or one takes too long."""
    api = Api(cluster.api)
    for root in experiment.sizes:
        run = Run(root, experiment.method)
        start = time.time()
        compute(cluster.client, run, experiment.timeout, say)
        run.runtime = time.time() - start
        run.incidents = api.settled(start, SETTLE)
        say(
            f"{_title(run)}  {run.outcome} after {words.seconds(run.runtime)}, "
            f"{words.count(deaths(run.incidents), 'death')}"
        )
        yield run
        if run.outcome in (KilledWorker.__name__, "timed out"):
            return


def compute(client: Client, run: Run, timeout: float, say: Say) -> None:
    """Compute one array with a progress bar, and note how it ended."""
    import dask.array as da

    tall, wide = (run.n, run.root), (run.root, run.n)
    array = da.random.random((run.n, run.n), chunks=tall)
    total = array.rechunk(wide, method=run.method).sum()
    future: Future[Any] = client.compute(total)
    deadline = time.monotonic() + timeout
    try:
        with _bar(_title(run)) as draw:
            while not future.done() and time.monotonic() < deadline:
                draw(*client.run_on_scheduler(_progress))
                time.sleep(TICK)
        if not future.done():
            run.outcome = "timed out"
            return
        error = future.exception(timeout=10)
        run.outcome = type(error).__name__ if error is not None else "done"
    finally:
        future.cancel()


def explain(api: Api, runs: Sequence[Run], say: Say) -> bool:
    """Tell in words what MemDash knows of the run that failed.

    Returns
    -------
    bool
        A task was given up with ``KilledWorker``, and MemDash names tasks that were
        executing at the deaths behind it.
    """
    last = runs[-1]
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
        say("\n".join(words.killed_worker(details, attempts)) + "\n")
        explained &= any(attempt["suspects"] for attempt in attempts)
    if not explained:
        say("MemDash does not know which tasks were running at the deaths.")
    return explained


def _title(run: Run) -> str:
    return f"{f'{run.n:,} × {run.n:,}':>15}  {format_bytes(run.array_bytes):>8}"


def _progress(dask_scheduler: Any = None) -> tuple[int, int]:
    """Count finished and all tasks; runs on the scheduler's loop."""
    finished = total = 0
    for group in dask_scheduler.task_groups.values():
        total += len(group)
        states = group.states
        waiting = ("waiting", "no-worker", "queued", "processing", "erred")
        finished += len(group) - sum(states.get(state, 0) for state in waiting)
    return finished, total


@contextmanager
def _bar(title: str, width: int = 30) -> Iterator[Callable[[int, int], None]]:
    """Draw a progress bar where there is a terminal, and nothing elsewhere."""
    terminal = sys.stdout.isatty()

    def draw(finished: int, total: int) -> None:
        if terminal and total:
            filled = width * finished // total
            bar = "█" * filled + "·" * (width - filled)
            print(  # noqa: T201
                f"\r{title}  {bar} {finished:,} of {total:,} tasks ", end="", flush=True
            )

    try:
        yield draw
    finally:
        if terminal:
            print("\r\033[K", end="", flush=True)  # noqa: T201
