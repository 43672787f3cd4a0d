"""Where a Dask cluster's memory is, who holds it, and why a worker died.

``client.register_plugin(MemDash())`` puts a page at ``/memdash`` on the scheduler's
dashboard; ``dask scheduler --preload dask_memdash`` does the same at start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_memdash.plugins.scheduler import MemDash

__version__ = "0.1.0"

__all__ = ["MemDash", "__version__", "dask_setup"]


def __getattr__(name: str) -> Any:
    if name == "MemDash":
        from dask_memdash.plugins.scheduler import MemDash

        return MemDash
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def dask_setup(server: Any) -> None:
    """Register MemDash on the scheduler that preloads this package.

    Called by ``dask scheduler --preload dask_memdash`` and by the configuration key
    ``distributed.scheduler.preload``.  On a worker or a nanny it does nothing: the
    scheduler sets those up.
    """
    from dask_memdash.border import border

    def register() -> None:
        from dask_memdash.plugins.scheduler import preload

        preload(server)

    border.guarded(register, "preloading dask_memdash")()
