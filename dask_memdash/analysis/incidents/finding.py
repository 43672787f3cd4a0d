"""What a rule of the diagnosis finds, and what comes out of all of them."""

from __future__ import annotations

from dataclasses import dataclass

#: Every cause (DESIGN section 2), and what it means in a few words.
CAUSES = {
    "task-too-large": "one running task needs more than the worker has",
    "too-many-at-once": "the tasks that ran together need more than the worker has",
    "run-ahead": "outputs were produced earlier than the order needed them",
    "awaited": "stored outputs that the order itself needs at this point",
    "pinned": "stored outputs that a client holds",
    "transfer": "buffers of shuffles and transfers",
    "leak": "memory that tasks have left behind",
    "retained": "memory that was freed and that the allocator has kept",
    "sizeof": "stored outputs that are much larger than Dask believes",
    "spill-blocked": "outputs that should have been spilled and were not",
    "limit-too-high": "the limit is above what the host or its container has",
    "crash": "not memory: it ended by a fault or by itself",
    "external": "not memory: it was ended from outside",
    "unknown": "there is not enough evidence",
}

#: Causes that are about memory.
MEMORY = frozenset(CAUSES) - {"crash", "external", "unknown"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause that the evidence speaks for."""

    cause: str
    #: From 0 to 1: the share of the memory to explain that it accounts for, or how
    #: much the evidence speaks for it where it is not about a share.
    weight: float
    #: One or two sentences with the numbers that it rests on.
    text: str
    prefix: str | None = None
    key: str | None = None
    #: What to change, with measured numbers.
    advice: tuple[str, ...] = ()
    #: Why the evidence is thin, in words; empty where it is not.
    thin: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why an incident happened."""

    cause: str
    #: From 0 to 1: how often such a diagnosis is right.
    confidence: float
    #: Prefix to blame, and key where one task is.
    prefix: str | None
    key: str | None
    #: Heaviest first.
    findings: tuple[Finding, ...]
    advice: tuple[str, ...]
    #: The cause in words.
    text: str
    #: Why nothing relieved the memory, one of :data:`terms.RELIEFS`; None for what is
    #: not about memory, and where that is not known.
    relief: str | None = None
