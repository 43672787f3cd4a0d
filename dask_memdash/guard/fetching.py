"""Inputs are memory too: what may be on its way to a worker at a time.

``transfer_incoming_bytes_limit`` of the worker's state is lowered to the room that
there is, and put back.  Dask fetches one input whatever its size while nothing else is
on its way: whether that is now, :mod:`~dask_memdash.guard.moves` asks.

Runs on the worker's event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed.worker_state_machine import WorkerState


class FetchLimit:
    """What may be fetched by one worker at a time."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        # What it was; None while it is that.
        self._usual: float | None = None

    @property
    def lowered(self) -> bool:
        """Whether it is lower than usual."""
        return self._usual is not None

    def set(self, room: int) -> bool:
        """Set it, for so many bytes of room; say if more may be fetched than before."""
        state = self._state
        before = state.transfer_incoming_bytes_limit
        usual = before if self._usual is None else self._usual
        if room >= usual:
            if self._usual is None:
                return False
            self.restore()
        else:
            self._usual = usual
            # at least one byte: at none, nothing at all would be fetched
            state.transfer_incoming_bytes_limit = max(1, room)
        more = state.transfer_incoming_bytes_limit > before
        return more and bool(state.data_needed) and state.running

    def restore(self) -> None:
        """Set it to what it was."""
        if self._usual is not None:
            self._state.transfer_incoming_bytes_limit = self._usual
            self._usual = None
