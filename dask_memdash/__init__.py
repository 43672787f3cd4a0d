"""Where a Dask cluster's memory is, who holds it, and why a worker died.

``client.register_plugin(MemDash())`` puts a page at ``/memdash`` on the scheduler's
dashboard; ``dask scheduler --preload dask_memdash`` does the same at start.
``explain(error)`` says why Dask raised ``KilledWorker``, and ``connect(client)`` gives
what the page shows as pandas DataFrames; ``order(collection)`` works out the storage
that a collection needs before anything runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_memdash.client.connection import connect, explain
    from dask_memdash.client.order_preview import order
    from dask_memdash.plugins.scheduler.plugin import MemDash

__version__ = "0.1.0"

__all__ = ["MemDash", "__version__", "connect", "dask_setup", "explain", "order"]


def __getattr__(name: str) -> Any:
    if name == "MemDash":
        from dask_memdash.plugins.scheduler.plugin import MemDash

        return MemDash
    if name in ("connect", "explain"):
        from dask_memdash.client import connection

        return getattr(connection, name)
    if name == "order":
        from dask_memdash.client.order_preview import order

        return order
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def dask_setup(server: Any) -> None:
    """Register MemDash on the scheduler that preloads this package.

    Called by ``dask scheduler --preload dask_memdash`` and by the configuration key
    ``distributed.scheduler.preload``.  On a worker or a nanny it does nothing: the
    scheduler sets those up.
    """
    from dask_memdash.boundary import boundary

    def register() -> None:
        from dask_memdash.plugins.scheduler.plugin import preload

        preload(server)

    boundary.guarded(register, "preloading dask_memdash")()
