"""What commands share: readers of sizes, durations and lists, clear messages, statuses.

As light as :mod:`dask_memdash.cli.main`, which every ``dask`` command imports.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from dask_memdash.errors import MemDashError

#: Exit statuses beside 0; 2 is click's for options that make no sense.
NOT_EXPLAINED = 1
CANNOT_RUN = 3
INTERRUPTED = 130

#: Distributed's own look at garbage collection, which lets no exception out, and the
#: time after which an interruption that came in its midst is tried again, in seconds.
GC_CALLBACK = "_gc_callback"
AGAIN = 0.05


def size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Read a size such as ``584MB`` or ``2 GiB``, in bytes."""
    from dask.utils import parse_bytes

    try:
        read = int(parse_bytes(value))
    except ValueError:
        read = 0
    if read <= 0:
        raise click.BadParameter(f"{value!r} is no size; write it like 584MB or 2GiB")
    return read


def size_if_given(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> int | None:
    """Read a size in bytes; None stays None."""
    return None if value is None else size(ctx, param, value)


def size_or_none(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Read a size in bytes; none at all is one too."""
    return 0 if value == "0" else size(ctx, param, value)


def seconds(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | None:
    """Read a duration such as ``90s`` or ``5 min``, in seconds; None stays None."""
    from dask.utils import parse_timedelta

    if value is None:
        return None
    try:
        # Dask knows minutes as "m" and "minutes", and not as "min"
        read = float(parse_timedelta(re.sub(r"min$", "m", value.strip())))
    except (KeyError, TypeError, ValueError):
        read = 0.0
    if read <= 0:
        raise click.BadParameter(f"{value!r} is no duration; write it like 90s")
    return read


def sizes(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    try:
        read = tuple(int(part) for part in value.split(","))
    except ValueError:
        read = ()
    if not read or min(read) < 2:
        raise click.BadParameter(
            f"{value!r} is no list of whole numbers from 2 on; write it like 64,96,120"
        )
    return read


def deletion_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of what deletes."""
    for option in (
        click.option("--yes", is_flag=True, help="Delete without asking."),
        click.option(
            "--dry-run", is_flag=True, help="Say what would go; delete nothing."
        ),
    ):
        command = option(command)
    return command


@contextmanager
def clear_messages() -> Iterator[None]:
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
def terminate_like_ctrl_c() -> Iterator[None]:
    """Close the cluster on SIGTERM too, and only when Ctrl-C would."""
    terminate = signal.signal(
        signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)
    )
    interrupt = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGINT, interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt what runs, but for garbage collection, which would swallow it."""
    while frame is not None:
        if frame.f_code.co_name == GC_CALLBACK:
            main = threading.main_thread().ident
            threading.Timer(AGAIN, signal.pthread_kill, (main, number)).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
