"""What of a worker's baseline has a name: globals, worker plugins, ``client.run``.

For the table of prefixes alone: no sum and no diagnosis rests on it.  Belongs to the
worker's event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dask_memdash.measure.deep_size import deep_size
from dask_memdash.measure.shared_process import process
from dask_memdash.model.event_parts import NamedMemory
from dask_memdash.plugins.worker.module_globals import ModuleGlobals
from dask_memdash.plugins.worker.run_calls import Instant, RunCalls
from dask_memdash.system.proc import allocator_free

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Objects and seconds that a look into one plugin may take, and how many times longer
#: than a look at all of them took none is made after it, or seconds at least.
MAX_OBJECTS = 20_000
SECONDS = 0.005
REST = 100
EVERY = 5.0

#: Plugins that are looked into at most.
MAX_PLUGINS = 50

#: From how many bytes on something is told, and from which change on again.
LEAST = 2**20

#: What the names of MemDash's own plugins begin with.
OURS = "memdash"


class NamedMemoryWatch:
    """Finds what of one worker's baseline has a name.

    Parameters
    ----------
    worker
        The worker.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._plugins: dict[str, int] = {}
        self._next = 0.0
        self._told: tuple[NamedMemory, ...] = ()
        self._modules = ModuleGlobals()
        #: Tasks that have begun so far.
        self.begun = 0
        self._calls = RunCalls(worker, self._instant)

    def close(self) -> None:
        """Leave nothing behind."""
        self._calls.close()

    def called(self, function: Any) -> None:
        """Take note of the function of a prefix's first task."""
        self._modules.called(function)

    def look(self, clock: Callable[[], float]) -> tuple[NamedMemory, ...] | None:
        """Look, as far as it is time to; None when hardly anything has changed.

        Parameters
        ----------
        clock
            Returns the time in seconds.
        """
        self._modules.look(clock)
        self._look_into_plugins(clock)
        found = tuple(self._found())
        if not _differ(self._told, found):
            return None
        self._told = found
        return found

    def _found(self) -> list[NamedMemory]:
        calls = self._calls
        found = [
            NamedMemory(group, name, size)
            for group, sizes in (
                ("global", self._modules.largest),
                ("plugin", self._plugins),
            )
            for name, size in sizes.items()
        ]
        if calls.bytes >= LEAST or calls.unmeasured:
            found.append(NamedMemory("client.run", "", calls.bytes, calls.unmeasured))
        return found

    def _look_into_plugins(self, clock: Callable[[], float]) -> None:
        begun = clock()
        if begun < self._next:
            return
        self._plugins = {}
        for name, plugin in list(self._worker.plugins.items())[:MAX_PLUGINS]:
            if not str(name).startswith(OURS):
                size = deep_size([plugin], most=MAX_OBJECTS, seconds=SECONDS).bytes
                if size >= LEAST:
                    self._plugins[_name_of(name, plugin)] = size
        self._next = clock() + max(EVERY, REST * (clock() - begun))

    def _instant(self) -> Instant:
        """Return what nothing explains of the process now, and whether it is idle."""
        parts = process.read_parts()
        own = None
        if parts is not None:
            known = process.stored() + process.named() + (allocator_free() or 0)
            own = max(0, parts.anon + parts.shmem - known)
        return Instant(own, process.is_quiet(), self.begun)


def _name_of(name: Any, plugin: Any) -> str:
    """Name a plugin as its author does: Dask's own names end in a random number."""
    given = str(name)
    kind = type(plugin).__name__
    return kind if given.startswith(kind) else given


def _differ(told: tuple[NamedMemory, ...], found: tuple[NamedMemory, ...]) -> bool:
    """Whether what is found is other than what was told, but for trifles."""
    before = {(one.group, one.name): one for one in told}
    if set(before) != {(one.group, one.name) for one in found}:
        return True
    return any(
        abs(one.size - before[one.group, one.name].size) >= LEAST
        or one.unmeasured != before[one.group, one.name].unmeasured
        for one in found
    )
