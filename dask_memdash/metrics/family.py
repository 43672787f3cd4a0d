"""A metric with its samples, as Prometheus understands it.

Names are without namespace and subsystem: the registry puts Dask's own before them.
Sizes are in bytes, times in seconds.  What is not known has no sample, never a 0.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dask_memdash.text import plain

#: Characters of a label's value.
MAX_LABEL = 100

#: Values of the labels → figure.
Samples = Mapping[tuple[str, ...], float]

Kind = Literal["gauge", "counter", "gaugehistogram"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    kind: Kind
    #: One sentence.
    help: str
    labels: tuple[str, ...]
    #: Values of the labels → figure.  A histogram's are the counts up to each bound.
    samples: Samples
    #: Of a histogram, the sum of what was counted.
    total: float = 0.0


def gauge(name: str, text: str, value: float | None) -> Family:
    """Return a metric without labels; `value` is None where it is not known."""
    return Family(name, "gauge", text, (), {} if value is None else {(): value})


def gauges(
    name: str, text: str, label: str, values: Mapping[str, float | None]
) -> Family:
    """Return a metric with one label; what is None has no sample."""
    known: dict[tuple[str, ...], float] = {
        (key,): value for key, value in values.items() if value is not None
    }
    return Family(name, "gauge", text, (label,), known)


def counter(name: str, text: str, value: float) -> Family:
    """Return a counter without labels."""
    return Family(name, "counter", text, (), {(): value})


def counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Family:
    """Return a counter with one label."""
    samples: Samples = {(key,): value for key, value in values.items()}
    return Family(name, "counter", text, (label,), samples)


def label_value(text: str) -> str:
    """Return a name made by users as a label can bear it: one short line, no escapes.

    Quotes and backslashes are left to the library, which escapes them.
    """
    return plain(text, MAX_LABEL)
