"""The command line: ``dask memdash …``.

Dask finds :func:`main` through the entry point group ``dask_cli`` and imports this
module with every ``dask`` command, so that nothing heavy is imported at its top.
Covers options and exit statuses; what commands do stands in
:mod:`dask_memdash.demos`.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from dask_memdash.errors import MemDashError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 88}

#: Exit statuses beside 0; 2 is click's for options that make no sense.
NOT_EXPLAINED = 1
CANNOT_RUN = 3
INTERRUPTED = 130


@click.group(name="memdash", context_settings=CONTEXT)
@click.version_option(package_name="dask-memdash", prog_name="dask memdash")
def main() -> None:
    """See where the memory of a Dask cluster is, and who takes it.

    MemDash is a plugin of the scheduler. Register it on a running cluster

    \b
        from dask_memdash import MemDash
        client.register_plugin(MemDash())

    or start the scheduler with it

    \b
        dask scheduler --preload dask_memdash

    and open /memdash on the scheduler's dashboard (http://localhost:8787/memdash
    unless configured otherwise).
    """


@main.group()
def demo() -> None:
    """Run out of memory on purpose, on a local cluster, and see why."""


def _bytes(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Read a size such as ``584MB`` or ``2 GiB``, in bytes."""
    from dask.utils import parse_bytes

    try:
        size = int(parse_bytes(value))
    except ValueError:
        size = 0
    if size <= 0:
        raise click.BadParameter(f"{value!r} is no size; write it like 584MB or 2GiB")
    return size


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Read a duration such as ``90s`` or ``5 min``, in seconds."""
    from dask.utils import parse_timedelta

    try:
        seconds = float(parse_timedelta(value))
    except (KeyError, TypeError, ValueError):
        seconds = 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{value!r} is no duration; write it like 90s")
    return seconds


def _sizes(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    try:
        sizes = tuple(int(part) for part in value.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 2:
        raise click.BadParameter(
            f"{value!r} is no list of whole numbers from 2 on; write it like 64,96,120"
        )
    return sizes


@demo.command()
@click.option(
    "--sizes",
    callback=_sizes,
    metavar="LIST",
    default="64,96,112,120,128,144,160",
    show_default=True,
    help="Square roots of n, in the order in which they run.",
)
@click.option(
    "--method",
    type=click.Choice(["p2p", "tasks"]),
    default="p2p",
    show_default=True,
    help="How to rechunk: through Dask's shuffle service, or task by task.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Number of workers, with one thread each.",
)
@click.option(
    "--memory-limit",
    callback=_bytes,
    metavar="SIZE",
    default="584MB",
    show_default=True,
    help="Memory limit of each worker.",
)
@click.option(
    "--dashboard-address",
    metavar="ADDRESS",
    default="127.0.0.1:0",
    show_default=True,
    help="Where the dashboard listens, as host:port or :port; port 0 takes a free one.",
)
@click.option(
    "--timeout",
    callback=_seconds,
    metavar="DURATION",
    default="300s",
    show_default=True,
    help="Longest time that one array may take.",
)
@click.option("--hold", is_flag=True, help="Keep cluster and page up until Ctrl-C.")
@click.option("--force", is_flag=True, help="Start even if memory looks too short.")
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
    with _clear_messages(), _terminate_like_ctrl_c():
        from dask_memdash.demos import cluster
        from dask_memdash.demos import rechunk as experiment

        experiment.require_dask_array()
        host, port = cluster.parse_address(dashboard_address)
        plan = cluster.Plan(workers, memory_limit, host, port)
        cluster.check_port(plan)
        if not force:
            cluster.check_memory(plan, cluster.available_memory())
        click.echo(
            f"Starting {workers} workers, 1 thread and "
            f"{memory_limit / 1e6:,.0f} MB each …"
        )
        chosen = experiment.Experiment(sizes, method, timeout)
        with experiment.session(plan, chosen, click.echo) as explained:
            if hold:
                click.echo("The page stays up until Ctrl-C.")
                _wait_for_ctrl_c()
    ctx.exit(0 if explained else NOT_EXPLAINED)


def _wait_for_ctrl_c() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    click.echo("\nClosing the cluster …")


@contextmanager
def _clear_messages() -> Iterator[None]:
    """Turn what is expected to go wrong into one line and an exit status."""
    try:
        yield
    except MemDashError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(CANNOT_RUN)
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        sys.exit(INTERRUPTED)


@contextmanager
def _terminate_like_ctrl_c() -> Iterator[None]:
    """Close the cluster on SIGTERM too, and only when Ctrl-C would."""
    before = signal.signal(
        signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
