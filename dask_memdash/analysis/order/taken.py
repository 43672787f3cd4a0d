"""What a task of a graph is expected to take while it runs, from those that have run.

What tasks of a prefix took holds for a graph's only if these are alike: their outputs,
or their inputs where outputs say nothing, are at most twice as large as then, or as
small.  A size is never carried over further than that.  What is not known so has a
lower end (a task has at least its output) and no upper one.

All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

#: Sizes are alike if one is at most so many times the other.
ALIKE = 2.0

#: Sizes up to this say nothing of what a task works on.
TRIFLE = 2**20

#: What a count may miss of a task beside the error that was told, as a share.
NOT_COUNTED = 0.03

#: Tasks of a prefix that must have run before its largest stands for all of them.
ENOUGH = 3

#: Why it is not known what a task takes at most, beside the empty text.
NEVER_RAN = "never-ran"
OTHER_SIZES = "other-sizes"
CUT_SHORT = "cut-short"


@dataclass(frozen=True, slots=True)
class Taken:
    """What tasks of one prefix took, on a cluster or in a recorded run."""

    finished: int
    #: Quantiles of their peaks; None where none was measured.
    p50: int | None
    most: int | None
    #: The most that one held when its worker died.
    at_least: int | None = None
    #: By how much a peak may be off.
    error: int = 0
    #: The largest output of one, and the most inputs; None where not known.
    output: int | None = None
    inputs: int | None = None


@dataclass(frozen=True, slots=True)
class Takes:
    """What each task of a graph takes while it runs, its inputs beside it."""

    low: Floats
    usual: Floats
    #: Infinite where nothing bounds it.
    high: Floats
    #: Prefix → why nothing bounds what its tasks take.
    why: dict[str, str]
    #: Prefixes whose tasks are taken to have chunks as large as those that ran: neither
    #: in- nor outputs tell.
    assumed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sizes:
    """What each task of a graph gets, or makes."""

    size: Floats
    #: By how much each may be off.
    doubt: Floats
    #: Which are known otherwise than from tasks of the same name that ran before.
    told: Marks

    @property
    def least(self) -> Floats:
        """The least that each may be."""
        return np.maximum(self.size - self.doubt, 0.0)

    @property
    def most(self) -> Floats:
        """The most that each may be."""
        return self.size + self.doubt

    def largest(self, own: Marks) -> float | None:
        """Return the largest of some; None where that is only taken to be so."""
        return float(self.most[own].max()) if self.told[own].any() else None


def takes(
    names: Sequence[str],
    prefix: npt.NDArray[np.intp],
    output: Sizes,
    inputs: Sizes,
    taken: Mapping[str, Taken],
    blocks: Mapping[str, int],
) -> Takes:
    """Say what each task of a graph takes.

    Parameters
    ----------
    names, prefix
        The prefixes, and which of them each task has.
    output, inputs
        Of each task.
    taken
        What is known of prefixes.
    blocks
        Prefix → the largest chunk that its tasks work on, where that is known
        otherwise than from in- and outputs.
    """
    low, usual = output.least.copy(), output.size.copy()
    high = np.full(len(prefix), np.inf)
    why: dict[str, str] = {}
    assumed = set()
    for index, name in enumerate(names):
        own = prefix == index
        if not own.any():
            continue
        known = taken.get(name)
        reason, ratio = _alike(known, output.largest(own), inputs.largest(own))
        if known is None or known.p50 is None or known.most is None:
            why[name] = reason
            if known is not None and known.at_least:
                usual[own] = np.maximum(usual[own], known.at_least)
            continue
        block = blocks.get(name, 0)
        if ratio is None and block > known.most * (1 + NOT_COUNTED) + known.error:
            reason = OTHER_SIZES
        if reason == OTHER_SIZES:
            why[name] = reason
            usual[own] = np.maximum(usual[own], block)
            continue
        if ratio is None and known.most > TRIFLE:
            assumed.add(name)
        ratio = ratio or 1.0
        typical = known.p50 * min(1.0, ratio)
        low[own] = np.maximum(low[own], max(0.0, typical - known.error))
        usual[own] = np.maximum(usual[own], known.most * ratio)
        if reason:
            why[name] = reason
        else:
            bound = known.most * (1 + NOT_COUNTED) * max(1.0, ratio) + known.error
            high[own] = np.maximum(output.most[own], bound)
    return Takes(low, usual, high, why, frozenset(assumed))


def _alike(
    known: Taken | None, output: float | None, inputs: float | None
) -> tuple[str, float | None]:
    """Say why what was measured does not hold, and how sizes compare, where known."""
    if known is None or known.p50 is None or known.most is None:
        return NEVER_RAN, None
    reason = ""
    if known.at_least is not None and known.at_least > known.most * (1 + NOT_COUNTED):
        reason = CUT_SHORT
    ratios = []
    for here, then in ((output, known.output), (inputs, known.inputs)):
        if here is None or then is None or max(here, then) <= TRIFLE:
            continue
        if min(here, then) <= 0 or not 1 / ALIKE <= here / then <= ALIKE:
            return OTHER_SIZES, None
        ratios.append(here / then)
    return reason, max(ratios) if ratios else None
