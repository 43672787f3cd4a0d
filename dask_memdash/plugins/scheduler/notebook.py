"""What a notebook shows of a :class:`~dask_memdash.plugins.scheduler.plugin.MemDash`.

The object in a notebook is a client's copy, so it asks the cluster of the client that
is current; without one it says how to register.
"""

from __future__ import annotations

from typing import Any

from dask_memdash.client.cards import (
    MOST_FAILURES,
    MOST_WORKERS,
    ROWS,
    Shown,
    cards,
    fullest,
)
from dask_memdash.store.all_rows import all_rows
from dask_memdash.store.base import Store


def summary(store: Store | None) -> str:
    """Write the running cluster as cards, in HTML.

    Parameters
    ----------
    store
        The store itself, on the scheduler; None elsewhere.
    """
    if store is not None:
        return cards(_shown(store))
    from distributed import Client

    from dask_memdash.client.connection import Connection

    try:
        client = Client.current()
    except ValueError:
        return cards(Shown())
    if client.status != "running":
        return cards(Shown())
    return Connection(client, tells=False)._repr_html_()


def _shown(store: Store) -> Shown:
    """Return what is on the cards of a store of this process."""
    cluster: Any = store.cluster()
    few = cluster["n_workers"] <= MOST_WORKERS
    return Shown(
        cluster=cluster,
        workers=fullest(store.workers() if few else []),
        prefixes=list(all_rows(store, ROWS)),
        failures=list(store.failures(MOST_FAILURES)),
    )
