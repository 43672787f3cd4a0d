"""``dask memdash runs what-if``: whether a recorded run would have lived otherwise."""

from __future__ import annotations

import click

from dask_memdash.cli.options import CANNOT_RUN, NOT_EXPLAINED, clear_messages

#: Verdict → exit status.
STATUSES = {"lived": 0, "died": NOT_EXPLAINED, "unknown": CANNOT_RUN}


def _factor(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Read a multiple such as ``2x`` or ``0.5``."""
    try:
        return float(value.strip().lower().removesuffix("x"))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no multiple; write it like 2x or 0.5"
        ) from None


@click.command("what-if", short_help="Say whether a run would have lived otherwise.")
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--run", metavar="ID", help="Which run, where there are several.")
@click.option("--failure", metavar="ID", help="One failure of it; all unless given.")
@click.option(
    "--limit",
    metavar="MULTIPLE",
    default="1",
    callback=_factor,
    help="Memory limit of each worker, as a multiple: 2x.",
)
@click.option(
    "--threads", type=click.IntRange(1, 4096), help="Threads of each worker instead."
)
@click.option(
    "--chunks",
    metavar="MULTIPLE",
    default="1",
    callback=_factor,
    help="Size of chunks, as a multiple: 0.5 is half as large, twice as many.",
)
@click.option("--spilling/--no-spilling", default=None, help="Spilling on or off.")
@click.option(
    "--workers",
    metavar="NUMBER",
    type=int,
    default=0,
    help="Workers more: +1, or fewer: -1.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.pass_context
def what_if(
    ctx: click.Context,
    directory: str,
    run: str | None,
    failure: str | None,
    limit: float,
    threads: int | None,
    chunks: float,
    spilling: bool | None,
    workers: int,
    as_json: bool,
) -> None:
    """Say whether a recorded run would have lived, had something been different.

    DIRECTORY is that of the run, or one that holds it. The answer is an interval of
    what the fullest worker would have had at its peak, and why. It is "cannot say"
    where the record does not tell: a task that died might have needed any amount.

    \b
    Exit status:
      0    it would have lived
      1    it would have died, or stopped for good
      2    options that make no sense
      3    cannot say, or no such run: the message says why

    \b
    Examples:
      dask memdash runs what-if runs --run nightly --limit 2x
      dask memdash runs what-if runs/20260801-100000-abcdef --threads 1 --chunks 0.5
      dask memdash runs what-if runs --spilling --workers +1 --json
    """
    with clear_messages():
        from dask_memdash.counterfactual.answer import answer
        from dask_memdash.counterfactual.change import Change
        from dask_memdash.counterfactual.evidence import gather
        from dask_memdash.runs.reading import RunReader, find_run
        from dask_memdash.store.recorded import RecordedStore
        from dask_memdash.text import plain_lines

        change = Change(limit, threads, chunks, spilling, workers)
        reader = RunReader(find_run(directory, run))
        try:
            name = None if failure is None else failure.removeprefix("failure-")
            said = answer(gather(RecordedStore(reader), name), change)
        finally:
            reader.close()
        if as_json:
            import json

            click.echo(json.dumps(said.to_dict(), indent=2))
        else:
            click.echo(plain_lines(said.text))
    ctx.exit(STATUSES[said.verdict])
