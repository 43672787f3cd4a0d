"""What travels in place of the plugins: source text, as for MemDash's other plugins.

A worker without dask_memdash, or with another version, is left alone and says so.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import cloudpickle

from dask_memdash.intermediates.memory import Memory
from dask_memdash.intermediates.shared.protocol import PROTOCOL

_WORKER = '''
from distributed.diagnostics.plugin import WorkerPlugin


class MemDashStorageOnWorker(WorkerPlugin):
    """Writes intermediates to the store that the cluster was given."""

    name = "memdash-storage"

    def __init__(self, memory, protocol):
        self.memory, self.protocol = memory, protocol
        self.side = None

    async def setup(self, worker):
        try:
            import pickle
            from dask_memdash.intermediates.shared.protocol import PROTOCOL
            from dask_memdash.intermediates.shared.worker_side import WorkerSide
            if PROTOCOL != self.protocol:
                raise RuntimeError("it has another version of dask_memdash")
            side = WorkerSide(worker, pickle.loads(self.memory))
            await side.start()
            self.side = side
            if side.share is not None:
                self.transition = side.transition
        except Exception as error:
            try:
                worker.log_event("memdash", {"action": "missing", "kind": "worker",
                    "where": getattr(worker, "address_safe", ""),
                    "text": f"this worker stores no intermediates: {error}"})
            except Exception:
                pass

    async def teardown(self, worker):
        side, self.side = self.side, None
        if side is not None:
            self.__dict__.pop("transition", None)
            await side.stop()


plugin = MemDashStorageOnWorker(memory, protocol)
'''

_SCHEDULER = """
try:
    import pickle
    from dask_memdash import SharedStorage
    memory = pickle.loads(memory)
except Exception as error:
    raise RuntimeError(
        "SharedStorage cannot be registered: the scheduler cannot import dask_memdash "
        f"or the memory ({error}); install them where the scheduler runs"
    ) from None
plugin = SharedStorage(memory)
"""


class _ByText:
    """Pickles to the ``plugin`` that a piece of source makes of some values."""

    def __init__(self, source: str, values: Mapping[str, Any]) -> None:
        self._source = source
        self._values = dict(values)

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_text(self._source, self._values)


def _by_text(source: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
    return eval, ("exec(source) or plugin", {"source": source, **values})


def worker_plugin(memory: Memory) -> bytes:
    """Pickle the worker plugin."""
    values = {"memory": cloudpickle.dumps(memory), "protocol": PROTOCOL}
    return pickle.dumps(_ByText(_WORKER, values))


def scheduler_plugin(memory: Memory) -> tuple[Any, ...]:
    """Return what ``__reduce__`` of the scheduler plugin returns."""
    return _by_text(_SCHEDULER, {"memory": cloudpickle.dumps(memory)})
