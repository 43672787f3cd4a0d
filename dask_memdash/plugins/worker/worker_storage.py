"""What a worker stores, spills and moves, as its own state says.

Covers the storage's books key by key, the spill buffer's sizes, and the buffers of
communications and P2P shuffles.  Belongs to the worker's event loop, but for
:meth:`WorkerStorage.stored`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dask_memdash.measure.deep_size import deep_size
from dask_memdash.measure.isolated import Traffic
from dask_memdash.measure.shared_memory import HOLDS_MORE, memory_owner
from dask_memdash.measure.storage_by_prefix import StorageLedger, largest_rows
from dask_memdash.plugins.keys import prefix_of

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Spilled inputs looked at in one heartbeat at most; with more, their sum is not known.
MAX_INPUTS = 2_000

#: Objects and seconds that a look into an output may take, and by how many bytes it
#: must be larger than believed.
MAX_OBJECTS = 5_000
LOOKING = 0.005
LARGER = 2**20


class Moving(NamedTuple):
    """Bytes on the move: being received, being sent, in P2P shuffles' buffers."""

    incoming: int
    outgoing: int
    shuffle: int


class WorkerStorage:
    """The storage and transfers of one worker."""

    def __init__(self, worker: Worker) -> None:
        self.ledger = StorageLedger()
        self._worker = worker
        self._rows_sent = -1
        # The worker's mapping as last met, Dask's own within it, and where that sums up
        # what it has spilled (None: a mapping of another kind).
        self._met: Any = None
        self._own: Any = None
        self._spill: Any = None
        # Outputs received from other workers, so far, in bytes.
        self._received = 0
        for key in list(self._data):
            self.store(key)

    @property
    def _data(self) -> Any:
        """Dask's own mapping: what a share of RAM has dropped from it is not here."""
        data = self._worker.data
        if data is not self._met:
            self._own = getattr(data, "inner", data)
            self._spill = _spill_of(self._own)
            self._met = data
        return self._own

    # -- storage ---------------------------------------------------------------

    def store(self, key: Any) -> int:
        """Count a key that has been stored; return its size in bytes."""
        task = self._worker.state.tasks.get(key)
        size = int(getattr(task, "nbytes", None) or 0)
        prefix = getattr(task, "prefix", None) or prefix_of(key)
        self.ledger.store(key, prefix, size)
        return size

    def receive(self, size: int) -> None:
        """Note that an output of another worker's has come, of so many bytes."""
        self._received += size

    def traffic(self) -> Traffic:
        """Return what was moved so far; may be called from any thread."""
        worker = self._worker
        sent = getattr(worker, "transfer_outgoing_bytes_total", 0)
        moved = self._received + int(sent)
        disk = getattr(self._data, "cumulative_metrics", None)
        if isinstance(disk, dict):
            for label in ("disk-read", "disk-write"):
                moved += int(disk.get((label, "bytes"), 0))
        return Traffic(moved, int(worker.state.transfer_incoming_bytes))

    def release(self, key: Any) -> None:
        """Stop counting a key."""
        self.ledger.release(key)

    def stored(self) -> int:
        """Return the bytes stored in RAM; may be called from any thread."""
        return max(0, self.ledger.total - self.spilled()[0])

    def new_rows(self) -> dict[str, list[int]] | None:
        """Return storage by prefix; None when nothing has changed since."""
        if self._rows_sent == self.ledger.version:
            return None
        self._rows_sent = self.ledger.version
        rows = self.ledger.rows()
        return {prefix: list(row) for prefix, row in largest_rows(rows).items()}

    def memory_owner(self, key: Any) -> str:
        """Say whose memory an output borrows, if it is in RAM and that can be told."""
        data = self._data
        # Not by way of the spill buffer, which would take it for used.
        held = getattr(getattr(data, "fast", None), "d", data)
        return memory_owner(held.get(key)) if isinstance(held, dict) else ""

    def holds_more(self, key: Any, size: int) -> str:
        """Say what an output keeps alive that is much larger than its own size.

        Parameters
        ----------
        size
            What Dask believes, in bytes.
        """
        data = self._data
        held = getattr(getattr(data, "fast", None), "d", data)
        value = held.get(key) if isinstance(held, dict) else None
        if value is None:
            return ""
        seen = deep_size([value], most=MAX_OBJECTS, seconds=LOOKING).bytes
        if seen <= 2 * size + LARGER:
            return ""
        return memory_owner(value) or HOLDS_MORE

    # -- spilled ---------------------------------------------------------------

    def spilled(self) -> tuple[int, int]:
        """Return bytes spilled, in memory and on disk; may be called from any thread.

        As the spill buffer itself sums them up, else as last looked at.
        """
        data = self._data
        if self._spill is not None:  # asked for every task: without its properties
            memory, disk = self._spill.total_weight
            return memory, disk
        total = getattr(data, "spilled_total", None)
        return (total[0], total[1]) if isinstance(total, tuple) else self.ledger.spilled

    def look_at_spilled(self) -> bool:
        """Bring the spilled bytes up to date; False if they cannot be told."""
        data = self._data
        if isinstance(data, dict):
            return True
        sizes = spilled_sizes(data)
        if sizes is None:
            return False
        total = tuple(getattr(data, "spilled_total", ()))
        if total != self.ledger.spilled or self.ledger.looking:
            self.ledger.look_at_spilled(sizes)
        return True

    def has_spilled_inputs(self, key: Any) -> bool:
        """Say whether a task has inputs that must be read back before it begins."""
        data = self._data
        sizes = (
            spilled_sizes(data) if self._spill is None else self._spill.weight_by_key
        )
        if not sizes:  # the usual case
            return False
        task = self._worker.state.tasks.get(key)
        if task is None:
            return False
        return any(other.key in sizes for other in task.dependencies)

    def inputs(self, most: int = MAX_INPUTS) -> int | None:
        """Return the spilled bytes that are in RAM all the same, being in use.

        May be called from any thread; None where they are more than `most` outputs, or
        changed just now.
        """
        data = self._data
        if isinstance(data, dict):
            return 0
        cache = getattr(getattr(data, "slow", None), "cache", None)
        sizes = spilled_sizes(data)
        if cache is None or sizes is None or len(cache) > most:
            return None
        try:
            return sum(int(sizes.get(key, (0,))[0]) for key in list(cache))
        except RuntimeError:  # it changed meanwhile
            return None

    # -- transfers -------------------------------------------------------------

    def moving(self) -> Moving:
        """Read the bytes on the move."""
        runs = self.shuffles().values()
        buffers = sum(
            int(run[side].get("memory", 0)) for run in runs for side in ("disk", "comm")
        )
        kept = sum(_written(run["disk"]) for run in runs if not _on_disk(run["disk"]))
        return Moving(
            int(self._worker.state.transfer_incoming_bytes),
            int(self._worker.transfer_outgoing_bytes),
            buffers + kept,
        )

    def shuffle_disk(self) -> int:
        """Return the bytes that shuffles have on disk."""
        runs = self.shuffles().values()
        return sum(_written(run["disk"]) for run in runs if _on_disk(run["disk"]))

    def shuffles(self) -> dict[Any, Any]:
        """Return state of the P2P shuffles, as the host's own heartbeat tells it."""
        return _shuffles(self._worker)


