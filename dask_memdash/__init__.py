"""Where a Dask cluster's memory is, who holds it, and why a worker died.

``client.register_plugin(MemDash())`` puts a page at ``/memdash`` on the scheduler's
dashboard; ``dask scheduler --preload dask_memdash`` does the same at start.
``explain(error)`` says why Dask raised ``KilledWorker``, and ``connect(client)`` gives
what the page shows as pandas DataFrames; ``order(collection)`` works out the storage
that a collection needs before anything runs.  ``open_run(path)`` gives what a recorded
run knows after its cluster is gone, and ``diff(a, b)`` compares two.
``persist(x, memory=…)`` keeps results where they outlive the cluster, and
``open_persisted`` finds them again;
``client.register_plugin(SharedStorage(memory))`` has plain ``x.persist()`` do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_memdash.client.connection import connect, explain
    from dask_memdash.client.order_preview import order
    from dask_memdash.client.recorded import open_run
    from dask_memdash.client.run_diff import diff
    from dask_memdash.intermediates.fs_memory import FSMemory
    from dask_memdash.intermediates.opening import open_persisted
    from dask_memdash.intermediates.persisting import persist
    from dask_memdash.intermediates.redis_memory import RedisMemory
    from dask_memdash.intermediates.shared.plugin import SharedStorage
    from dask_memdash.intermediates.worker_memory import WorkerMemory
    from dask_memdash.plugins.scheduler.plugin import MemDash

__version__ = "0.1.0"

__all__ = [
    "FSMemory",
    "MemDash",
    "RedisMemory",
    "SharedStorage",
    "WorkerMemory",
    "__version__",
    "connect",
    "dask_setup",
    "diff",
    "explain",
    "open_persisted",
    "open_run",
    "order",
    "persist",
]

#: Where each name is found once somebody asks for it.
_HOMES = {
    "FSMemory": "intermediates.fs_memory",
    "MemDash": "plugins.scheduler.plugin",
    "RedisMemory": "intermediates.redis_memory",
    "SharedStorage": "intermediates.shared.plugin",
    "WorkerMemory": "intermediates.worker_memory",
    "connect": "client.connection",
    "diff": "client.run_diff",
    "explain": "client.connection",
    "open_persisted": "intermediates.opening",
    "open_run": "client.recorded",
    "order": "client.order_preview",
    "persist": "intermediates.persisting",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)


def dask_setup(server: Any) -> None:
    """Register MemDash on the scheduler that preloads this package.

    Where ``memdash.storage.url`` is configured, the cluster is given that memory too.

    Called by ``dask scheduler --preload dask_memdash`` and by the configuration key
    ``distributed.scheduler.preload``.  On a worker or a nanny it does nothing: the
    scheduler sets those up.
    """
    from dask_memdash.boundary import boundary

    def register() -> None:
        from dask_memdash.plugins.scheduler.plugin import preload

        preload(server)

    def give_memory() -> None:
        from dask_memdash.intermediates.shared.plugin import preload

        preload(server)

    boundary.guarded(register, "preloading dask_memdash")()
    boundary.guarded(give_memory, "giving the cluster a memory")()
