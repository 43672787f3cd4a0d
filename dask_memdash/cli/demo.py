"""``dask memdash demo …``: options of the demos, and what they print.

What the demos do stands in :mod:`dask_memdash.demos`, which is imported when one runs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from dask_memdash.cli.options import (
    NOT_EXPLAINED,
    clear_messages,
    seconds,
    size,
    size_if_given,
    sizes,
    terminate_like_ctrl_c,
)

if TYPE_CHECKING:
    from dask_memdash.demos.cluster import Plan
    from dask_memdash.demos.experiment import Say

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _options(*options: Decorator) -> Decorator:
    """Put several options on a command, in the order in which help lists them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_WORKERS = click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Number of workers, with one thread each.",
)
_MEMORY_LIMIT = click.option(
    "--memory-limit",
    callback=size,
    metavar="SIZE",
    default="584MB",
    show_default=True,
    help="Memory limit of each worker.",
)
_ADDRESS = click.option(
    "--dashboard-address",
    metavar="ADDRESS",
    default="127.0.0.1:0",
    show_default=True,
    help="Where the dashboard listens, as host:port or :port; port 0 takes a free one.",
)
_HOLD = click.option(
    "--hold", is_flag=True, help="Keep cluster and page up until Ctrl-C."
)
_FORCE = click.option(
    "--force", is_flag=True, help="Start even if memory looks too short."
)
_JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write one JSON object to standard output, and everything else to standard "
    "error.",
)
_SCALE = click.option(
    "--scale",
    type=click.FloatRange(0.001, 10),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Make the data larger or smaller by this factor; partitions keep their size, "
    "arrays their shape.",
)


def _timeout(default: str, what: str) -> Decorator:
    return click.option(
        "--timeout",
        callback=seconds,
        metavar="DURATION",
        default=default,
        show_default=True,
        help=f"Longest time that one {what} may take.",
    )


def _sizes_option(default: str, what: str) -> Decorator:
    return click.option(
        "--sizes",
        callback=sizes,
        metavar="LIST",
        default=default,
        show_default=True,
        help=f"{what}, in the order in which they run.",
    )


def _method(methods: tuple[str, ...], what: str) -> Decorator:
    return click.option(
        "--method",
        type=click.Choice(methods),
        default=methods[0],
        show_default=True,
        help=what,
    )


@click.group()
def demo() -> None:
    """Run out of memory on purpose, on a local cluster, and see why.

    Every demo starts a small cluster on this machine, registers MemDash, prints the
    address of its page, and closes the cluster at the end or on Ctrl-C.

    Start with "rechunk", which ends with an explanation in words. "array",
    "dataframe" and "bag" are all-to-all experiments with the sizes of 2017 (dask issue
    2456). The others are complaints of practitioners, each with what helps.
    """


@demo.command()
@_options(
    _sizes_option("64,96,112,120,128,144,160", "Square roots of n"),
    _method(
        ("p2p", "tasks"),
        "How to rechunk: through Dask's shuffle service, or task by task.",
    ),
    _WORKERS,
    _MEMORY_LIMIT,
    _ADDRESS,
    _timeout("300s", "array"),
    _HOLD,
    _FORCE,
)
@click.pass_context
def rechunk(
    ctx: click.Context,
    sizes: tuple[int, ...],
    method: str,
    workers: int,
    memory_limit: int,
    dashboard_address: str,
    timeout: float,
    hold: bool,
    force: bool,
) -> None:
    """Rechunk larger and larger arrays until workers die of it.

    Starts a cluster on this machine, registers MemDash, prints the page's address,
    and turns (n, n) random arrays from tall chunks (n, √n) into wide ones (√n, n), for
    growing n, until Dask gives a task up with KilledWorker. Then it prints what was
    run, and what MemDash knows of the deaths.

    \b
    Exit status:
      0    a task was given up, and MemDash names the tasks that were running
      1    no task was given up, or the tasks are not known
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo rechunk --hold
      dask memdash demo rechunk --method tasks --timeout 10min
      dask memdash demo rechunk --workers 2 --memory-limit 1GB --sizes 120,144,160
    """
    with clear_messages(), terminate_like_ctrl_c():
        from dask_memdash.demos import rechunk as experiment
        from dask_memdash.demos.shuffles import ARRAY, require

        require(ARRAY.module)
        plan = _plan(workers, memory_limit, dashboard_address, force)
        click.echo(_starting(plan))
        chosen = experiment.Experiment(sizes, method, timeout)
        with experiment.session(plan, chosen, click.echo) as explained:
            if hold:
                _wait_for_ctrl_c(click.echo)
    ctx.exit(0 if explained else NOT_EXPLAINED)


