"""What tasks leave behind: leaks, and outputs that do not weigh what Dask believes.

Pure.  A counted task's *left* is what its thread had allocated and not freed when it
ended.  That should be its output as Dask's ``sizeof`` weighs it.  Where it is more,
either the output is heavier than believed, and the excess goes with the output; or
the task has put something aside for good, and the process grows from idle to idle.
:func:`audit` tells the two apart by that growth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dask_memdash.model.prefixes import PrefixState

#: Tasks that must have been weighed before anything is said of their prefix.
ENOUGH = 3

#: Excess of a task, in bytes, and of its output's size, that is nothing to speak of:
#: garbage, caches and what the interpreter keeps for itself.
LEAST_LEFT = 2**16
LEAST_PART = 0.02

#: Excess of all tasks of a prefix together, in bytes, that is nothing to speak of: an
#: arena of small objects (1 MiB) is charged whole to the task for which it was opened,
#: and stays for everybody; some come with no task's doing.
LEAST_TOTAL = 2 * 2**20

#: Outputs believed at less or more than this many times their weight are flagged.
TOO_LIGHT = 0.5
TOO_HEAVY = 2.0


@dataclass(frozen=True, slots=True)
class Audit:
    """What is made of a prefix's tasks; sizes in bytes per task."""

    #: Tasks that were weighed.
    count: int
    #: Mean size of the outputs as Dask believes it, and as the tally says.
    believed: int
    measured: int
    #: ``believed / measured``; None where nothing was left to be measured.
    ratio: float | None
    #: 'too-light' (believed at less than half), 'too-heavy' (more than twice) or ''.
    flag: str
    #: What the outputs are, where that explains it ('views of other arrays'), or ''.
    because: str
    #: What each task has put aside for good, and all tasks together.
    leaked: int
    leaked_total: int


def audit(prefixes: Mapping[str, PrefixState], growth: int) -> dict[str, Audit]:
    """Audit what the tasks of each prefix have left behind.

    Parameters
    ----------
    growth
        By how much the processes have grown from idle to idle, in bytes.

    Returns
    -------
    dict of str to Audit
        Of the prefixes of which enough tasks were weighed.
    """
    known = {n: s for n, s in prefixes.items() if s.weighed.count >= ENOUGH}
    excess = {name: _excess(state) for name, state in known.items()}
    # Outputs that are held and heavier than believed make the processes grow as well.
    held = {
        name: min(excess[name], excess[name] * state.count // state.weighed.count)
        for name, state in known.items()
    }
    leaks = {name: excess[name] - held[name] for name in known}
    unexplained = min(max(0, growth - sum(held.values())), sum(leaks.values()))
    total = sum(leaks.values())
    return {
        name: _audit(state, leaks[name] * unexplained // total if total else 0)
        for name, state in known.items()
    }


def _excess(state: PrefixState) -> int:
    """Return what all tasks of a prefix left beyond their outputs, if it is much."""
    weighed = state.weighed
    excess = weighed.left - weighed.believed
    trifle = LEAST_LEFT * weighed.count + LEAST_PART * weighed.believed
    return excess if excess > max(trifle, LEAST_TOTAL) else 0


def _audit(state: PrefixState, leaked: int) -> Audit:
    weighed = state.weighed
    believed = weighed.believed // weighed.count
    measured = max(0, weighed.left - leaked) // weighed.count
    flag = ""
    if abs(measured - believed) > LEAST_LEFT:
        if believed < TOO_LIGHT * measured:
            flag = "too-light"
        elif believed > TOO_HEAVY * measured:
            flag = "too-heavy"
    return Audit(
        count=weighed.count,
        believed=believed,
        measured=measured,
        ratio=believed / measured if measured else None,
        flag=flag,
        because=weighed.because if flag else "",
        leaked=leaked // weighed.count,
        leaked_total=leaked,
    )
