"""``dask memdash runs …``: recorded runs, after their cluster is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from dask_memdash.cli.options import (
    NOT_EXPLAINED,
    clear_messages,
    deletion_options,
    seconds,
)

#: Columns that a list can be sorted by, as in :mod:`dask_memdash.runs.listing`.
SORTS = (
    *("began", "name", "length", "workers", "failures", "deaths"),
    *("memory", "size", "state"),
)


@click.group(short_help="Look at recorded runs.")
def runs() -> None:
    """Look at recorded runs, after their cluster is gone.

    A run is recorded by MemDash(record="DIRECTORY") or memdash.record.to.
    """


@runs.command(short_help="List recorded runs.")
@click.argument("directory")
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME[=TEXT]",
    help="Only runs with this tag; may be given several times.",
)
@click.option("--name", default="", help="Only runs whose name has this in it.")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default=SORTS[0],
    show_default=True,
    help="What comes first: the newest, largest or first by name.",
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON list.")
def ls(
    directory: str,
    tags: tuple[str, ...],
    name: str,
    sort: str,
    reverse: bool,
    as_json: bool,
) -> None:
    """List recorded runs, newest first.

    DIRECTORY, or a URL such as s3://bucket/runs, holds runs. Each is listed by its
    run.json, and none is opened. The most of a worker is what one worker's process
    took.

    \b
    Examples:
      dask memdash runs ls runs
      dask memdash runs ls runs --tag branch=main --sort failures
      dask memdash runs ls runs --name nightly --json
    """
    with clear_messages():
        from dask_memdash.cli import runs_tables as tables
        from dask_memdash.runs.listing import select
        from dask_memdash.runs.remote import runs_at
        from dask_memdash.text import plain_lines

        rows = runs_at(directory).rows()
        found = select(rows, name=name, tags=tags, sort=sort, reverse=reverse)
        if as_json:
            click.echo(json.dumps([tables.run_json(row) for row in found], indent=2))
        else:
            click.echo(plain_lines(tables.runs_text(found, directory, len(rows))))


@runs.command("open", short_help="Show one recorded run in the browser.")
@click.argument("directory")
@click.option("--run", metavar="ID", help="Which run, where there are several.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port to serve on; a free one unless given.",
)
def open_one(directory: str, run: str | None, port: int) -> None:
    """Show one recorded run in the browser, at any instant.

    DIRECTORY is that of the run, or one that holds it; it may be a URL, such as
    s3://bucket/runs, from which the run is fetched. Serves the page on this machine
    alone (127.0.0.1) and prints its address; ctrl-C ends it. A run that is being
    recorded is followed.

    \b
    Examples:
      dask memdash runs open runs/20260801-100000-abcdef
      dask memdash runs open runs --run nightly
    """
    with clear_messages():
        from dask_memdash.boundary import boundary
        from dask_memdash.runs.reading import RunReader
        from dask_memdash.runs.remote import fetched
        from dask_memdash.web.runs_server import serving_one

        found, kept = fetched(directory, run)
        RunReader(found).close()  # so that what is wrong is said at once
        _serve(lambda: serving_one(found, boundary), str(found), "127.0.0.1", port)
        del kept  # what was fetched goes with it


@runs.command(short_help="Serve a list of recorded runs, and each of them.")
@click.argument("directories", nargs=-1, required=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Whoever reaches it can read all runs.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port to serve on; a free one unless given.",
)
def serve(directories: tuple[str, ...], host: str, port: int) -> None:
    """Serve a list of recorded runs, and the page of each, without a cluster.

    DIRECTORIES hold runs; each may be a URL, such as s3://bucket/runs, from which a run
    is fetched when it is opened. Serves on this machine alone unless --host says
    otherwise, and prints the address; ctrl-C ends it. Nothing can be changed or deleted
    from there.

    \b
    Examples:
      dask memdash runs serve runs
      dask memdash runs serve runs s3://bucket/runs --port 8790
    """
    with clear_messages():
        from dask_memdash.boundary import boundary
        from dask_memdash.runs.remote import runs_at
        from dask_memdash.web.runs_server import serving

        places = [runs_at(one) for one in directories]
        names = ", ".join(place.place for place in places)
        _serve(lambda: serving(places, boundary), names, host, port)


@runs.command(short_help="Write a run's tables as Parquet files.")
@click.argument("run_directory", metavar="RUN")
@click.option(
    "--to",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Directory for the files; made if it is not there.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="NAME",
    help="Only this table; may be given several times.",
)
@click.option("--run", metavar="ID", help="Which run, where RUN holds several.")
@click.pass_context
def export(
    ctx: click.Context,
    run_directory: str,
    to: str,
    tables: tuple[str, ...],
    run: str | None,
) -> None:
    """Write each table of a recorded run as a Parquet file.

    RUN is the directory of a run, or of several, or a URL. docs/runs.md says what the
    tables and columns are. Needs pyarrow. The exit status is 1 if a damaged file of the
    run had to be left out.

    \b
    Examples:
      dask memdash runs export runs/20260801-100000-abcdef --to tables
      dask memdash runs export runs --run nightly --to tables --table prefix_states
    """
    with clear_messages():
        from dask_memdash.cli import runs_tables
        from dask_memdash.runs import parquet
        from dask_memdash.runs.reading import RunReader
        from dask_memdash.runs.remote import fetched
        from dask_memdash.text import plain

        found, kept = fetched(run_directory, run)
        reader = RunReader(found)
        try:
            for one in parquet.export(reader, to, tables):
                click.echo(runs_tables.exported_text(one))
            for path, why in reader.problems.items():
                click.echo(f"{plain(path)} is left out: {plain(why)}", err=True)
        finally:
            reader.close()
        del kept  # what was fetched goes with it
    ctx.exit(NOT_EXPLAINED if reader.problems else 0)


@runs.command(short_help="Remove recorded runs.")
@click.argument("directory")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--older-than",
    callback=seconds,
    metavar="AGE",
    help="Only runs that nothing was written to for so long, such as 30d.",
)
@deletion_options
@click.pass_context
def rm(
    ctx: click.Context,
    directory: str,
    ids: tuple[str, ...],
    older_than: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove recorded runs from DIRECTORY: those named, or old ones.

    Lists them and asks first. A run that is still written, or may be, stays, and so
    does everything that is not of a run. The exit status is 1 if something that was
    meant stays.

    \b
    Examples:
      dask memdash runs rm runs 20260801-100000-abcdef
      dask memdash runs rm runs --older-than 30d --dry-run
    """
    if not ids and older_than is None:
        raise click.UsageError("name runs, or give --older-than")
    with clear_messages():
        from dask_memdash.cli import runs_tables as tables
        from dask_memdash.runs import removal
        from dask_memdash.text import plain, plain_lines

        found = removal.plan(directory, ids, older_than)
        kept = bool(found.kept)
        if not found.rows and not kept:
            click.echo("There is nothing to remove.")
        else:
            click.echo(plain_lines(tables.removal_text(found)))
        if found.rows and not dry_run:
            what = tables.removal_size(found.rows)
            if not yes:
                click.confirm(f"Remove {what}?", abort=True, err=True)
            gone = []
            for row in found.rows:
                try:
                    why = removal.remove(row)
                except OSError as error:
                    why = error.strerror or str(error)
                if why is None:
                    gone.append(row)
                else:
                    kept = True
                    click.echo(f"{plain(row.id)}: {plain(why)}", err=True)
            click.echo(f"Removed {tables.removal_size(gone)}.")
        elif found.rows:
            click.echo(f"Would remove {tables.removal_size(found.rows)}.")
    ctx.exit(NOT_EXPLAINED if kept else 0)


