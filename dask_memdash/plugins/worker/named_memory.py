"""What of a worker's baseline has a name: globals, worker plugins, ``client.run``.

For the table of prefixes alone: no sum and no diagnosis rests on it.  Belongs to the
worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.measure.deep_size import deep_size
from dask_memdash.measure.shared_process import process
from dask_memdash.model.event_parts import NamedMemory
from dask_memdash.plugins.worker.module_globals import ModuleGlobals
from dask_memdash.plugins.worker.run_calls import Instant, RunCalls
from dask_memdash.system.proc import allocator_free

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Objects and seconds that a look into one plugin may take, and how many times longer
#: than that none is made after it; seconds from the end of one pass over all plugins to
#: the next.
MAX_OBJECTS = 20_000
SECONDS = 0.005
REST = 100
BETWEEN = 5.0

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
        self._walk: Iterator[tuple[str, int]] | None = None
        self._sizes: dict[str, int] = {}
        self._next = 0.0
        self._told: tuple[NamedMemory, ...] = ()
        self._modules = ModuleGlobals(outputs=self._outputs)
        # Whether variables have been looked into before a call, to be after it too.
        self._looked_before = False
        #: Tasks that have begun so far.
        self.begun = 0
        calls = boundary.guarded(RunCalls, "watching what client.run leaves behind")
        self._calls: RunCalls | None = calls(worker, self._instant)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._calls is not None:
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
        if self._calls is not None:
            self._calls.settle()
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
        if calls is not None and (calls.bytes >= LEAST or calls.unmeasured):
            found.append(NamedMemory("client.run", "", calls.bytes, calls.unmeasured))
        return found

    def _look_into_plugins(self, clock: Callable[[], float]) -> None:
        """Look into one more plugin, if it is time."""
        begun = clock()
        if begun < self._next:
            return
        if self._walk is None:
            self._walk, self._sizes = self._each_plugin(), {}
        found, rest = next(self._walk, None), 0.0
        if found is None:
            self._walk, self._plugins, rest = None, self._sizes, BETWEEN
        elif found[1] >= LEAST:
            self._sizes[found[0]] = found[1]
        now = clock()
        self._next = now + max(rest, REST * (now - begun))

    def _each_plugin(self) -> Iterator[tuple[str, int]]:
        known = getattr(self._worker, "plugins", None) or {}
        for name in list(known)[:MAX_PLUGINS]:
            if name in known and not str(name).startswith(OURS):
                size = deep_size([known[name]], most=MAX_OBJECTS, seconds=SECONDS)
                yield _name_of(name, known[name]), size.bytes

    def _outputs(self) -> Iterator[Any]:
        """Go through the outputs in RAM, reading none back from disk."""
        data = self._worker.data
        held = getattr(data, "fast", data)
        held = getattr(held, "d", held)
        return iter(list(held.values())) if type(held) is dict else iter(())

    def _instant(self, variables: bool) -> Instant:
        """Return what nothing explains of the process now, and whether it is idle."""
        held = None
        if variables:
            second, self._looked_before = self._looked_before, False
            held = self._modules.total(time.perf_counter, second=second)
            self._looked_before = held is not None and not second
        parts = process.read_parts()
        own = None
        if parts is not None:
            known = process.stored() + process.named() + (allocator_free() or 0)
            own = max(0, parts.anon + parts.shmem - known)
        return Instant(own, process.is_quiet(), self.begun, held)


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
