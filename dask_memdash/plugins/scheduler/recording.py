"""The record of a run on its scheduler: begun, fed each tick, ended.

Nothing of :mod:`dask_memdash.runs` is loaded where no run is recorded.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import dask_memdash
from dask_memdash import config
from dask_memdash.boundary import boundary, guard_entry_points
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import Event, Noticed
from dask_memdash.store.live import LiveStore

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

#: Seconds that ending a record may take.
CLOSING = 5.0

#: The place that notices of the record are shown at.
PLACE = "record"


def begin(
    scheduler: Scheduler,
    model: ClusterModel,
    store: LiveStore,
    settings: config.Settings,
    handle: Callable[[Event], None],
) -> Recording | None:
    """Begin to record a run where that is configured."""
    if settings.record_to is None:
        return None
    return Recording(scheduler, model, store, settings, handle)


@guard_entry_points
class Recording:
    """Records one run; never raises once it has begun.

    Parameters
    ----------
    scheduler
        Whose run it is.
    model, store
        What is recorded.
    settings
        Where to, and how much.
    handle
        Takes in an event.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        model: ClusterModel,
        store: LiveStore,
        settings: config.Settings,
        handle: Callable[[Event], None],
    ) -> None:
        from dask_memdash.runs.directory import Manifest, clean_tags, new_run_id
        from dask_memdash.runs.place import prepare
        from dask_memdash.runs.recorder import Recorder
        from dask_memdash.runs.writer import Writer

        now = time.time()
        manifest = Manifest(
            id=new_run_id(now),
            started=now,
            name=(settings.record_run or "")[:200],
            tags=clean_tags(settings.record_tags),
            versions={
                "dask_memdash": dask_memdash.__version__,
                "dask": version("dask"),
                "distributed": version("distributed"),
                "python": platform.python_version(),
            },
            scheduler={
                "id": str(scheduler.id),
                "address": str(getattr(scheduler, "address_safe", "")),
            },
        )
        to = str(settings.record_to)
        #: Id of the run, and where it is recorded to.
        self.run, self.to = manifest.id, to
        self.writer = Writer(
            manifest,
            partial(prepare, to, manifest.id, config.scratch_directory()),
            limit=settings.record_limit,
            queue=settings.record_queue,
        )
        self._recorder = Recorder(
            store, model, self.writer, partial(_duration, scheduler.task_prefixes)
        )
        self._handle = handle
        self._said: tuple[str, ...] = ()
        self.writer.start()

    def step(self, now: float) -> None:
        """Record what changed; `now` is Unix time in seconds."""
        self._recorder.step(now)
        said = self.writer.texts()
        if said != self._said:
            self._said = said
            self._handle(Noticed(now, PLACE, said))

    def detach(self) -> None:
        """End the record in the background."""
        self._closing = asyncio.ensure_future(self.close())

    async def close(self) -> None:
        """Record the end, and wait for it, `CLOSING` seconds at most."""
        self._recorder.finish(time.time())
        await asyncio.to_thread(self.writer.close, CLOSING)


def mean_duration(prefixes: Mapping[str, Any], name: str) -> float | None:
    """Return the mean time that tasks of a prefix took to run, in seconds.

    Over all that have finished, where Dask's own ``duration_average`` follows the last
    few; None before the first.
    """
    prefix = prefixes.get(name)
    if prefix is None:
        return None
    finished = prefix.state_counts["memory"]
    took = float(prefix.all_durations["compute"])
    return took / finished if finished and took > 0 else None


# What a later Dask may call otherwise costs its own column alone.
_duration: Callable[..., float | None] = boundary.guarded(
    mean_duration, "reading how long tasks took", None
)