@demo.command()
@_options(
    _sizes_option("64,96,112,120,128,144,160", "Square roots of n"),
    _method(
        ("p2p", "tasks"),
        "How to rechunk: through Dask's shuffle service, or task by task as in 2017.",
    ),
    click.option(
        "--block-size-limit",
        callback=size_if_given,
        metavar="SIZE",
        help="Largest chunk that Dask may make on the way; Dask's own array.chunk-size "
        "(128 MiB) unless given.",
    ),
    _SCALE,
    _WORKERS,
    _MEMORY_LIMIT,
    _ADDRESS,
    _timeout("300s", "array"),
    _HOLD,
    _FORCE,
    _JSON,
)
@click.pass_context
def array(ctx: click.Context, /, block_size_limit: int | None, **options: Any) -> None:
    """Rechunk arrays of the sizes of 2017, and two larger ones.

    Turns (n, n) random arrays from tall chunks (n, √n) into wide ones (√n, n). The
    first five sizes (128 MiB to 2 GiB) are those of dask-oom, where four workers of
    584 MB ran out of memory from √n = 120 on. For each size it prints data, chunk,
    runtime, outcome, deaths, the cause according to MemDash, and the most that each
    part of the breakdown reached.

    Where a worker has no room for several chunks of 128 MiB, compare with
    --block-size-limit 16MiB: Dask joins small chunks on the way unless told not to.

    \b
    Exit status:
      0    every size was run, and every death has a known cause
      1    a size took too long or could not be run, or a cause is not known
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo array
      dask memdash demo array --block-size-limit 16MiB
      dask memdash demo array --method tasks
      dask memdash demo array --sizes 64,96 --json
    """
    more = {} if block_size_limit is None else {"limit": block_size_limit}
    _series(ctx, "array", more, **options)


@demo.command()
@_options(
    _sizes_option("64,128,256,512", "Numbers of partitions"),
    _method(
        ("p2p", "tasks", "disk"),
        "How to shuffle: through Dask's shuffle service, task by task as in 2017, or "
        "through files.",
    ),
    _SCALE,
    _WORKERS,
    _MEMORY_LIMIT,
    _ADDRESS,
    _timeout("300s", "dataframe"),
    _HOLD,
    _FORCE,
    _JSON,
)
@click.pass_context
def dataframe(ctx: click.Context, /, **options: Any) -> None:
    """Set the index of dataframes of the sizes of 2017.

    Each partition has 157,500 rows of ten random integers (12 MiB); the index moves
    every row to another partition. In dask-oom four workers of 584 MB ran out of
    memory from 128 partitions (1.5 GiB) on. Needs pandas and pyarrow:
    pip install "dask[dataframe]".

    \b
    Exit status:
      0    every size was run, and every death has a known cause
      1    a size took too long or could not be run, or a cause is not known
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo dataframe
      dask memdash demo dataframe --method tasks --sizes 64,128
      dask memdash demo dataframe --scale 0.1 --json
    """
    _series(ctx, "dataframe", {}, **options)


