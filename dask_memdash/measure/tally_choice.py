"""Which tally counts a worker's tasks, if any, and what measures them if none does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure import native_tally, trial
from dask_memdash.measure.meter import Meter, RssMeter, TallyMeter
from dask_memdash.measure.methods import ESTIMATED, EXACT, HWM
from dask_memdash.measure.regression import Share
from dask_memdash.measure.tally import Tally, current, load, why_not

#: Values of the setting ``memdash.tally``.
AUTO, NATIVE, PYTHON, OFF = "auto", "native", "python", "off"
MODES = (AUTO, NATIVE, PYTHON, OFF)


class Choice(NamedTuple):
    """The tally that a worker got."""

    #: To be released by whoever asked; None where tasks cannot be counted.
    tally: Tally | None
    #: Why it is not what was asked for, in words; empty where it is.
    why: str


def acquire_tally(mode: str) -> Choice:
    """Install a tally's hooks for one more worker, if that can be.

    Parameters
    ----------
    mode
        ``native``: the native tally.  ``auto``: the same, once it has passed a trial in
        a forked child of this process.  ``python``: the first generation, which is also
        what the former two fall back to.  ``off``: none.
    """
    if mode == OFF:
        return Choice(None, "")
    installed = current()
    if installed is not None and installed.acquire():
        return Choice(installed, "")  # another worker of this process has chosen
    why = ""
    if mode in (AUTO, NATIVE):
        why = _refusal(tried=mode == AUTO)
        native = native_tally.load()
        if not why and native is not None:
            return Choice(native, "")
    first = load()
    if first is None:
        return Choice(None, why_not())
    if not first.acquire():
        return Choice(None, first.refused)
    if not why:
        return Choice(first, "")
    return Choice(
        first,
        f"tasks are counted in Python and NumPy only, not in native libraries: {why}",
    )


def _refusal(*, tried: bool) -> str:
    """Acquire the native tally, or say why not."""
    native = native_tally.load()
    if native is None:
        return native_tally.why_not()
    wrong = _trial_of(native) if tried else ""
    if wrong:
        return wrong
    return "" if native.acquire() else native.refused


@cache
def _trial_of(native: native_tally.NativeTally) -> str:
    """Try it out, once in a process."""
    return trial.try_out(native)


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
