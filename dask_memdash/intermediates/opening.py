"""``dask_memdash.open_persisted``: stored collections by name, on another day."""

from __future__ import annotations

import logging
from typing import Any

from dask_memdash.errors import MissingError, StorageError
from dask_memdash.intermediates import manifest, names
from dask_memdash.intermediates.manifest import Facts
from dask_memdash.intermediates.memory import Memory, address_of
from dask_memdash.intermediates.persisting import Body, opened
from dask_memdash.intermediates.trust import check_trust
from dask_memdash.text import format_instant, format_share, plain

logger = logging.getLogger("dask_memdash.intermediates")

#: Characters of a log line.
MAX_LINE = 200


def open_persisted(memory: Memory, name: str, *, trust: bool = False) -> Any:
    """Return collections that :func:`dask_memdash.persist` stored under a name.

    Nothing is computed: their tasks load chunks from the store, when they are needed.

    **Opening runs code of whoever wrote the set** (its manifest is a pickle): open only
    stores whose writers you trust.  On ``file://``, files and directories that somebody
    else owns or may write to are refused.

    Parameters
    ----------
    memory
        The store.
    name
        Of the set.
    trust
        Whether it is opened although others can write to the store.

    Raises
    ------
    MissingError
        There is no such set, or it is not finished; the message says what is there.
    UntrustedError
        Others can write to the store.
    """
    manifest.check_name(name)
    if not getattr(memory, "outlives_workers", True):
        from distributed import get_client

        return get_client().get_dataset(name)
    facts, pickled = _find(memory, name)
    place = address_of(memory)
    if not trust:
        check_trust(memory, facts)
    line = (
        f"opening {name!r} in {place}, written by {facts.writer} at "
        f"{format_instant(facts.finished or facts.started)}: this runs their code"
    )
    logger.info("%s", plain(line, MAX_LINE))
    body = manifest.load_body(pickled, facts, place)
    if not isinstance(body, Body):
        raise StorageError(f"the manifest of {name!r} in {place} holds no collections")
    return opened(memory, facts, body)


def _find(memory: Memory, name: str) -> tuple[Facts, memoryview]:
    """Return facts and body of a set whose chunks are all there."""
    found = names.read_finished(memory, name)
    if found is not None:
        return found
    draft = names.read_draft(memory, name)
    if draft is None:
        # it may have been finished between the two looks
        found = names.read_finished(memory, name)
        if found is None:
            raise MissingError(_which_names(memory, name))
        return found
    there = names.stored_ids(memory)
    stored = sum(one in there for one in draft[0].objects)
    if stored < len(draft[0].objects):
        raise MissingError(_unfinished(memory, draft[0], stored))
    # whole but for its name: its writer is about to give it, or was killed before
    return draft


def _which_names(memory: Memory, name: str) -> str:
    place = address_of(memory)
    known = sorted(entry.name.removeprefix("names/") for entry in memory.list("names/"))
    if not known:
        return f"no {name!r} in {place}: nothing there has a name yet"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return f"no {name!r} in {place}; there are {', '.join(known[:10])}{more}"


def _unfinished(memory: Memory, draft: Facts, stored: int) -> str:
    """Say how far a set is that is under way, or was cut short."""
    return (
        f"{draft.name!r} in {address_of(memory)} is not finished: {stored:,} of "
        f"{len(draft.objects):,} chunks ({format_share(stored, len(draft.objects))}) "
        f"are stored. {draft.writer} began at {format_instant(draft.started)}. If it "
        "does not run any more, persist the same collection again: only the rest is "
        "computed."
    )
