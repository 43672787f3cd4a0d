"""Options that demos share, for :mod:`dask_memdash.cli.demo_table`."""

from __future__ import annotations

from collections.abc import Callable

import click

from dask_memdash.cli.options import seconds, size, size_if_given, sizes

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def workers_of(number: int) -> Decorator:
    """Return the option of how many workers there are, if not so many."""
    return click.option(
        "--workers",
        type=click.IntRange(1, 64),
        default=number,
        show_default=True,
        help="Number of workers, with one thread each.",
    )


def memory_limit_of(default: str) -> Decorator:
    """Return the option of the workers' limit."""
    return click.option(
        "--memory-limit",
        callback=size,
        metavar="SIZE",
        default=default,
        show_default=True,
        help="Memory limit of each worker.",
    )


WORKERS = workers_of(4)
MEMORY_LIMIT = memory_limit_of("584MB")
ADDRESS = click.option(
    "--dashboard-address",
    metavar="ADDRESS",
    default="127.0.0.1:0",
    show_default=True,
    help="Where the dashboard listens, as host:port or :port; port 0 takes a free one.",
)
DETAILS = click.option(
    "--details", is_flag=True, help="Tell of each death too, not of all together only."
)
HOLD = click.option(
    "--hold", is_flag=True, help="Keep cluster and page up until Ctrl-C."
)
FORCE = click.option(
    "--force", is_flag=True, help="Start even if memory looks too short."
)
JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write one JSON object to standard output, and everything else to standard "
    "error.",
)
SCALE = click.option(
    "--scale",
    type=click.FloatRange(0.001, 10),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Make the data larger or smaller by this factor; partitions keep their size, "
    "arrays their shape.",
)
BLOCK_SIZE_LIMIT = click.option(
    "--block-size-limit",
    "limit",
    callback=size_if_given,
    metavar="SIZE",
    help="Largest chunk that Dask may make on the way; Dask's own array.chunk-size "
    "(128 MiB) unless given.",
)


def timeout(default: str, what: str) -> Decorator:
    """Return the option of the longest time that a case may take."""
    return click.option(
        "--timeout",
        callback=seconds,
        metavar="DURATION",
        default=default,
        show_default=True,
        help=f"Longest time that one {what} may take.",
    )


def series_of(default: str, what: str) -> Decorator:
    """Return the option of the sizes that are run."""
    return click.option(
        "--sizes",
        callback=sizes,
        metavar="LIST",
        default=default,
        show_default=True,
        help=f"{what}, in the order in which they run.",
    )


def method(methods: tuple[str, ...], what: str) -> Decorator:
    """Return the option of how to shuffle."""
    return click.option(
        "--method",
        type=click.Choice(methods),
        default=methods[0],
        show_default=True,
        help=what,
    )
