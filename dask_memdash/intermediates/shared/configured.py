"""The memory that a cluster is given by configuration alone."""

from __future__ import annotations

from dask_memdash import config
from dask_memdash.intermediates.memory import Memory

#: What the address of a Redis server begins with.
REDIS = ("redis://", "rediss://", "unix://")


def configured_memory() -> Memory | None:
    """Return the memory at ``memdash.storage.url``; None if none is configured.

    Raises
    ------
    StorageError
        The address, or what stands beside it, makes no sense.
    """
    settings = config.load()
    url = settings.storage_url
    if url is None:
        return None
    if url.startswith(REDIS):
        from dask_memdash.intermediates.redis_memory import RedisMemory

        return RedisMemory(
            url, ttl=settings.storage_ttl, version=settings.storage_version
        )
    from dask_memdash.intermediates.fs_memory import FSMemory

    return FSMemory(
        url,
        ram=settings.storage_ram,
        ttl=settings.storage_ttl,
        version=settings.storage_version,
    )
