"""``RedisMemory``: a memory on a Redis server, which has no files and no folders.

Needs the package redis (``pip install redis``).  What is stored lives as long as the
server keeps it: configure persistence there, and an eviction policy of ``noeviction``,
or chunks go missing (which is noticed, and they are computed again).
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from dask_memdash.errors import MissingError, NameTakenError, StorageError
from dask_memdash.intermediates.memory import Buffer, Entry, check_object_name
from dask_memdash.intermediates.retry import with_retries
from dask_memdash.intermediates.settings import lifetime, version_text
from dask_memdash.redact import without_secrets

T = TypeVar("T")

#: Largest value that Redis takes, in bytes.
MAX_VALUE = 512 * 2**20

#: Names asked for in one round trip of a listing.
BATCH = 1000


class RedisMemory:
    """A store of intermediates on a Redis server that client and workers reach.

    Parameters
    ----------
    url
        Such as ``redis://host:6379/0`` or ``rediss://user:password@host/0``.
    prefix
        Begins the name of everything stored, so that several stores share a server.
    ttl, version
        As of :class:`~dask_memdash.intermediates.fs_memory.FSMemory`.
    options
        Further ones of ``redis.Redis.from_url``, such as ``socket_timeout``.

    Raises
    ------
    StorageError
        The package redis is missing, or an argument makes no sense.
    """

    outlives_workers = True

    def __init__(
        self,
        url: str,
        prefix: str = "memdash",
        ttl: str | float | None = "7d",
        version: str | None = None,
        **options: Any,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", prefix):
            raise StorageError(f"prefix={prefix[:120]!r} is no name")
        self.url = url
        self.prefix = prefix
        self.options = {"socket_timeout": 30.0, "socket_connect_timeout": 5.0} | options
        self.ttl = lifetime(ttl)
        self.version = version_text(version)
        self._opened: Any = None
        self._client  # noqa: B018 - a missing package is told now

    @property
    def address(self) -> str:
        """The address without user and password, for messages."""
        shown = without_secrets(self.url)
        return f"{shown} ({self.prefix})"

    def __repr__(self) -> str:
        return f"RedisMemory({self.address!r})"

    @property
    def _same(self) -> tuple[str, ...]:
        return self.url, self.prefix, self.version or ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RedisMemory) and other._same == self._same

    def __hash__(self) -> int:
        return hash(self._same)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return ("dask_memdash.RedisMemory", *self._same)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @property
    def _client(self) -> Any:
        if self._opened is None:
            try:
                import redis
            except ImportError as error:
                raise StorageError(
                    f"RedisMemory needs the package redis, which "
                    f"{socket.gethostname()} does not have. Install it for client and "
                    "workers: pip install redis"
                ) from error
            try:
                self._opened = redis.Redis.from_url(self.url, **self.options)
            except (ValueError, TypeError) as error:
                raise StorageError(f"no address of a Redis server: {error}") from None
        return self._opened

    def _ask(self, doing: str, call: Callable[[], T]) -> T:
        return with_retries(call, f"{self.address} cannot be {doing}")

    def _full(self, name: str) -> str:
        check_object_name(name)
        return f"{self.prefix}:{name}"

    @property
    def _times(self) -> str:
        """Name of the sorted set that says when each object was written."""
        return f"{self.prefix}:times"

    # -- the five methods ------------------------------------------------------

    def put(self, name: str, frames: Sequence[Buffer], new: bool = False) -> None:
        """Store frames under a name, all or nothing; see :class:`~.memory.Memory`."""
        full, content = self._full(name), b"".join(frames)
        if len(content) > MAX_VALUE:
            raise StorageError(
                f"{name} has {len(content):,} bytes; Redis takes at most 512 MiB. Take "
                "smaller chunks, or FSMemory."
            )

        def write() -> bool:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.set(full, content, nx=new)
                pipe.zadd(self._times, {name: time.time()}, nx=new)
                return bool(pipe.execute()[0])

        if not self._ask("written", write):
            # a try before this one may have been carried out without an answer
            if self._ask("read", lambda: self._client.get(full)) == content:
                return
            raise NameTakenError(f"{name} is in {self.address} already")

    def get(self, name: str) -> Buffer:
        """Return an object's bytes; see :class:`~.memory.Memory`."""
        full = self._full(name)
        content: bytes | None = self._ask("read", lambda: self._client.get(full))
        if content is None:
            raise MissingError(
                f"{name} is not in {self.address}. It was deleted or evicted, or never "
                "stored. Persist the collection again: only what is not stored is "
                "computed."
            )
        return content

    def exists(self, name: str) -> bool:
        """Return whether there is such an object; see :class:`~.memory.Memory`."""
        full = self._full(name)
        return bool(self._ask("read", lambda: self._client.exists(full)))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Return the objects whose names begin so; see :class:`~.memory.Memory`."""
        times = self._ask(
            "listed", lambda: self._client.zrange(self._times, 0, -1, withscores=True)
        )
        named = [(one.decode(), then) for one, then in times]
        wanted = [(one, then) for one, then in named if one.startswith(prefix)]
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            sizes = self._ask("listed", partial(self._sizes, batch))
            for (name, then), size in zip(batch, sizes, strict=True):
                # whatever is stored has a header: no size means evicted
                if size or self.exists(name):
                    yield Entry(name, size, then)

    def _sizes(self, batch: Sequence[tuple[str, float]]) -> Sequence[int]:
        with self._client.pipeline(transaction=False) as pipe:
            for name, _ in batch:
                pipe.strlen(self._full(name))
            sizes: Sequence[int] = pipe.execute()
            return sizes

    def delete(self, name: str) -> None:
        """Delete an object if it is there; see :class:`~.memory.Memory`."""
        full = self._full(name)

        def delete() -> None:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.delete(full)
                pipe.zrem(self._times, name)
                pipe.execute()

        self._ask("written", delete)
