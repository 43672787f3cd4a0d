"""``dask memdash info``: what a report of a problem needs to say, without names.

Versions, the machine, what counts tasks' memory here, what is configured otherwise than
by default; of a running cluster, how its workers are measured and what is degraded.
Nothing is started, and nothing on a cluster changes.
"""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dask_memdash.cli.redact import Redaction
from dask_memdash.cli.sources import open_dashboard
from dask_memdash.text import count, format_bytes, format_share

#: Packages whose versions matter, in the order of how often they do.
PACKAGES = (
    "dask-memdash",
    "dask",
    "distributed",
    "numpy",
    "pandas",
    "pyarrow",
    "bokeh",
    "panel",
    "tornado",
    "psutil",
    "fsspec",
    "isal",
    "rich",
    "prometheus-client",
    "pytest",
)

#: Most ways of being degraded that are listed.
MAX_NOTICES = 30


def gather(address: str | None = None) -> dict[str, Any]:
    """Return all that is told, redacted.

    Parameters
    ----------
    address
        Of a scheduler or its dashboard; this machine alone without one.

    Raises
    ------
    MemDashError
        The address does not answer, or not as MemDash does.
    """
    found: dict[str, Any] = {
        "versions": {"python": sys.version.split()[0], **versions()},
        "machine": machine(),
        "measuring": measuring(),
        "configured": configured(),
    }
    if address is not None:
        found["cluster"] = cluster(address)
    redacted: dict[str, Any] = Redaction().value(found)
    return redacted


def versions() -> dict[str, str | None]:
    """Return the version of each package, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, Any]:
    """Return what this machine is and what limits memory on it."""
    from dask_memdash.cli.worker_plan import look_around

    facts = look_around(None)
    least = facts.least()
    libc, libc_version = platform.libc_ver()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "libc": f"{libc} {libc_version}".strip() or None,
        "implementation": platform.python_implementation(),
        "environment": facts.environment,
        "limits": [
            {"kind": cap.kind, "name": cap.name, "bytes": cap.bytes}
            for cap in facts.caps
        ],
        "least": None if least is None else least.bytes,
        "available": facts.first.available,
        "allocator": facts.allocator.name,
        "not_read": list(facts.skipped),
    }


def measuring() -> dict[str, Any]:
    """Return what would count tasks in a worker like this process, and why not better.

    The tally is installed for a moment and taken out again.
    """
    from dask_memdash.config import load
    from dask_memdash.errors import ConfigError
    from dask_memdash.measure import lines
    from dask_memdash.measure.tally_choice import acquire_tally

    try:
        asked = load().tally
    except ConfigError:  # told under "configured"
        asked = "auto"
    for name in ("numpy", "pyarrow"):  # what it counts is seen only where it is loaded
        with contextlib.suppress(ImportError):
            import_module(name)
    choice = acquire_tally(asked)
    tally = choice.tally
    try:
        unseen = list(tally.unseen) if tally is not None else []
        mode = tally.mode if tally is not None else "none"
    finally:
        if tally is not None:
            tally.release()
    return {
        "asked": asked,
        "tally": mode,
        "why": choice.why or None,
        "unseen": unseen,
        "lines": lines.why_not() or "known",
    }


def configured() -> dict[str, Any]:
    """Return the settings that differ from their defaults, and what cannot be used."""
    from dask_memdash import config
    from dask_memdash.errors import ConfigError

    try:
        own, usual = config.load().shown(), config.defaults().shown()
    except ConfigError as error:
        return {"error": str(error)}
    return {name: own[name] for name in own if own[name] != usual[name]}


def cluster(address: str) -> dict[str, Any]:
    """Return how a running cluster is measured, and in which ways it is degraded."""
    source = open_dashboard(address)
    try:
        whole, workers = source.ask("cluster"), source.ask("workers")
    finally:
        source.close()
    degraded = Counter(
        f"{str(notice['where']).partition(' ')[0]}: {notice['text']}"
        for notice in whole["degraded"]
    )
    costs = whole["self_cost"]
    return {
        "schema_version": whole["schema_version"],
        "workers": whole["n_workers"],
        "processes": whole["n_processes"],
        "incidents": whole["n_incidents"],
        "failures": whole["n_failures"],
        "threads": dict(Counter(str(row["nthreads"]) for row in workers)),
        "statuses": dict(Counter(row["status"] for row in workers)),
        "methods": dict(Counter(row["method"] for row in workers)),
        "stale": sum(row["stale_for"] is not None for row in workers),
        "cost": {place: costs[place]["cpu"] for place in costs},
        "degraded": [
            {"text": text, "times": times}
            for text, times in degraded.most_common(MAX_NOTICES)
        ],
    }


# -- written ---------------------------------------------------------------------------


def as_json(found: Mapping[str, Any]) -> str:
    """Write what was gathered as one JSON object."""
    return json.dumps(found, indent=2)


def as_text(found: Mapping[str, Any]) -> str:
    """Write what was gathered as lines that can be pasted into a report."""
    here, how = found["machine"], found["measuring"]
    lines = ["Versions"]
    lines += [
        f"  {name:<18} {text or 'not installed'}"
        for name, text in found["versions"].items()
    ]
    lines += [
        "",
        "Machine",
        f"  {here['system']}, {here['processor']}, {here['libc'] or 'unknown libc'}, "
        f"{here['implementation']}, {here['environment']}",
        f"  available          {format_bytes(here['available'])}",
        *(
            f"  {cap['kind']:<18} {format_bytes(cap['bytes'])} ({cap['name']})"
            for cap in here["limits"]
        ),
        *(f"  not read: {text}" for text in here["not_read"]),
        "",
        "Measuring here",
        f"  tally              {how['tally']} (asked for: {how['asked']})",
        f"  lines              {how['lines']}",
    ]
    if how["why"]:
        lines.append(f"  why not better: {how['why']}")
    lines += [f"  not seen: {text}" for text in how["unseen"]]
    lines += ["", "Configured otherwise than by default"]
    lines += [f"  {name}: {value}" for name, value in found["configured"].items()] or [
        "  nothing"
    ]
    if "cluster" in found:
        lines += ["", *_cluster_lines(found["cluster"])]
    return "\n".join(lines)


def _cluster_lines(found: Mapping[str, Any]) -> list[str]:
    costs = ", ".join(
        f"{place} {format_share(cost)}"
        for place, cost in found["cost"].items()
        if cost is not None
    )
    lines = [
        "Cluster",
        f"  {count(found['workers'], 'worker')} in "
        f"{count(found['processes'], 'process', 'processes')}, "
        f"{count(found['failures'], 'failure')}, "
        f"{count(found['incidents'], 'incident')}",
        f"  threads            {_counted(found['threads'])}",
        f"  status             {_counted(found['statuses'])}",
        f"  measured           {_counted(found['methods'])}",
        f"  cost of a core     {costs or 'not known yet'}",
    ]
    if found["stale"]:
        lines.append(f"  silent             {found['stale']}")
    lines += [
        f"  degraded, {item['times']} times: {item['text']}"
        for item in found["degraded"]
    ]
    if not found["degraded"]:
        lines.append("  nothing is degraded")
    return lines


def _counted(times: Mapping[str, int]) -> str:
    return ", ".join(f"{name} × {number}" for name, number in times.items()) or "none"
