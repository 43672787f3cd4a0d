"""Advice followed to the letter: its line to paste, as a change of a demo's cluster.

Reads lines of Dask's configuration and options of ``dask worker``.  What changes the
program itself (``x.rechunk(…)``) is not for a demo to follow.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dask.utils import parse_bytes

from dask_memdash.demos.cluster import Plan

#: A line to paste, among the words of an advice.
LINE = re.compile(r"`(dask\.config\.set\(\{[^`]*\}\)|--[a-z][^`]*)`")

CONFIG = re.compile(r"dask\.config\.set\((\{.*\})\)")


@dataclass(frozen=True, slots=True)
class Advice:
    """One piece of advice, taken apart."""

    #: What is said before the line, ending in a colon.
    lead: str
    #: The line to paste.
    line: str
    #: The figures that it follows from.
    figures: str


def taken_apart(advice: str) -> Advice | None:
    """Find the line to paste in an advice; None where there is none."""
    found = LINE.search(advice)
    if found is None:
        return None
    lead, figures = advice[: found.start()], advice[found.end() :]
    return Advice(lead.strip(), found[1], figures.strip(" ."))


def followed(line: str, plan: Plan) -> Plan | None:
    """Return a cluster with a line applied; None where the line says something else.

    A configuration counts for the cluster and for the graph that is built for it.
    """
    if found := CONFIG.fullmatch(line):
        config = _literal(found[1])
        return replace(plan, config={**plan.config, **config}) if config else None
    words = line.split()
    options = dict(zip(words[::2], words[1::2], strict=False))
    try:
        changed = replace(
            plan,
            workers=int(options.pop("--nworkers", plan.workers)),
            threads=int(options.pop("--nthreads", plan.threads)),
            memory_limit=parse_bytes(options.pop("--memory-limit", plan.memory_limit)),
        )
    except ValueError:
        return None
    return None if options or len(words) % 2 or changed == plan else changed


def _literal(text: str) -> Mapping[str, Any]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {}
    return found if isinstance(found, dict) else {}
