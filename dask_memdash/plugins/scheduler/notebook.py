"""What a notebook shows of a :class:`~dask_memdash.plugins.scheduler.plugin.MemDash`.

The object in a notebook is a client's copy, so it asks the cluster of the client that
is current; without one it says how to register.
"""

from __future__ import annotations

import json
from typing import Any

from dask_memdash.links import page_link
from dask_memdash.store.base import Store
from dask_memdash.views.cluster_card import card

#: Longest that a notebook waits for the scheduler, in seconds.
CARD_TIMEOUT = 5.0


def summary(store: Store | None) -> str:
    """Write a summary of the running cluster as HTML.

    Parameters
    ----------
    store
        The store itself, on the scheduler; None elsewhere.
    """
    if store is not None:
        return card(store.cluster())
    return card(*_ask())


def _ask() -> tuple[dict[str, Any] | None, str]:
    """Ask the current client's scheduler; give what it says, and the page's address."""
    from distributed import Client

    try:
        client = Client.current()
    except ValueError:
        return None, ""
    if client.asynchronous or client.status != "running":
        return None, ""
    scheduler: Any = client.scheduler
    try:
        answer = client.sync(
            scheduler.memdash_query,
            path="cluster",
            arguments={},
            callback_timeout=CARD_TIMEOUT,
        )
    except (OSError, AttributeError, TimeoutError):
        return None, ""
    if not isinstance(answer, dict) or answer.get("status") != 200:
        return None, ""
    return json.loads(answer["body"]), page_link(
        client.dashboard_link, "/memdash"
    ) or ""