@demo.command()
@_options(
    _sizes_option("2,4,8,32", "Numbers of partitions"),
    _method(("tasks", "disk"), "How to group: task by task, or through files."),
    _SCALE,
    _WORKERS,
    _MEMORY_LIMIT,
    _ADDRESS,
    _timeout("20min", "bag"),
    _HOLD,
    _FORCE,
    _JSON,
)
@click.pass_context
def bag(ctx: click.Context, /, **options: Any) -> None:
    """Group bags of random integers, in the smaller sizes of 2017.

    Each partition has 314,572 integers of 40 bytes (12 MiB), which are grouped by
    their remainder. Python does all the work, one integer after another: a partition
    takes some nine seconds of a processor, so that the four sizes that run by default
    take some minutes on two of them, and all eight (2,4,8,32,64,128,256,512) hours.
    In dask-oom the first that ran out of memory had 512 partitions.

    \b
    Exit status:
      0    every size was run, and every death has a known cause
      1    a size took too long or could not be run, or a cause is not known
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo bag
      dask memdash demo bag --sizes 2,4,8,32,64,128,256,512 --timeout 3h
      dask memdash demo bag --method disk --sizes 2,4 --json
    """
    _series(ctx, "bag", {}, **options)


_COMPLAINT = _options(_ADDRESS, _HOLD, _FORCE, _JSON)


@demo.command(
    name="gc", short_help="See garbage in cycles, and a worker that is silent."
)
@_COMPLAINT
@click.pass_context
def collector(ctx: click.Context, /, **options: Any) -> None:
    """See garbage in reference cycles, and a worker that does not answer.

    Tasks leave 24 MB each in a reference cycle, which Python's collector alone can
    free; then the same with gc.collect() in the task, and without a cycle. Last, a
    task holds the interpreter's lock for four seconds: the worker says nothing to
    Dask, while MemDash's nanny goes on reading its memory from outside. One worker of
    300 MB.

    \b
    Exit status:
      0    the garbage and the silence were seen, and the remedies helped
      1    not so
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo gc --hold
      dask memdash demo gc --dashboard-address :8787
      dask memdash demo gc --json
    """
    _complaint(ctx, "collector", **options)


@demo.command()
@_COMPLAINT
@click.pass_context
def leak(ctx: click.Context, /, **options: Any) -> None:
    """See tasks leave memory behind, in a cache that nobody empties.

    First with Dask's own thresholds, under which leaky workers pause for good; then
    without pausing, so that nannies restart them; last with a bounded cache. Two
    workers of 300 MB.

    \b
    Exit status:
      0    MemDash named the leak and who leaks, and the bounded cache helped
      1    not so
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo leak --hold
      dask memdash demo leak --dashboard-address :8787
      dask memdash demo leak --json
    """
    _complaint(ctx, "leak", **options)


@demo.command()
@_COMPLAINT
@click.pass_context
def pinned(ctx: click.Context, /, **options: Any) -> None:
    """See persisted outputs leave no room for the next step.

    First with spilling off, as notes from practice advise; then with Dask's own
    thresholds, under which persisted outputs go to disk; last with the futures
    released before the next step. One worker of 300 MB.

    \b
    Exit status:
      0    MemDash named what was pinned, and both remedies helped
      1    not so
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo pinned --hold
      dask memdash demo pinned --dashboard-address :8787
      dask memdash demo pinned --json
    """
    _complaint(ctx, "pinned", **options)


@demo.command()
@_COMPLAINT
@click.pass_context
def shared(ctx: click.Context, /, **options: Any) -> None:
    """See workers of one host fail to lend each other memory.

    One task needs 320 MB. Four workers of 250 MB die of it one after another; one
    worker of 1,000 MB with four threads has room for it, and needs its interpreter
    and modules in memory once rather than four times.

    \b
    Exit status:
      0    MemDash named the task, and one worker with threads ran it
      1    not so
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo shared --hold
      dask memdash demo shared --dashboard-address :8787
      dask memdash demo shared --json
    """
    _complaint(ctx, "shared", **options)


