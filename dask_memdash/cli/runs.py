"""``dask memdash runs …``: recorded runs, after their cluster is gone."""

from __future__ import annotations

import click

from dask_memdash.cli.options import clear_messages


@click.group(short_help="Look at recorded runs.")
def runs() -> None:
    """Look at recorded runs, after their cluster is gone.

    A run is recorded by MemDash(record="DIRECTORY") or memdash.record.to.
    """


@runs.command("open", short_help="Show one recorded run in the browser.")
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--run", metavar="ID", help="Which run, where there are several.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port to serve on; a free one unless given.",
)
def open_one(directory: str, run: str | None, port: int) -> None:
    """Show one recorded run in the browser, at any instant.

    DIRECTORY is that of the run, or one that holds it. Serves the page on this machine
    alone (127.0.0.1) and prints its address; ctrl-C ends it. A run that is being
    recorded is followed.

    \b
    Examples:
      dask memdash runs open runs/20260801-100000-abcdef
      dask memdash runs open runs --run nightly
    """
    with clear_messages():
        import asyncio

        from dask_memdash.boundary import boundary
        from dask_memdash.runs.reading import RunReader, find_run
        from dask_memdash.web.runs_server import serving_one

        found = find_run(directory, run)
        RunReader(found).close()  # so that what is wrong is said at once

        async def serve() -> None:
            server = serving_one(found, boundary)
            try:
                chosen = server.start(port)
                click.echo(f"{found} at http://127.0.0.1:{chosen}/ (ctrl-C ends this)")
                await asyncio.Event().wait()
            finally:
                await server.stop()

        try:
            asyncio.run(serve())
        except KeyboardInterrupt:
            click.echo("")
