"""``dask memdash demo …``: a command for each demo of the table, and what runs them.

What the demos do stands in :mod:`dask_memdash.demos`, which is imported when one runs.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import Any

import click

from dask_memdash.cli.demo_table import DEMOS, Demo
from dask_memdash.cli.options import (
    NOT_EXPLAINED,
    clear_messages,
    terminate_like_ctrl_c,
)


@click.group()
def demo() -> None:
    """Run out of memory on purpose, on a local cluster, and see why.

    Every demo starts a small cluster on this machine, registers MemDash, prints the
    address of its page, and closes the cluster at the end or on Ctrl-C.

    Start with "rechunk": it runs until workers die, then says why and what to change.
    "array", "dataframe" and "bag" repeat the shuffles of dask issue 2456, in which
    workers ran out of memory in 2017. Each of the other demos shows one problem that
    Dask users report often, and then what solves it.
    """


def _run(
    chosen: Demo,
    *,
    dashboard_address: str,
    hold: bool,
    force: bool,
    as_json: bool = False,
    **options: Any,
) -> int:
    """Run a demo; return its exit status."""

    def say(text: str) -> None:
        click.echo(text, err=as_json)

    def write(document: Any) -> None:
        if as_json:
            click.echo(json.dumps(document, indent=2, ensure_ascii=False))

    def keep() -> None:
        if hold:
            _wait_for_ctrl_c(say)

    with clear_messages(), terminate_like_ctrl_c():
        from dask_memdash.demos import cluster, runs, shuffles

        run: runs.Run = getattr(runs, chosen.made_by)(*chosen.of, **options)
        for module in run.needs:
            shuffles.require(module)
        host, port = cluster.parse_address(dashboard_address)
        plan = run.largest(host, port)
        cluster.check_port(plan)
        if not force:
            cluster.check_memory(plan, cluster.available_memory())
        shown = run.play(host, port, say, write, keep)
    return 0 if shown else NOT_EXPLAINED


def _wait_for_ctrl_c(say: Any) -> None:
    say("The page stays up until Ctrl-C.")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    say("\nClosing the cluster …")


def _command(chosen: Demo) -> click.Command:
    """Return the command of a demo."""

    @click.pass_context
    def command(ctx: click.Context, /, **options: Any) -> None:
        ctx.exit(_run(chosen, **options))

    for option in reversed(chosen.options):  # in the order in which help lists them
        command = option(command)
    return click.command(
        name=chosen.name, help=chosen.help, short_help=chosen.short_help
    )(command)


for each in DEMOS:
    demo.add_command(_command(each))