@demo.command(short_help="See partitions of very different sizes.")
@_COMPLAINT
@click.pass_context
def skew(ctx: click.Context, /, **options: Any) -> None:
    """See partitions of very different sizes after a filter and repartition.

    Filters 214 files for one user's lines, repartitions what is left to four, and
    shows the sizes that MemDash has seen; then the same, repartitioned by size. Needs
    pandas and pyarrow: pip install "dask[dataframe]". Two workers of 300 MB.

    \b
    Exit status:
      0    the sizes were far apart, and near each other when repartitioned by size
      1    not so
      2    options that make no sense
      3    it cannot run here: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash demo skew --hold
      dask memdash demo skew --dashboard-address :8787
      dask memdash demo skew --json
    """
    _complaint(ctx, "skew", **options)


# -- running -------------------------------------------------------------------


def _series(
    ctx: click.Context,
    name: str,
    more: dict[str, int],
    *,
    sizes: tuple[int, ...],
    method: str,
    scale: float,
    workers: int,
    memory_limit: int,
    dashboard_address: str,
    timeout: float,
    hold: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Run one of the three experiments from size to size."""
    with clear_messages(), terminate_like_ctrl_c():
        from dask_memdash.demos import shuffles, tables
        from dask_memdash.demos.cluster import running
        from dask_memdash.demos.experiment import series

        kind = shuffles.KINDS[name]
        shuffles.require(kind.module)
        say = _say(as_json)
        plan = _plan(workers, memory_limit, dashboard_address, force)
        cases = [kind.case(size, scale, method, **more) for size in sizes]
        say(_starting(plan))
        with running(plan) as cluster:
            say(f"\nWatch it live: {cluster.page}\n")
            results = list(series(cluster, cases, timeout, say))
            said = [tables.outcomes(results), "", tables.peaks(results)]
            say("\n" + "\n".join([*said, *tables.told(results)]) + "\n")
            if as_json:
                plans = [plan] * len(results)
                _write(tables.document(name, plans, results))
            if hold:
                _wait_for_ctrl_c(say)
        known = len(results) == len(cases) and all(r.known for r in results)
    ctx.exit(0 if known else NOT_EXPLAINED)


def _complaint(
    ctx: click.Context,
    name: str,
    *,
    dashboard_address: str,
    hold: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Play the stages of a complaint."""
    with clear_messages(), terminate_like_ctrl_c():
        from importlib import import_module

        from dask_memdash.demos import cluster, shuffles, stages, tables, terminal

        complaint = import_module(f"dask_memdash.demos.{name}").COMPLAINT
        for module in complaint.needs:
            shuffles.require(module)
        say = _say(as_json)
        host, port = cluster.parse_address(dashboard_address)
        _check(complaint.largest(host, port), force)
        keep = (lambda: _wait_for_ctrl_c(say)) if hold else (lambda: None)
        results = list(stages.play(complaint, host, port, say, keep))
        lessons = [terminal.paragraph(text) for text in complaint.conclude(results)]
        said = [tables.outcomes(results), "", tables.peaks(results)]
        said += tables.told(results)
        said += ["", *("\n".join(lesson) for lesson in lessons)]
        say("\n" + "\n".join(said) + "\n")
        if as_json:
            plans = complaint.plans(host, port)[: len(results)]
            _write(tables.document(complaint.name, plans, results))
        shown = complaint.shown(results)
    ctx.exit(0 if shown else NOT_EXPLAINED)


def _plan(workers: int, memory_limit: int, address: str, force: bool) -> Plan:
    from dask_memdash.demos import cluster

    host, port = cluster.parse_address(address)
    plan = cluster.Plan(workers, memory_limit, host, port)
    _check(plan, force)
    return plan


def _check(plan: Plan, force: bool) -> None:
    from dask_memdash.demos import cluster

    cluster.check_port(plan)
    if not force:
        cluster.check_memory(plan, cluster.available_memory())


def _starting(plan: Plan) -> str:
    from dask_memdash.demos import terminal

    size = terminal.workers(plan.workers, plan.threads, plan.memory_limit)
    return f"Starting {size} each …"


def _say(as_json: bool) -> Say:
    """Return what prints: beside the JSON object, to standard error."""
    return lambda text: click.echo(text, err=as_json)


def _write(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _wait_for_ctrl_c(say: Say) -> None:
    say("The page stays up until Ctrl-C.")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    say("\nClosing the cluster …")
