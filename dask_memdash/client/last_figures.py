"""What the workers of a cluster did last, waited for before the cluster goes.

Workers tell of their tasks with their heartbeats, so that what they did since the last
one is lost where a cluster is closed at once.  Used by the pytest plugin, which may not
miss a task that is too large.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

#: Longest wait, and the time between two looks, in seconds.
LAST = 8.0
LOOK = 0.2

#: Asks a scheduler: gives what a function of it (argument `dask_scheduler`) returns.
Ask = Callable[[Callable[..., Any]], Awaitable[Any]]


def heard(dask_scheduler: Any) -> tuple[float, dict[str, float]] | None:
    """Return the scheduler's time, and when each worker was last heard of.

    None where nothing is recorded.
    """
    plugin = dask_scheduler.plugins.get("memdash")
    if plugin is None or plugin._recording is None:
        return None
    workers = plugin.store.workers()
    return time.time(), {w["address"]: w["last_seen"] for w in workers}


def has_memdash(dask_scheduler: Any) -> bool:
    """Whether MemDash is registered already."""
    return "memdash" in dask_scheduler.plugins


async def last_figures(ask: Ask) -> None:
    """Wait until every worker has told of what it did until now, `LAST` at most.

    The first heartbeat that comes may have been on its way already, so that each
    worker is heard of twice.
    """
    deadline, begun = time.monotonic() + LAST, None
    last: dict[str, float] = {}
    times: dict[str, int] = {}
    while time.monotonic() < deadline:
        found = await ask(heard)
        if found is None:
            return
        now, seen = found
        begun = now if begun is None else begun
        for address, moment in seen.items():
            if (moment or 0.0) > begun and last.get(address) != moment:
                last[address] = moment
                times[address] = times.get(address, 0) + 1
        if all(times.get(address, 0) > 1 for address in seen):
            return
        await asyncio.sleep(LOOK)


async def last_of_client(client: Any) -> None:
    """Wait for the last figures of a client's cluster."""
    await last_figures(client._run_on_scheduler)


@contextlib.contextmanager
def around_clients(
    opened: Callable[[Any], Awaitable[Any]], closing: Callable[[Any], Awaitable[Any]]
) -> Iterator[None]:
    """Do something once each client is connected, and before each is closed.

    And wait for the last figures of each cluster of this process before it is closed.
    What fails here is as if it had not been done; clients are what they were after it.
    """
    import distributed
    from distributed.deploy.spec import SpecCluster

    clients: Any = distributed.Client
    clusters: Any = SpecCluster
    start, close, end = clients._start, clients._close, clusters._close
    looked_at: set[str] = set()

    async def started(client: Any, *args: Any, **kwargs: Any) -> Any:
        done = await start(client, *args, **kwargs)
        with contextlib.suppress(Exception):
            await opened(client)
        return done

    async def closed(client: Any, fast: bool = False) -> Any:
        if not fast and client.status == "running":
            with contextlib.suppress(Exception):
                await last_of_client(client)
                looked_at.add(client.scheduler.address)
            with contextlib.suppress(Exception):
                await closing(client)
        return await close(client, fast)

    async def ended(cluster: Any) -> Any:
        scheduler: Any = getattr(cluster, "scheduler", None)
        others = set(getattr(scheduler, "clients", ())) - {"fire-and-forget"}

        async def ask(function: Callable[..., Any]) -> Any:
            return function(dask_scheduler=scheduler)

        with contextlib.suppress(Exception):
            if others or scheduler.address not in looked_at:
                await last_figures(ask)
        return await end(cluster)

    clients._start, clients._close, clusters._close = started, closed, ended
    try:
        yield
    finally:
        clients._start, clients._close, clusters._close = start, close, end