def shuffles_on_disk(worker: Worker) -> bool | None:
    """Say whether P2P shuffles write to disk; None where there are none, or some do."""
    kinds = {_on_disk(run["disk"]) for run in _shuffles(worker).values()}
    return kinds.pop() if len(kinds) == 1 else None


def _shuffles(worker: Worker) -> dict[Any, Any]:
    extension = worker.extensions.get("shuffle")
    return {} if extension is None else extension.heartbeat()


def _written(buffer: Mapping[str, Any]) -> int:
    """Return what a shuffle has put aside and not taken again, in bytes."""
    return max(0, int(buffer.get("written", 0)) - int(buffer.get("read", 0)))


def _on_disk(buffer: Mapping[str, Any]) -> bool:
    """Whether that is on disk: the host's buffer in memory has no limit of its own."""
    return buffer.get("memory_limit") is not None


def _spill_of(data: object) -> Any:
    """Return what keeps the sums of Dask's own spill buffer; None for other data."""
    slow = getattr(getattr(data, "slow", None), "data", None)
    total = getattr(data, "spilled_total", None)
    own = total is not None and total is getattr(slow, "total_weight", None)
    return (
        slow
        if own and isinstance(total, tuple) and spilled_sizes(data) is not None
        else None
    )


def spilled_sizes(data: object) -> Mapping[Any, tuple[int, int]] | None:
    """Return ``{key: (bytes in memory, bytes on disk)}`` of Dask's own spill buffer.

    None for a ``data`` of another kind, which cannot say.
    """
    slow = getattr(getattr(data, "slow", None), "data", None)
    sizes = getattr(slow, "weight_by_key", None)
    return sizes if isinstance(sizes, Mapping) else None
