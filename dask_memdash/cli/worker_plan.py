"""``dask memdash limits``: look at this machine and say how to start workers on it.

Gathers what :mod:`dask_memdash.analysis.limits.worker_plan` works with (this machine's
limits, and measured peaks from a file or from a running MemDash) and writes the plan
out as text, JSON or variables.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dask_memdash.analysis.limits.worker_plan import (
    Peak,
    Plan,
    Wishes,
    largest_peak,
    make_plan,
)
from dask_memdash.errors import MemDashError
from dask_memdash.model.limit_facts import LimitFacts
from dask_memdash.system.memory_limits import read_facts
from dask_memdash.text import format_bytes

#: Seconds that a scheduler may take to answer, and bytes read of its answer.
HTTP_TIMEOUT = 10.0
MAX_ANSWER = 2**26


class SizingError(MemDashError):
    """A machine or a profile that no plan can be made from."""


def plan_here(
    wishes: Wishes,
    profile: str | None = None,
    scheduler: str | None = None,
    scratch: str | None = None,
) -> tuple[Plan, LimitFacts]:
    """Make the plan for this machine, and give what it rests on.

    Parameters
    ----------
    wishes
        What is settled already.
    profile
        A file with the API's ``prefixes``.
    scheduler
        Address of a dashboard, to ask for the same.
    scratch
        Where workers will spill to, None for Dask's own choice.

    Raises
    ------
    SizingError
        A profile that cannot be used, or a machine that says nothing.
    """
    from dask_memdash.config import scratch_directory
    from dask_memdash.plugins.worker.limit_facts import what_dask_takes

    peak = baseline = None
    if profile:
        peak = from_file(profile)
    elif scheduler:
        peak, baseline = from_scheduler(scheduler)
    total, cpus = what_dask_takes()
    directory = Path(scratch or scratch_directory()).absolute()
    facts = replace(look_around(str(directory)), dask=total, cpus=cpus)
    plan = make_plan(facts, cpus, facts.rss or 0, wishes, peak, baseline)
    if plan is None:
        raise SizingError("nothing on this machine says how much memory it has")
    if plan.memory_limit <= 0:
        raise SizingError(
            f"nothing is left for workers here: {' '.join(plan.reasons[:1])}"
        )
    return plan, facts


def written(plan: Plan, facts: LimitFacts, form: str) -> str:
    """Write a plan as 'text', 'json' or 'env'."""
    if form == "json":
        return as_json(plan, facts)
    return as_env(plan) if form == "env" else as_text(plan, facts)


def look_around(scratch: str | None) -> LimitFacts:
    """Read what limits memory where this process runs."""
    return read_facts(os.getpid(), os.environ, scratch)


def from_file(path: str) -> Peak:
    """Read the largest peak from a file with the API's ``prefixes``."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SizingError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise SizingError(f"{path} is not JSON: {error}") from None
    return _largest(data, path)


def from_scheduler(address: str) -> tuple[Peak, int | None]:
    """Ask a running MemDash for the largest peak, and for an idle worker's memory."""
    base = address if "://" in address else f"http://{address}"
    if not base.startswith(("http://", "https://")):
        raise SizingError(
            f"{address} is not the address of a dashboard. Write it like "
            "http://localhost:8787"
        )
    base = base.rstrip("/").removesuffix("/status").removesuffix("/memdash")
    peak = _largest(_get(f"{base}/memdash/api/prefixes"), base)
    workers = _get(f"{base}/memdash/api/workers")
    sizes = [
        row["breakdown"]["baseline"]
        for row in workers
        if isinstance(row, dict) and isinstance(row.get("breakdown"), dict)
    ]
    return peak, max((s for s in sizes if isinstance(s, int)), default=None)


def as_text(plan: Plan, facts: LimitFacts) -> str:
    """Write a plan for a person."""
    lines = ["What limits memory here:"]
    rows = [(c.kind, c.bytes, f"{c.name}, {c.where}") for c in facts.caps]
    if facts.first.available is not None:
        rows.insert(1, ("available", facts.first.available, "MemAvailable"))
    for kind, size, where in rows:
        lines.append(f"  {kind:<10} {format_bytes(size):>12}  {where}")
    lines += [f"  (not taken as a limit: {reason})" for reason in facts.skipped]
    lines += [
        "",
        f"Memory for workers: {format_bytes(plan.budget)}, set by {plan.source}",
        "",
        f"  dask worker SCHEDULER {plan.options}",
        "",
        *plan.reasons,
        *(f"Note: {warning}" for warning in plan.warnings),
    ]
    return "\n".join(lines)


def as_json(plan: Plan, facts: LimitFacts) -> str:
    """Write a plan as one JSON object."""
    data: dict[str, Any] = {
        **asdict(plan),
        "fits": plan.fits,
        "options": plan.options,
        "facts": asdict(facts),
    }
    return json.dumps(data, indent=2)


def as_env(plan: Plan) -> str:
    """Write a plan as variables, for scripts and compose files."""
    values = {
        "MEMDASH_NWORKERS": plan.nworkers,
        "MEMDASH_NTHREADS": plan.nthreads,
        "MEMDASH_MEMORY_LIMIT": plan.memory_limit,
        **plan.environment,
    }
    return "\n".join(f"{name}={value}" for name, value in values.items())


# -- parts ---------------------------------------------------------------------


def _largest(data: object, where: str) -> Peak:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise SizingError(
            f"{where} holds no list of prefixes, as /memdash/api/prefixes gives it"
        )
    peak = largest_peak(data)
    if peak is None:
        raise SizingError(f"no prefix in {where} has a measured peak")
    return peak


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT) as answer:
            return json.loads(answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        error.close()
        raise SizingError(
            f"{url} answers {error.code}; is MemDash registered there?"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise SizingError(f"{url} cannot be reached: {reason}") from None
    except ValueError as error:
        raise SizingError(f"{url} does not answer with JSON: {error}") from None
