"""A small interpreter of advice: the line to paste, as a change of how a program runs.

It knows the forms in which advice may ask for something, and nothing of causes.  What
it cannot read is no advice that can be followed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

#: What a workload may have that is its own: places at which its author can change it.
OWN_KNOBS = frozenset({"chunks", "rechunk", "scatter", "release", "sizeof", "between"})

#: Spans of code in a text.
CODE = re.compile(r"`([^`]+)`")

#: Smaller chunks of an array, or partitions of a dataframe.
CHUNKS = r"(?:x = x\.rechunk\(|df = df\.repartition\(partition_size=)(.*)\)"

#: Options of ``dask worker`` → the keyword of LocalCluster.
OPTIONS = {
    "--nworkers": ("n_workers", int),
    "--nthreads": ("threads_per_worker", int),
    "--memory-limit": ("memory_limit", str),
    "--local-directory": ("local_directory", str),
    "--lifetime": ("lifetime", str),
    "--lifetime-stagger": ("lifetime_stagger", str),
    "--lifetime-restart": ("lifetime_restart", bool),
}


class NoLineError(Exception):
    """An advice has no line that can be pasted here."""


@dataclass(frozen=True)
class Setup:
    """How a workload runs: the cluster's options, and the program's own knobs."""

    cluster: dict[str, Any] = field(default_factory=dict)
    #: Configuration of Dask, set before the cluster starts.
    config: dict[str, Any] = field(default_factory=dict)
    #: Knob of the program → what it is turned to; see `OWN_KNOBS`.
    own: dict[str, Any] = field(default_factory=dict)


def follow(advice: str, setup: Setup, has: frozenset[str]) -> Setup:
    """Return the setup with an advice followed to the letter.

    Parameters
    ----------
    has
        The knobs that the workload itself has, of `OWN_KNOBS`.

    Raises
    ------
    NoLineError
        There is no line to paste, or the workload has no place for it.
    """
    changed = setup
    for code in CODE.findall(advice):
        for change in _changes(code):
            missing = set(change.own) - has
            if missing:
                raise NoLineError(f"nowhere to paste {code!r}: {advice}")
            changed = replace(
                changed,
                cluster={**changed.cluster, **change.cluster},
                config={**changed.config, **change.config},
                own={**changed.own, **change.own},
            )
    if changed == setup:
        raise NoLineError(f"no line to paste that changes anything: {advice}")
    return changed


def _changes(code: str) -> Iterator[Setup]:
    """Yield what one span of code asks for; nothing for names and the like."""
    if code.startswith("--"):
        yield Setup(cluster=_options(code.split()))
    elif found := re.fullmatch(r"dask\.config\.set\((\{.*\})\)", code):
        yield Setup(config=ast.literal_eval(found[1]))
    elif found := re.fullmatch(CHUNKS, code):
        yield Setup(own={"rechunk": ast.literal_eval(found[1])})
    elif found := re.fullmatch(r'chunks="([^"]+)"', code):
        yield Setup(own={"chunks": found[1]})
    elif re.fullmatch(r"x = client\.scatter\(x\)", code):
        yield Setup(own={"scatter": True})
    elif re.fullmatch(r"del \w+|client\.cancel\(\w+\)", code):
        yield Setup(own={"release": True})
    elif found := re.fullmatch(r"cluster\.scale\((\d+)\)", code):
        yield Setup(cluster={"n_workers": int(found[1])})
    elif found := re.fullmatch(r'memory_limit="([^"]+)"', code):
        yield Setup(cluster={"memory_limit": found[1]})
    elif "sizeof.register(" in code:
        yield Setup(own={"sizeof": code})
    elif code.startswith("client.run("):
        yield Setup(own={"between": code})


def _options(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while words:
        option = words.pop(0)
        if option not in OPTIONS:
            raise NoLineError(f"no option {option!r} of a worker")
        keyword, kind = OPTIONS[option]
        found[keyword] = True if kind is bool else kind(words.pop(0))
    return found
