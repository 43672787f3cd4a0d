"""What a rule of the diagnosis finds, and what comes out of all of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause that the evidence speaks for; causes are :data:`terms.CAUSES`."""

    cause: str
    #: From 0 to 1: the share of the memory to explain that it accounts for, or how
    #: much the evidence speaks for it where it is not about a share.
    weight: float
    #: Short sentences with the figures that it rests on.
    text: str
    prefix: str | None = None
    key: str | None = None
    #: What to change: a line to paste where there is one, the figure that it follows
    #: from, and the figure to expect.
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
    #: The cause, and why nothing relieved it, in words.
    text: str
    #: Why nothing relieved the memory, one of :data:`terms.RELIEFS`; None for what is
    #: not about memory, and where that is not known.
    relief: str | None = None
    #: The instant that it speaks of, in Unix time; None where there is none.
    instant: float | None = None
