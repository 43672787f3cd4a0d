"""MemDash's JSON API, read over HTTP as any program could."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from dask_memdash.demos import DemoError
from dask_memdash.terms import DEATHS

#: Longest wait for one answer, in seconds.
TIMEOUT = 20.0

#: Points of a history that one look asks for; more than a demo lasts.
POINTS = 10_000

#: What of the breakdown is followed, beside the process.
PEAKS = (
    "managed",
    "transfer",
    "actors",
    "executing",
    "retained",
    "graph",
    "baseline",
    "spilled",
)


class Api:
    """The JSON API at an address.

    Parameters
    ----------
    url
        Address without a slash at the end, ``http://127.0.0.1:8787/memdash/api``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # the scheduler is on this machine: a proxy for the web is none of its business
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Any:
        """Fetch what stands under a path.

        Raises
        ------
        DemoError
            There is no answer in time, or it is not what was asked for.
        """
        url = f"{self.url}/{path}"
        try:
            with self._opener.open(url, timeout=TIMEOUT) as response:
                return json.load(response)
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise DemoError(f"MemDash does not answer at {url}: {error}") from error

    def incidents(self, since: float = 0.0) -> list[dict[str, Any]]:
        """List the incidents from an instant on, oldest first."""
        found = [i for i in self.get("incidents?limit=1000") if i["time"] >= since]
        return sorted(found, key=lambda incident: (incident["time"], incident["id"]))

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Fetch one incident with its details."""
        found: dict[str, Any] = self.get(f"incidents/{quote(incident_id, safe='')}")
        return found

    def failures(self, since: float = 0.0) -> list[dict[str, Any]]:
        """List the failures that opened from an instant on, oldest first."""
        found = [f for f in self.get("failures?limit=1000") if f["opened"] >= since]
        return sorted(found, key=lambda failure: (failure["opened"], failure["id"]))

    def prefix(
        self,
        name: str,
        until: Callable[[dict[str, Any]], bool] = lambda prefix: True,
        timeout: float = 15.0,
    ) -> dict[str, Any] | None:
        """Fetch one task prefix, as soon as it is known and `until` holds of it.

        Workers tell of their tasks with their heartbeats, some time after a task has
        finished.

        Returns
        -------
        dict or None
            What is known after `timeout` seconds at the latest.
        """
        deadline = time.monotonic() + timeout
        while True:
            rows = self.get("prefixes")
            found = [
                row for row in rows if row["prefix"] == name and row["kind"] != "other"
            ]
            row: dict[str, Any] | None = found[0] if found else None
            if (row is not None and until(row)) or time.monotonic() > deadline:
                return row
            time.sleep(0.2)

    def history(self, since: float, worker: str | None = None) -> dict[str, Any]:
        """Fetch the breakdown over time, of the cluster or one worker, as columns."""
        path = f"history?since={since!r}&points={POINTS}"
        if worker is not None:
            path += f"&worker={quote(worker, safe='')}"
        found: dict[str, Any] = self.get(path)
        return found

    def until_read(self, workers: int, timeout: float) -> bool:
        """Wait until so many workers have told how much memory they use.

        Returns
        -------
        bool
            False if they have not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            told = [w["breakdown"]["process"] for w in self.get("workers")]
            if len(told) >= workers and None not in told:
                return True
            time.sleep(0.1)
        return False

    def peaks(self, since: float) -> dict[str, int]:
        """Return the most that each part of the cluster's breakdown reached, in bytes.

        The parts reach it at different times: they do not add up.
        """
        columns = self.history(since)
        return {name: max(columns[name], default=0) for name in ("process", *PEAKS)}

    def settled(self, since: float, timeout: float) -> list[dict[str, Any]]:
        """Wait until no news of incidents comes in, and list them, oldest first.

        The evidence of a death arrives after the death; this waits for it, until two
        looks a second apart agree or `timeout` seconds have gone by.
        """
        deadline = time.monotonic() + timeout
        before: list[dict[str, Any]] | None = None
        while True:
            now = self.incidents(since)
            quiet = now == before and all(i["settled"] for i in now)
            if quiet or time.monotonic() > deadline:
                return now
            before = now
            time.sleep(1.0)


def deaths(incidents: Sequence[dict[str, Any]]) -> int:
    """Count the workers that died."""
    return sum(incident["kind"] in DEATHS for incident in incidents)


def worst(failures: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the failure that speaks for a run: None where nothing serious happened.

    One that ended in a task that was given up, else in a death, else in a standstill.
    """
    for kinds in (("killed-worker",), DEATHS, ("stuck",)):
        found = [f for f in failures if any(kind in f["kinds"] for kind in kinds)]
        if found:
            return max(found, key=lambda failure: failure["count"])
    return None
