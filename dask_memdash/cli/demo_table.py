"""The demos that there are: what each is called, says of itself, takes and runs.

What they do stands in :mod:`dask_memdash.demos`, which is imported when one runs:
`made_by` is a function of :mod:`dask_memdash.demos.runs`, called with `of` and with
what the command line says.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import cleandoc

from dask_memdash.cli import demo_options as options


@dataclass(frozen=True, slots=True)
class Demo:
    """One command of ``dask memdash demo``."""

    name: str
    #: Function of `dask_memdash.demos.runs` that makes it, and its first arguments.
    made_by: str
    of: tuple[str, ...]
    #: First line of its help, and what the list of demos says where that is too long.
    title: str
    #: The paragraphs of its help.
    text: str
    #: When it ends with status 0, and when with 1.
    shown: str
    not_shown: str
    #: Arguments that are worth a try.
    examples: tuple[str, ...]
    options: tuple[options.Decorator, ...]
    short_help: str | None = None

    @property
    def help(self) -> str:
        """All that ``--help`` says before the options."""
        examples = "\n".join(
            f"  dask memdash demo {self.name} {arguments}".rstrip()
            for arguments in self.examples
        )
        return f"""{self.title}

{cleandoc(self.text)}

\b
Exit status:
  0    {self.shown}
  1    {self.not_shown}
  2    options that make no sense
  3    it cannot run here: the message says why
  130  interrupted

