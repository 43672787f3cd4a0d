"""What the client does while a collection is stored: settle values, then give the name.

Once a value is stored, its collection loads it without the task that stored it, and the
task is let go: a worker that dies then takes nothing with it that would have to be
computed again.  When all are stored, the name is given, in a thread that an exiting
interpreter waits for.

Holds no future and no collection: whoever drops the collection cancels the rest, as
with Dask's own ``persist``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.errors import StorageError
from dask_memdash.intermediates.pinned_graph import LoadGraph
from dask_memdash.intermediates.stored import Stored
from dask_memdash.text import plain

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger("dask_memdash.intermediates")

#: Characters of a log line.
MAX_LINE = 200


@dataclass(frozen=True, slots=True)
class Pending:
    """One value that is being stored."""

    store_key: Any
    load_key: Any
    stored: Stored
    #: The graphs that load it; a collection that is persisted twice has two.
    graphs: Sequence[weakref.ref[LoadGraph]]


def watch(
    client: Client, pending: Sequence[Pending], give_name: Callable[[], object]
) -> None:
    """Follow tasks that store until all have ended; then give the name, if all did."""
    states = [client.futures.get(one.store_key) for one in pending]

    async def follow() -> None:
        followed = (_follow(s, p) for s, p in zip(states, pending, strict=True))
        if all(await asyncio.gather(*followed)):
            in_thread(give_name)

    loop: Any = client.loop
    loop.add_callback(boundary.guarded(follow, "following what is stored"))


async def _follow(state: Any, pending: Pending) -> bool:
    """Wait until a value is stored; return whether it is."""
    if state is None:
        return False
    await state.wait()
    if state.status != "finished":
        return False
    for reference in pending.graphs:
        graph = reference()
        if graph is not None:
            graph.settle(pending.load_key, pending.store_key, pending.stored)
    return True


def in_thread(give_name: Callable[[], object]) -> threading.Thread:
    """Give a name in a thread; what goes wrong is one line of the log."""

    def give() -> None:
        try:
            give_name()
        except StorageError as error:
            logger.error("%s", plain(str(error), MAX_LINE))

    thread = threading.Thread(
        target=boundary.guarded(give, "naming what is stored"), name="MemDash naming"
    )
    thread.start()
    return thread
