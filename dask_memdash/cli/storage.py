"""``dask memdash storage …``: what a store of intermediates holds; deleting from it.

Options, confirmations and exit statuses; what the commands do stands in
:mod:`dask_memdash.intermediates.inventory`, how it is written in
:mod:`dask_memdash.cli.storage_tables`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from dask_memdash.cli.options import NOT_EXPLAINED, clear_messages, deletion_options

#: Where the address is taken from unless it is given.
URL_VARIABLE = "DASK_MEMDASH__STORAGE__URL"

#: Addresses of Redis servers; all others are fsspec's.
REDIS = ("redis://", "rediss://", "unix://")


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which store, and how the answer is written."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write one JSON object."),
        click.option(
            "--storage-options",
            metavar="JSON",
            help="Options of the file system, as one JSON object.",
        ),
        click.option(
            "--url",
            metavar="URL",
            required=True,
            envvar=URL_VARIABLE,
            show_envvar=True,
            help="Address of the store: a directory, s3://…, gs://…, redis://….",
        ),
    ):
        command = option(command)
    return command


@click.group(short_help="Look after stored intermediates.")
def storage() -> None:
    """Look after intermediates that dask_memdash.persist stored.

    \b
    Examples:
      dask memdash storage ls --url s3://bucket/store
      export DASK_MEMDASH__STORAGE__URL=/scratch/me/store
      dask memdash storage show regridded
      dask memdash storage gc --ttl 7d --dry-run
    """


@storage.command(short_help="List what is stored.")
@store_options
def ls(url: str, storage_options: str | None, as_json: bool) -> None:
    """List the names in a store, with their chunks and sizes."""
    with clear_messages():
        from dask_memdash.cli import storage_tables as tables
        from dask_memdash.intermediates.inventory import take_stock

        stock = take_stock(_memory(url, storage_options))
        _say(as_json, tables.stock_json(stock), tables.stock_text(stock))


@storage.command(short_help="Tell all about one name.")
@click.argument("name")
@store_options
def show(name: str, url: str, storage_options: str | None, as_json: bool) -> None:
    """Tell who stored NAME, when, with which versions, and what it holds."""
    with clear_messages():
        from dask_memdash.cli import storage_tables as tables
        from dask_memdash.intermediates.inventory import find

        found = find(_memory(url, storage_options), name)
        _say(as_json, [tables.set_json(f) for f in found], tables.sets_text(found))


@storage.command(short_help="Delete one name.")
@click.argument("name")
@store_options
@deletion_options
def rm(
    name: str,
    url: str,
    storage_options: str | None,
    as_json: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete NAME, and the chunks that no other name needs."""
    with clear_messages():
        from dask_memdash.cli import storage_tables as tables
        from dask_memdash.intermediates.inventory import remove

        memory = _memory(url, storage_options)
        removal = remove(memory, name, dry_run=True)
        if _agreed(tables.removal_question(removal), dry_run, yes):
            removal = remove(memory, name)
        _say(
            as_json,
            tables.removal_json(removal, dry_run),
            tables.removal_text(removal, dry_run),
        )


@storage.command(short_help="Delete what no name needs.")
@click.option(
    "--ttl",
    metavar="AGE",
    default="7d",
    show_default=True,
    help="Age from which chunks that no name needs are deleted, as 36h or 7d.",
)
@store_options
@deletion_options
def gc(
    ttl: str,
    url: str,
    storage_options: str | None,
    as_json: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete old chunks that no name needs, and computations that never finished.

    What is running is safe while it takes less than the age: its chunks are pinned.
    """
    with clear_messages():
        from dask_memdash.cli import storage_tables as tables
        from dask_memdash.intermediates.inventory import collect
        from dask_memdash.intermediates.settings import lifetime

        memory, age = _memory(url, storage_options), lifetime(ttl)
        assert age is not None
        removal = collect(memory, age, dry_run=True)
        something = bool(removal.names or removal.objects or removal.leftovers)
        if something and _agreed(tables.removal_question(removal), dry_run, yes):
            removal = collect(memory, age)
        _say(
            as_json,
            tables.removal_json(removal, dry_run),
            tables.removal_text(removal, dry_run),
        )


@storage.command(short_help="Read everything, and say what is damaged.")
@click.argument("name", required=False)
@store_options
@click.pass_context
def verify(
    ctx: click.Context,
    name: str | None,
    url: str,
    storage_options: str | None,
    as_json: bool,
) -> None:
    """Read every chunk of all names, or of NAME, and check it against its checksums.

    No code of what is stored is run. The exit status is 1 if something is wrong.
    """
    with clear_messages():
        from dask_memdash.cli import storage_tables as tables
        from dask_memdash.intermediates import inventory

        count, problems = inventory.verify(_memory(url, storage_options), name)
        _say(
            as_json,
            tables.problems_json(count, problems),
            tables.problems_text(count, problems),
        )
    ctx.exit(NOT_EXPLAINED if problems else 0)


def _memory(url: str, storage_options: str | None) -> Any:
    """Return the store at an address, which is never made here."""
    from dask_memdash.errors import StorageError
    from dask_memdash.intermediates.fs_memory import FSMemory

    options = None
    if storage_options is not None:
        try:
            options = json.loads(storage_options)
        except ValueError as error:
            raise StorageError(f"--storage-options is no JSON: {error}") from None
        if not isinstance(options, dict):
            raise StorageError("--storage-options is no JSON object")
    if url.startswith(REDIS):
        from dask_memdash.intermediates.redis_memory import RedisMemory

        return RedisMemory(url, **(options or {}))
    return FSMemory(url, options, create=False)


def _agreed(question: str, dry_run: bool, yes: bool) -> bool:
    """Return whether to delete; leaves with status 1 if the person says no."""
    if dry_run:
        return False
    if not yes:
        click.confirm(question, abort=True, err=True)
    return True


def _say(as_json: bool, value: Any, text: str) -> None:
    from dask_memdash.text import plain_lines

    click.echo(json.dumps(value, indent=2) if as_json else plain_lines(text))