def _serve(make: Callable[[], Any], what: str, host: str, port: int) -> None:
    """Serve until ctrl-C."""
    import asyncio

    from dask_memdash.errors import MemDashError
    from dask_memdash.text import plain

    async def run() -> None:
        server = make()
        try:
            chosen = server.start(port, host)
        except OSError as error:
            why = error.strerror or str(error)
            raise MemDashError(f"cannot listen on {host} port {port}: {why}") from None
        shown = f"[{host}]" if ":" in host else host
        try:
            click.echo(f"{plain(what)} at http://{shown}:{chosen}/ (ctrl-C ends this)")
            await asyncio.Event().wait()
        finally:
            await server.stop()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        click.echo("")


@runs.command("diff", short_help="Compare two recorded runs.")
@click.argument("paths", metavar="A B", nargs=-1, required=True, type=click.Path())
@click.option(
    "--run",
    "names",
    metavar="ID",
    multiple=True,
    help="Which run; twice for two runs of one directory.",
)
@click.option("--all", "everything", is_flag=True, help="List what is the same, too.")
@click.option("--json", "form", flag_value="json", help="Write one JSON object.")
@click.option(
    "--markdown", "form", flag_value="markdown", help="Write a comment for GitHub."
)
@click.option(
    "--fail-on",
    "conditions",
    metavar="WHAT[:SHARE]",
    multiple=True,
    help="Exit with 1 where that is worse, such as worse, peak or peak:25%.",
)
@click.pass_context
def compare_two(
    ctx: click.Context,
    paths: tuple[str, ...],
    names: tuple[str, ...],
    everything: bool,
    form: str | None,
    conditions: tuple[str, ...],
) -> None:
    """Compare two recorded runs: the second against the first.

    A and B are their directories; or one DIRECTORY that holds both, with --run twice.
    Per task prefix, group of workers, graph and for the whole cluster: the figures of
    both runs and whether the second is worse, better or the same beyond noise; or that
    it cannot be told, and why.

    --fail-on takes worse (anything), peak, output, stored, memory, spilled, duration,
    pauses or failures, with the share of the first figure that is let pass (10%
    unless given), and may be given several times.

    \b
    Exit status:
      0    they were compared
      1    what --fail-on names is worse
      2    options that make no sense
      3    a run cannot be read: the message says why

    \b
    Examples:
      dask memdash runs diff runs/20260801-100000-abcdef runs/20260802-100000-fedcba
      dask memdash runs diff runs --run main --run branch --fail-on peak:25%
      dask memdash runs diff runs --run main --run branch --markdown > comment.md
    """
    if len(paths) > 2:
        raise click.UsageError("give two runs, no more")
    if len(names) != (2 if len(paths) == 1 else 0):
        raise click.UsageError("give two directories, or one directory and --run twice")
    with clear_messages():
        from dask_memdash.compare import conditions as condition
        from dask_memdash.compare.comparison import compare
        from dask_memdash.compare.written import as_markdown, as_text, to_dict
        from dask_memdash.runs.reading import RunReader, find_run
        from dask_memdash.store.recorded import RecordedStore

        try:
            parsed = [condition.Condition.parse(text) for text in conditions]
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--fail-on") from None
        where = (
            [(path, None) for path in paths]
            if len(paths) == 2
            else [(paths[0], name) for name in names]
        )
        readers = [RunReader(find_run(path, name)) for path, name in where]
        try:
            found = compare(*(RecordedStore(reader) for reader in readers))
        finally:
            for reader in readers:
                reader.close()
        if form == "json":
            import json

            click.echo(json.dumps(to_dict(found), indent=2, allow_nan=False))
        elif form == "markdown":
            click.echo(as_markdown(found), nl=False)
        else:
            click.echo(as_text(found, everything))
        met = condition.failing(found, parsed)
        if met:
            click.echo(f"Failed: {len(met):,} worse, such as: {met[0].text}", err=True)
    ctx.exit(NOT_EXPLAINED if met else 0)
