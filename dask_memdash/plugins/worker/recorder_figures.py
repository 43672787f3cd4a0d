"""The worker's flight recorder: made, and its figures of the worker kept true.

What a nanny reads after a death is at most a trifle behind: the storage's figures are
written whenever they have changed by more, the whole reading at every heartbeat.
Tasks' slots are written by :mod:`dask_memdash.plugins.worker.tasks` and the tally.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dask_memdash.errors import RecorderError
from dask_memdash.flight.format import READING_FIELDS
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure.shared_process import SharedProcess
from dask_memdash.model.breakdown import Reading
from dask_memdash.plugins.worker.worker_storage import WorkerStorage

#: Change of the stored bytes that the flight recorder need not hear of at once.
WRITE_STEP = 2**20

#: Spilled outputs in use that are looked at between two readings, at most.
FEW_INPUTS = 100


def make_recorder(
    slots: int,
    address: str,
    directory: str | None,
    *,
    private: bool,
    map_slots: Callable[[int, int], tuple[Any, memoryview]] | None,
) -> tuple[FlightRecorder, str]:
    """Make the recorder, in memory that no nanny can read where nothing else can be.

    See :class:`FlightRecorder` for the parameters.

    Returns
    -------
    tuple of FlightRecorder and str
        The latter says in how far it is degraded; empty where it is not.
    """
    try:
        recorder = FlightRecorder(
            slots, address, directory, private=private, map_slots=map_slots
        )
    except RecorderError as error:
        recorder = FlightRecorder(slots, address, private=True, map_slots=map_slots)
        return recorder, f"{error}: a death leaves no record"
    return recorder, recorder.degraded


def told_children(recorder: FlightRecorder) -> list[dict[str, Any]]:
    """Return what the sampler tells of processes that tasks started, as plain data."""
    raw = recorder.told()
    if not raw:
        return []
    try:
        rows = json.loads(raw)
    except (ValueError, RecursionError):
        return []
    return rows if isinstance(rows, list) else []


class RecorderFigures:
    """Writes the figures of one worker into its flight recorder.

    Parameters
    ----------
    recorder
        Where to.
    storage
        What the worker stores.
    """

    def __init__(self, recorder: FlightRecorder, storage: WorkerStorage) -> None:
        self._recorder = recorder
        self._storage = storage
        # As last written, in bytes.
        self._claimed = 0
        self._spilled = (0, 0)

    def write(self, reading: Reading, last_rest: int | None) -> None:
        """Write all figures of a reading.

        Parameters
        ----------
        last_rest
            What is no running task's, in bytes; None while that is not known.
        """
        self._claimed = reading.managed_claimed
        self._spilled = (reading.spilled or 0, reading.spilled_disk or 0)
        values = {name: getattr(reading, name, None) for name in READING_FIELDS}
        self._recorder.write_reading({**values, "last_rest": last_rest})

    def loaded(self, process: SharedProcess) -> None:
        """Write the baseline, which has grown by what came with a task."""
        figures = {
            "base": process.baseline.bytes,
            "base_file": process.baseline.file,
            "last_rest": process.idle_rest(),
            "loaded": process.loaded,
        }
        for name, value in figures.items():
            if value is not None:
                self._recorder.write_field(name, value)

    def storage_changed(self) -> None:
        """Write the storage's figures if they have changed by more than a trifle."""
        spilled = self._storage.spilled()
        claimed = max(0, self._storage.ledger.total - spilled[0])
        if abs(claimed - self._claimed) > WRITE_STEP:
            self._claimed = claimed
            self._recorder.write_field("managed_claimed", claimed)
        if not (spilled[0] or self._spilled[0]):
            return
        if spilled != self._spilled:
            self._spilled = spilled
            self._recorder.write_field("spilled", spilled[0])
            self._recorder.write_field("spilled_disk", spilled[1])
        inputs = self._storage.inputs(FEW_INPUTS)
        if inputs is not None:
            self._recorder.write_field("inputs", inputs)

    def task_began(self) -> None:
        """Write what a task's begin may have changed: inputs that came from disk."""
        if self._storage.spilled()[0] or self._spilled[0]:
            self.storage_changed()
