"""Whether a worker's tasks are counted by the tally, and what measures them if not."""

from __future__ import annotations

from collections.abc import Callable

from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure.meter import Meter, RssMeter, TallyMeter
from dask_memdash.measure.methods import ESTIMATED, EXACT, HWM
from dask_memdash.measure.regression import Share
from dask_memdash.measure.tally import Tally, load, why_not


def acquire_tally() -> tuple[Tally | None, str]:
    """Install the tally's hooks for one more worker, if that can be.

    Returns
    -------
    tuple of Tally and str
        The tally, to be released by the caller; or None, and why in words.
    """
    tally = load()
    if tally is None:
        return None, why_not()
    return (tally, "") if tally.acquire() else (None, tally.refused)


def choose_meter(
    tally: Tally | None,
    recorder: FlightRecorder,
    in_execution: Callable[[int], int | None],
    expected: Callable[[str], Share | None],
) -> Meter:
    """Return what measures tasks: the tally if there is one, else their RSS.

    See :class:`RssMeter` for `in_execution` and `expected`.
    """
    shared_out = RssMeter(recorder, in_execution, expected)
    return shared_out if tally is None else TallyMeter(tally, recorder, shared_out)


def best_method(tally: Tally | None, nthreads: int, *, high_water: bool) -> str:
    """Name the best method that tasks can be measured by.

    Parameters
    ----------
    nthreads
        How many tasks can run at the same time.
    high_water
        Whether the kernel's high-water mark can be set back.
    """
    if tally is not None:
        return EXACT
    return HWM if nthreads == 1 and high_water else ESTIMATED
