"""The commands ``dask memdash top`` and ``watch``: a running cluster on a terminal.

As light as :mod:`dask_memdash.cli.main`, which every ``dask`` command imports.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

from dask_memdash.cli.options import clear_messages, seconds, terminate_like_ctrl_c

ADDRESS = click.argument("address", required=False)
INTERVAL = click.option(
    "--interval",
    metavar="DURATION",
    callback=seconds,
    default="2s",
    show_default=True,
    help="Time between two looks; more where the cluster takes long to answer.",
)


@click.command(short_help="See a running cluster on a terminal, live.")
@ADDRESS
@INTERVAL
@click.option("--once", is_flag=True, help="Write it once, as plain text, and end.")
def top(address: str | None, interval: float, once: bool) -> None:
    """See a running cluster on a terminal: workers, task prefixes, failures, live.

    ADDRESS is a scheduler that MemDash runs on, such as tcp://localhost:8786, or its
    dashboard, such as http://localhost:8787; where Dask's configuration has it unless
    given. Keys: 1, 2 and 3 show one list with details, ? tells of the others, q quits.

    Where it writes to no terminal (a pipe, a file), and with --once, it writes
    everything once and ends. Only the live view needs Rich (pip install rich).

    \b
    Exit status:
      0    quit, or written once
      2    options that make no sense
      3    the cluster cannot be asked: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash top
      dask memdash top tcp://localhost:8786 --interval 5s
      dask memdash top http://localhost:8787 --once
    """
    with clear_messages(), terminate_like_ctrl_c():
        from dask_memdash.cli import sources
        from dask_memdash.cli import top as command

        sources.hush()
        address = address or sources.default_address()
        on_screen = sys.stdout.isatty()
        if once or not on_screen or not sys.stdin.isatty() or _is_dumb():
            width = shutil.get_terminal_size().columns if on_screen else None
            click.echo(command.once(address, width))
        else:
            command.live(address, interval)


@click.command(short_help="Print failures as they open and close.")
@ADDRESS
@INTERVAL
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object a line.")
def watch(address: str | None, interval: float, as_json: bool) -> None:
    """Print a line for each failure that opens, changes its cause, and is over.

    ADDRESS is a scheduler or a dashboard, as of "top". For logs and tmux: it goes on
    when the scheduler restarts, with a line that says so, until Ctrl-C.

    \b
    Exit status:
      2    options that make no sense
      3    the cluster cannot be asked at the start: the message says why
      130  interrupted

    \b
    Examples:
      dask memdash watch
      dask memdash watch tcp://localhost:8786 >> failures.log
      dask memdash watch http://localhost:8787 --json
    """
    with clear_messages(), terminate_like_ctrl_c():
        from datetime import datetime

        from dask_memdash.cli import sources
        from dask_memdash.cli import watch as command

        sources.hush()
        write = command.as_json if as_json else command.as_line

        def say(what: str, text: str, failure: Any) -> None:
            click.echo(write(what, text, failure, datetime.now().astimezone()))

        command.follow(
            command.Watch(say), address or sources.default_address(), interval
        )


def _is_dumb() -> bool:
    return os.environ.get("TERM", "") in ("", "dumb", "unknown")
