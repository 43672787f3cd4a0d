"""Machines, containers and batch jobs written out as trees, for tests of limits.

Each file of `tests/data/limits` is one: the files that a worker finds, the variables
that it is started with, what is expected of the audit, and what Dask says there.
"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import yaml
from builders import T0, MiB, added, reported
from distributed import system

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Thresholds
from dask_memdash.model.limit_facts import LimitFacts, LimitReport
from dask_memdash.system.memory_limits import read_facts

FOLDER = Path(__file__).parents[1] / "data" / "limits"
PID = 4242
RSS = 120 * MiB


@dataclass(frozen=True)
class Layout:
    name: str
    files: dict[str, str]
    environment: dict[str, str]
    expected: dict[str, Any]
    dask: int | None
    workers: list[dict[str, int]]

    def write(self, root: Path) -> None:
        """Write the tree out."""
        for path, text in self.files.items():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def facts(self, root: Path) -> LimitFacts:
        """Read the facts of a worker there, as its plugin does."""
        facts = read_facts(PID, self.environment, None, str(root))
        set_by = "auto" if self.workers[0]["limit"] == self.dask else "given"
        return replace(facts, dask=self.dask, cpus=4, spills=True, set_by=set_by)

    def model(self, facts: LimitFacts) -> ClusterModel:
        """Make the model of workers there, with what Dask takes for their limit."""
        model = ClusterModel()
        for number, worker in enumerate(self.workers):
            address, pid = f"tcp://10.0.0.1:{number}", 4242 + number
            limit = worker["limit"]
            model.handle(added(address, pid, nthreads=worker["nthreads"], limit=limit))
            model.handle(
                reported(
                    address,
                    pid,
                    rss=RSS,
                    time=T0 + number,
                    thresholds=thresholds(limit),
                    limits=LimitReport(facts.first, facts),
                )
            )
        return model


def thresholds(limit: int | None) -> Thresholds:
    """Return Dask's own thresholds."""
    if limit is None:
        return Thresholds()
    return Thresholds(
        target=int(limit * 0.6),
        spill=int(limit * 0.7),
        pause=int(limit * 0.8),
        terminate=int(limit * 0.95),
    )


def load(path: Path) -> Layout:
    data = yaml.safe_load(path.read_text())
    dask = data["dask"]["memory_limit"]
    return Layout(
        name=path.stem,
        files={name: text or "" for name, text in data["files"].items()},
        environment=data.get("environment", {}),
        expected=data["expected"],
        dask=dask,
        workers=data.get("workers") or [{"nthreads": 4, "limit": dask}],
    )


LAYOUTS = [load(path) for path in sorted(FOLDER.glob("*.yaml"))]


def what_dask_says(layout: Layout, root: Path, monkeypatch: Any) -> int:
    """Run Dask's own search for the memory limit inside a tree."""
    total = next(
        int(line.split()[1]) * 1024
        for line in layout.files["/proc/meminfo"].splitlines()
        if line.startswith("MemTotal:")
    )
    rss = next(
        line.split()[-2]
        for line in [*layout.files["/proc/4242/limits"].splitlines(), "x unlimited b"]
        if line.startswith(("Max resident set", "x"))
    )
    memory = namedtuple("memory", "total")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(total))
    monkeypatch.setattr(
        system, "open", lambda path: (root / path.lstrip("/")).open(), raising=False
    )
    hard = -1 if rss == "unlimited" else int(rss)
    monkeypatch.setattr("resource.getrlimit", lambda which: (hard, hard))
    return system.memory_limit()
