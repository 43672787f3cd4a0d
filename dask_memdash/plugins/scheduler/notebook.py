"""What a notebook shows of a :class:`~dask_memdash.plugins.scheduler.plugin.MemDash`.

The object in a notebook is a client's copy, so it asks the cluster of the client that
is current; without one it says how to register.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dask_memdash.client.cards import Shown, cards, gather
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
    """Ask a store of this process what is on the cards."""
    from dask_memdash.web.api import ask

    async def asking(path: str, arguments: Mapping[str, Any]) -> Any:
        query = {name: str(value) for name, value in arguments.items()}
        return json.loads(ask(store, path, query)[1]), {}

    coming = gather(asking, "", lambda path: None)
    try:
        coming.send(None)  # nothing in it waits, and a loop may be running here
    except StopIteration as finished:
        shown: Shown = finished.value
        return shown
    raise RuntimeError("asking a store does not wait")
