"""What the examples share: a small cluster with MemDash, and what it says of a failure.

Each example is a program that fails by one cause, and, where something helps, the same
program mended.  ``python docs/examples/pinned.py`` runs it and prints what ``explain``
says; ``--mended`` runs it mended; ``--keep`` writes what the documentation shows.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster

from dask_memdash import MemDash, connect, explain
from dask_memdash.errors import UnexplainedError
from dask_memdash.terms import DEATHS

#: Where what the documentation shows is kept.
TOLD = Path(__file__).parent / "told"

#: Longest that anything is waited for, in seconds.
PATIENCE = 60

#: Below ``distributed.worker.memory``: stored outputs may fill a worker; nothing is
#: spilled; nothing pauses.
STORES_ALL = {"target": 0.92, "spill": False, "pause": False}
NEVER_SPILLS = {"target": False, "spill": False, "pause": False}
NEVER_PAUSES = {"pause": False}


@dataclass(frozen=True)
class Setup:
    """A program, and the cluster that it runs on."""

    program: Callable[[Client], Any]
    workers: int = 1
    threads: int = 1
    #: Memory limit of each worker.
    limit: str = "300 MB"
    #: Settings below ``distributed.worker.memory``, and any others.
    memory: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def cluster_of(setup: Setup) -> Iterator[Client]:
    """Start the cluster that a program asks for; the first death is enough to fail."""
    memory = {f"distributed.worker.memory.{k}": v for k, v in setup.memory.items()}
    settings = {"distributed.scheduler.allowed-failures": 0, **memory, **setup.config}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=setup.workers,
            threads_per_worker=setup.threads,
            memory_limit=setup.limit,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(MemDash())
        wait_for(lambda: connect(client).workers()["process"].notna().all())
        yield client


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
    """Wait until something is so; say whether it came to be."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def outcome(client: Client, setup: Setup) -> tuple[Any, list[dict[str, Any]]]:
    """Run a program; return what is said of its failure, if any, and all failures."""
    error = None
    try:
        setup.program(client)
    except Exception as raised:  # noqa: BLE001  # whatever the program fails with
        error = raised
    memdash = connect(client)

    def settled() -> bool:
        found = memdash.ask("failures")
        return bool(found) and all(failure["settled"] for failure in found)

    # Without an error there may be nothing to wait for.
    wait_for(settled, PATIENCE if error else 5)
    failures = list(memdash.ask("failures"))
    if not failures:
        return None, []
    with suppress(UnexplainedError):
        if error is not None:
            return explain(error), failures
    return memdash.explain(1), failures


def main(fails: Setup, mended: Setup | None = None) -> None:
    """Run an example as its command line asks."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--mended", action="store_true", help="run it mended")
    parser.add_argument(
        "--json", action="store_true", help="print its failures as JSON"
    )
    parser.add_argument("--keep", action="store_true", help="write text and picture")
    options = parser.parse_args()
    setup = mended if options.mended else fails
    if setup is None:
        parser.error("this example is not mended")
    with cluster_of(setup) as client:
        told, failures = outcome(client, setup)
        if options.json:
            print(json.dumps([summary(failure) for failure in failures]))
        elif told is None:
            print("Nothing failed.")
        else:
            print(told)
        if options.keep and told is not None:
            keep(client, str(told))


def summary(failure: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a test looks at."""
    diagnosis = failure["diagnosis"]
    return {
        "kind": failure["kind"],
        "deaths": failure["deaths"],
        "cause": diagnosis["cause"],
        "relief": diagnosis["relief"],
        "prefix": failure["responsible"]["prefix"],
    }


def keep(client: Client, told: str) -> None:
    """Write what was said, and a picture of the first death's story on the page."""
    from photograph import photograph

    name = Path(sys.argv[0]).stem.replace("_", "-")
    TOLD.mkdir(exist_ok=True)
    (TOLD / f"{name}.txt").write_text(told.rstrip() + "\n", encoding="utf-8")
    page = client.dashboard_link.removesuffix("/status") + "/memdash"
    incidents = connect(client).ask("incidents")[::-1]
    first = next((i for i in incidents if i["kind"] in DEATHS), incidents[0])
    photograph(f"{page}#incident-{first['id']}", TOLD / f"{name}.png")
