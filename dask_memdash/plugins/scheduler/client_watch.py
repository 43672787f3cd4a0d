"""What clients have sent to the scheduler, and what they say of their own memory.

Each graph comes in one message (``update-graph``), whose handler is wrapped, on the
instance: its size is what Dask itself warns of on the client's side.  A client that
asks MemDash something (``connect``) says what its process uses; one that lives in the
scheduler's process uses what that does.  Belongs to the scheduler's event loop.

Not seen: the memory of other clients that never ask.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.model.event_parts import ClientRow
from dask_memdash.plugins.keys import prefix_of
from dask_memdash.text import KEY_KEPT

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

#: The message with a client's graph, and the operation of ours by which it tells of
#: itself.
MESSAGE = "update-graph"
OPERATION = "memdash_client"

#: Clients that are told of: those that sent the largest graphs.
MAX_CLIENTS = 20

#: Sizes that a client may tell of, below this, in bytes.
BEYOND = 2**50


class ClientWatch:
    """Remembers what each client of a scheduler has sent.

    Parameters
    ----------
    scheduler
        Whose clients.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._rows: dict[str, ClientRow] = {}
        self._own: dict[str, tuple[int, int | None]] = {}
        self._original: Callable[..., Any] | None = None
        self._wrapped: Callable[..., Any] | None = None
        self._answer: Callable[..., Any] | None = None

    def attach(self) -> None:
        """Begin to listen; where there is no such message, only to what is told."""
        handlers = self._scheduler.handlers
        self._answer = boundary.guarded(self._told, "hearing of a client's memory")
        handlers[OPERATION] = self._answer
        original = self._scheduler.stream_handlers.get(MESSAGE)
        if not inspect.iscoroutinefunction(original):
            return
        note = boundary.guarded(self._note, "noting the size of a graph")

        @functools.wraps(original)
        async def update_graph(*args: Any, **kwargs: Any) -> Any:
            if self._wrapped is not None:
                note(*args, **kwargs)
            coming = original(*args, **kwargs)
            del args, kwargs  # the host lets go of the message as soon as it can
            return await coming

        self._original, self._wrapped = original, update_graph
        self._scheduler.stream_handlers[MESSAGE] = update_graph

    def detach(self) -> None:
        """Listen no more."""
        wrapped, self._wrapped = self._wrapped, None
        streams, handlers = self._scheduler.stream_handlers, self._scheduler.handlers
        if wrapped is not None and streams.get(MESSAGE) is wrapped:
            streams[MESSAGE] = self._original  # type: ignore[assignment]
        if self._answer is not None and handlers.get(OPERATION) is self._answer:
            del handlers[OPERATION]
        self._rows.clear()
        self._own.clear()

    def rows(self, rss: int) -> dict[str, ClientRow]:
        """Return what is known of the clients that are connected, by their ids.

        Parameters
        ----------
        rss
            RSS of this process in bytes: of clients in it too.
        """
        connected = self._scheduler.clients
        for gone in [name for name in self._rows if name not in connected]:
            del self._rows[gone]
        for gone in [name for name in self._own if name not in connected]:
            del self._own[gone]
        here = _clients_here()
        found = {}
        for name in {*self._rows, *self._own, *(here & connected.keys())}:
            row = self._rows.get(name, ClientRow())
            own, limit = self._own.get(name, (None, None))
            if name in here:
                own, limit = rss, None
            found[str(name)[:KEY_KEPT]] = ClientRow(
                row.graphs,
                row.sent,
                row.largest,
                row.largest_prefix,
                own,
                limit,
                name in here,
            )
        ranked = sorted(found.items(), key=lambda item: (-item[1].largest, item[0]))
        return dict(ranked[:MAX_CLIENTS])

    def _note(self, client: str = "", **message: Any) -> None:
        size = sum(_size_of(part) for part in message.values())
        row = self._rows.get(client, ClientRow())
        largest, prefix = row.largest, row.largest_prefix
        if size > largest:
            keys: Iterable[Any] = message.get("keys") or ()
            key = next(iter(keys), None)
            prefix = "" if key is None else prefix_of(key)[:KEY_KEPT]
            largest = size
        self._rows[client] = ClientRow(row.graphs + 1, row.sent + size, largest, prefix)

    async def _told(self, client: str, rss: int, limit: int | None = None) -> None:
        """Take in what a client says of its own process, in bytes."""
        sizes = [rss] if limit is None else [rss, limit]
        if any(type(size) is not int or not 0 <= size < BEYOND for size in sizes):
            return
        if client in self._scheduler.clients:
            self._own[client] = rss, limit


def _size_of(part: Any) -> int:
    """Return the bytes of one part of a message, where it came as frames."""
    frames = getattr(part, "frames", None)
    if frames is None and type(part) is list:
        frames = part
    if not isinstance(frames, list | tuple):
        return 0
    return sum(
        one.nbytes if type(one) is memoryview else len(one)
        for one in frames
        if isinstance(one, bytes | bytearray | memoryview)
    )


def _clients_here() -> set[str]:
    """Return the ids of the clients that live in this process."""
    from distributed import Client

    return {str(getattr(one, "id", "")) for one in list(Client._instances)}