\b
Examples:
{examples}
"""


#: How a series of sizes ends.
SERIES_SHOWN = "every size was run, and every death has a known cause"
SERIES_NOT_SHOWN = "a size took too long or could not be run, or a cause is not known"


def _own_cluster(
    timeout: str, what: str, more: options.Decorator
) -> tuple[options.Decorator, ...]:
    """Return the options of a demo whose cluster the user may size."""
    return (
        options.WORKERS,
        options.MEMORY_LIMIT,
        options.ADDRESS,
        options.timeout(timeout, what),
        options.HOLD,
        options.FORCE,
        more,
    )


def _complaint(
    name: str, module: str, title: str, text: str, shown: str, short: str | None = None
) -> Demo:
    """Return a demo that shows a complaint and its remedies, on given clusters."""
    return Demo(
        name=name,
        made_by="complaint",
        of=(module,),
        title=title,
        text=text,
        shown=shown,
        not_shown="something of this was not seen",
        examples=("--hold", "--dashboard-address :8787", "--json"),
        options=(options.ADDRESS, options.HOLD, options.FORCE, options.JSON),
        short_help=short,
    )


DEMOS = (
    Demo(
        name="rechunk",
        made_by="until_killed",
        of=(),
        title="Rechunk larger and larger arrays until workers die of it.",
        text="""
        Starts a cluster on this machine, registers MemDash, prints the page's address,
        and turns (n, n) random arrays from tall chunks (n, √n) into wide ones (√n, n),
        for growing n, until Dask gives a task up with KilledWorker. Then it prints what
        happened, why, and the line that MemDash advises to paste, runs the same rechunk
        with that line on a new cluster, and once more task by task with the guard.
        """,
        shown="a task was given up, and with MemDash's advice the same completed",
        not_shown="no task was given up, or it did not complete as advised",
        examples=(
            "--hold",
            "--method tasks --timeout 10min",
            "--workers 2 --memory-limit 1GB --sizes 120,144,160",
        ),
        options=(
            options.series_of("64,96,112,120,128,144,160", "Square roots of n"),
            options.method(
                ("p2p", "tasks"),
                "How to rechunk: through Dask's shuffle service, or task by task.",
            ),
            *_own_cluster("300s", "array", options.DETAILS),
        ),
    ),
    Demo(
        name="array",
        made_by="shuffle",
        of=("array",),
        title="Rechunk arrays of the sizes of dask issue 2456, and two larger ones.",
        short_help="Rechunk arrays of the sizes of dask issue 2456.",
        text="""
        Turns (n, n) random arrays from tall chunks (n, √n) into wide ones (√n, n). The
        first five sizes (128 MiB to 2 GiB) are those of the issue, where four workers
        of 584 MB ran out of memory from √n = 120 on. For each size it prints the size
        of data and chunks, the time it took, how it ended, how many workers died, the
        cause that MemDash found, and the most that each part of the memory reached.

        On the way, Dask joins small chunks into chunks of up to 128 MiB. If a worker
        has no room for several of them, compare with --block-size-limit 16MiB.
        """,
        shown=SERIES_SHOWN,
        not_shown=SERIES_NOT_SHOWN,
        examples=(
            "",
            "--block-size-limit 16MiB",
            "--method tasks",
            "--sizes 64,96 --json",
        ),
        options=(
            options.series_of("64,96,112,120,128,144,160", "Square roots of n"),
            options.method(
                ("p2p", "tasks"),
                "How to rechunk: through Dask's shuffle service, or task by task "
                "as in 2017.",
            ),
            options.BLOCK_SIZE_LIMIT,
            options.SCALE,
            *_own_cluster("300s", "array", options.JSON),
        ),
    ),
    Demo(
        name="dataframe",
        made_by="shuffle",
        of=("dataframe",),
        title="Set the index of dataframes of the sizes of dask issue 2456.",
        text="""
        Each partition has 157,500 rows of ten random integers (12 MiB); the index moves
        every row to another partition. In the issue, four workers of 584 MB ran out of
        memory from 128 partitions (1.5 GiB) on. Needs pandas and pyarrow: pip install
        "dask[dataframe]".
        """,
        shown=SERIES_SHOWN,
        not_shown=SERIES_NOT_SHOWN,
        examples=(
            "",
            "--method tasks --sizes 64,128",
            "--scale 0.1 --json",
        ),
        options=(
            options.series_of("64,128,256,512", "Numbers of partitions"),
            options.method(
                ("p2p", "tasks", "disk"),
                "How to shuffle: through Dask's shuffle service, task by task "
                "as in 2017, or through files.",
            ),
            options.SCALE,
            *_own_cluster("300s", "dataframe", options.JSON),
        ),
    ),
    Demo(
        name="bag",
        made_by="shuffle",
        of=("bag",),
        title="Group bags of integers, in the smaller sizes of dask issue 2456.",
        short_help="Group bags of the smaller sizes of dask issue 2456.",
        text="""
        Each partition has 314,572 integers of 40 bytes (12 MiB), which are grouped by
        their remainder. Python handles every integer by itself, which takes some nine
        seconds a partition. On two processors the four sizes that run by default take
        some minutes, and all eight (2,4,8,32,64,128,256,512) take hours. In the issue,
        the first that ran out of memory had 512 partitions.
        """,
        shown=SERIES_SHOWN,
        not_shown=SERIES_NOT_SHOWN,
        examples=(
            "",
            "--sizes 2,4,8,32,64,128,256,512 --timeout 3h",
            "--method disk --sizes 2,4 --json",
        ),
        options=(
            options.series_of("2,4,8,32", "Numbers of partitions"),
            options.method(
                ("tasks", "disk"), "How to group: task by task, or through files."
            ),
            options.SCALE,
            *_own_cluster("20min", "bag", options.JSON),
        ),
    ),
    _complaint(
        "gc",
        "collector",
        "See garbage in reference cycles, and a worker that does not answer.",
        """
        Each task leaves 24 MB in a reference cycle, which only Python's garbage
        collector can free. Then the same with gc.collect() in the task, and without a
        cycle. Last, a task holds the interpreter's lock for four seconds: the worker
        cannot answer Dask, but MemDash still reads its memory from the nanny. One
        worker of 300 MB.
        """,
        "the garbage and the silence were seen, and the remedies helped",
        short="See garbage that stays, and a worker that is silent.",
    ),
    _complaint(
        "leak",
        "leak",
        "See tasks leave memory behind, in a cache that nobody empties.",
        """
        First with Dask's default thresholds: leaking workers pause and never resume.
        Then without pausing: their nannies restart them. Last with a cache of limited
        size, which solves it. Two workers of 300 MB.
        """,
        "MemDash named the leak and who leaks, and the bounded cache helped",
    ),
    _complaint(
        "pinned",
        "pinned",
        "See persisted outputs leave no room for the next step.",
        """
        First with spilling off, as some guides advise. Then with Dask's default
        thresholds, which move persisted outputs to disk. Last with the futures released
        before the next step. One worker of 300 MB.
        """,
        "MemDash named what was pinned, and both remedies helped",
    ),
    _complaint(
        "shared",
        "shared",
        "See workers of one host fail to lend each other memory.",
        """
        One task needs 320 MB. Four workers of 250 MB die of it one after another. One
        worker of 1,000 MB with four threads has room for it. It also loads Python and
        its modules once rather than four times.
        """,
        "MemDash named the task, and one worker with threads ran it",
    ),
    _complaint(
        "skew",
        "skew",
        "See partitions of very different sizes after a filter and repartition.",
        """
        Filters 214 files for one user's lines, repartitions what is left to four, and
        shows the sizes that MemDash measured. Then the same, repartitioned by size.
        Needs pandas and pyarrow: pip install "dask[dataframe]". Two workers of 300 MB.
        """,
        "the sizes were far apart, and near each other when repartitioned by size",
        short="See partitions of very different sizes.",
    ),
    Demo(
        name="storage",
        made_by="storage",
        of=(),
        title="See a persisted result outlive its worker and its cluster.",
        text="""
        Persists a rechunk whose source is expensive into a store of intermediates,
        kills the worker that holds the most of it (kill -9), closes the cluster, starts
        a new one, persists the same again and opens it by its name. Then the same with
        Dask alone. It counts how often the source was computed, and needs no
        credentials: the store is a directory that is gone at the end.
        """,
        shown="with the store nothing was computed twice, and with Dask alone it was",
        not_shown="something of this was not seen",
        examples=("--hold", "--workers 4", "--json"),
        options=(
            options.workers_of(2),
            options.memory_limit_of("400MB"),
            options.ADDRESS,
            options.HOLD,
            options.FORCE,
            options.JSON,
        ),
    ),
)
