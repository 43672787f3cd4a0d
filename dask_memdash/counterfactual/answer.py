"""Would it have lived?  The verdict, with an interval and a reason.

Pure.  The model is a simple one: what the worst worker would have had at its peak is
its own memory, what it stores, and its largest running tasks together.  Each is an
interval, and a verdict is given only where the whole interval is on one side of the
line that ends a worker.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dask_memdash.counterfactual.change import Change
from dask_memdash.counterfactual.evidence import Evidence
from dask_memdash.counterfactual.execution import Execution, execution, not_theirs
from dask_memdash.counterfactual.interval import Interval, total
from dask_memdash.counterfactual.storage import TRIFLE, Bound, own, storage
from dask_memdash.text import code, count, format_bytes

LIVED, DIED, UNKNOWN = "lived", "died", "unknown"

#: How near to a line nothing is said, as a share of the limit.
MARGIN = 0.03

#: By how much less two runs of the same take at their peak, as a share.
AGAIN = 0.03

#: A part below this is not worth a word, in bytes.
SHOWN = 8_000_000

#: Why nothing is said although everything is bounded.
PAUSED = "it might have been paused for good"
WITHIN = "the line lies within what is possible"

SAID = {
    LIVED: "Would have lived",
    DIED: "Would have died",
    UNKNOWN: "Cannot say",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a run would have lived if something had been different."""

    change: Change
    #: 'lived', 'died' (or come to a stop for good) or 'unknown'.
    verdict: str
    #: Least and most that the worst worker would have had at its peak; None where
    #: nothing bounds it.
    low: int | None
    high: int | None
    #: Limit that each worker would have had, and where it ends; None without one.
    limit: int | None
    line: int | None
    #: Why, in plain words.
    reason: str
    #: Why the verdict is 'unknown', in a few words without sizes; else empty.
    because: str = ""

    @property
    def text(self) -> str:
        """The verdict and its reason, as one or two sentences."""
        return f"{SAID[self.verdict]} {self.change.in_words()}: {self.reason}"

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of_dict(cls, told: Mapping[str, Any]) -> Answer:
        """Make it of what :meth:`to_dict` gave."""
        names = ("verdict", "low", "high", "limit", "line", "reason", "because")
        return cls(Change(**told["change"]), **{name: told[name] for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "change": asdict(self.change),
            "verdict": self.verdict,
            "low": self.low,
            "high": self.high,
            "limit": self.limit,
            "line": self.line,
            "reason": self.reason,
            "because": self.because,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the peak consists of."""

    own: Bound
    stored: Bound
    in_ram: Interval
    execution: Execution
    peak: Interval


def answer(evidence: Evidence, change: Change) -> Answer:
    """Say whether a run would have lived with a change."""
    refused = _refused(evidence, change)
    if refused:
        because = refused.removesuffix(".")
        return Answer(change, UNKNOWN, None, None, None, None, refused, because)
    assert evidence.limit is not None
    limit = round(evidence.limit * change.limit)
    line = limit if evidence.terminate is None else round(evidence.terminate * limit)
    spilling = evidence.spilling if change.spilling is None else change.spilling
    parts = _parts(evidence, change, limit, spilling=spilling)
    verdict, why, sizes = _judge(evidence, parts, limit, line, spilling=spilling)
    reason = f"{why}; {sizes}" if why and sizes else why or sizes
    because = why if verdict == UNKNOWN else ""
    low, high = parts.peak.low, parts.peak.high
    return Answer(change, verdict, low, high, limit, line, reason, because)


def _refused(evidence: Evidence, change: Change) -> str:
    """Say why nothing can be said; empty where something can."""
    if evidence.unknown:
        return f"{evidence.unknown}."
    if evidence.limit is None:
        return "its workers had no memory limit."
    if evidence.workers + change.workers < 1:
        return f"there were {count(evidence.workers, 'worker')} only."
    if change.workers and evidence.at_once not in (None, evidence.workers):
        return "its workers came and went, and were not all there at once."
    cause = evidence.not_memory
    if cause is not None and cause != "crash":
        if cause == "unknown":
            return "what ended its worker is not known."
        return (
            "what ended its worker was no lack of memory as far as is known, and may "
            "come again or not."
        )
    return ""


def _parts(evidence: Evidence, change: Change, limit: int, *, spilling: bool) -> _Parts:
    workers = evidence.workers + change.workers
    threads = evidence.threads if change.threads is None else change.threads
    run = execution(evidence, threads, change.chunks)
    stored = storage(evidence, change, workers, threads)
    mine = own(evidence, change, workers, not_theirs(evidence))
    in_ram, size = stored.size, run.size
    if spilling:
        in_ram = Interval(0, in_ram.high)
        need = evidence.need
        if need is not None:
            # Inputs are read back for the task that needs them; the rest is spilled.
            target = 0.6 if evidence.target is None else evidence.target
            in_ram = in_ram.at_most(round(target * limit))
            with_inputs = round(need * max(1.0, change.chunks))
            if size.high is not None and stored.size.high:
                size = Interval(size.low, max(size.high, with_inputs))
    rest = Interval(0, max((s.retained + s.transfer for s in evidence.seen), default=0))
    peak = total((mine.size, in_ram, size, rest))
    # They need not come at the same time: at least the largest of them does.
    idle = min(s.own_least for s in evidence.seen)
    low = max(mine.size.low, idle + max(in_ram.low, size.low))
    if _same_or_more(evidence, change, workers, threads, spilling=spilling):
        low = max(low, *(s.process for s in evidence.seen))
    low = round(low * (1 - AGAIN))
    high = None if peak.high is None else max(peak.high, low)
    return _Parts(mine, stored, in_ram, run, Interval(low, high))


def _same_or_more(
    evidence: Evidence, change: Change, workers: int, threads: int, *, spilling: bool
) -> bool:
    """Whether what was seen is what would have been, or less."""
    squeezed = spilling and (
        change.limit < 1 or any(s.stored > TRIFLE for s in evidence.seen)
    )
    return (
        threads >= evidence.threads
        and change.chunks == 1.0
        and workers <= evidence.workers
        and not squeezed
    )


def _judge(
    evidence: Evidence, parts: _Parts, limit: int, line: int, *, spilling: bool
) -> tuple[str, str, str]:
    """Return the verdict, why in words, and the sizes that it rests on."""
    if evidence.not_memory == "crash":
        return DIED, "its worker crashed, which has nothing to do with memory.", ""
    margin = round(MARGIN * limit)
    peak = parts.peak
    pause = None if evidence.pause is None else round(evidence.pause * limit)
    resting = parts.own.size + (Interval(0, 0) if spilling else parts.stored.size)
    sizes = f"{_made_of(parts)} Workers end at {format_bytes(line)}."
    if pause is not None and resting.low > pause + margin:
        what = "its own memory" if spilling else "its own memory and stored outputs"
        why = (
            f"{what} alone would have been {_between(resting)}, above the pause "
            f"threshold of {format_bytes(pause)}: the worker would have started no "
            "further task."
        )
        return DIED, why, ""
    if peak.low > line + margin:
        if evidence.terminate is None:
            off = (
                "nothing would have ended its workers, whose terminate threshold is off"
            )
            return UNKNOWN, off, sizes
        return DIED, "", sizes
    unknown = parts.execution.unknown or parts.own.unknown or parts.stored.unknown
    if peak.high is None:
        return UNKNOWN, unknown, sizes
    rests = pause is None or resting.high is None or resting.high < pause - margin
    if peak.high < line - margin:
        return (LIVED, "", sizes) if rests else (UNKNOWN, PAUSED, sizes)
    return UNKNOWN, WITHIN, sizes


def _made_of(parts: _Parts) -> str:
    run = parts.execution
    said = [f"{_between(parts.own.size)} of its own"]
    if parts.in_ram.high is None or parts.in_ram.high > SHOWN:
        said.append(f"{_between(parts.in_ram)} stored")
    if run.prefix:
        tasks = count(run.tasks, "task")
        said.append(
            f"{_between(run.size)} in {tasks} at once (largest: {code(run.prefix)})"
        )
    whole = _between(parts.peak)
    return f"the fullest worker would have had {whole}: " + ", ".join(said) + "."


def _between(size: Interval) -> str:
    low = format_bytes(size.low)
    if size.high is None:
        return f"at least {low}"
    high = format_bytes(size.high)
    return low if low == high else f"{low} to {high}"
