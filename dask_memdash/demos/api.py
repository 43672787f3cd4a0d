"""MemDash's JSON API, read over HTTP as any program could."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from dask_memdash.demos import DemoError

#: Longest wait for one answer, in seconds.
TIMEOUT = 20.0

#: What happens to a worker; the other kinds of incidents happen to tasks.
DEATHS = ("terminated", "oom-killed", "killed", "crashed", "exited", "lost")


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

    def settled(self, since: float, timeout: float) -> list[dict[str, Any]]:
        """Wait until no news of incidents comes in, and list them, oldest first.

        The evidence of a death arrives after the death; this waits for it, until two
        looks a second apart agree or `timeout` seconds have gone by.
        """
        deadline = time.monotonic() + timeout
        before: list[dict[str, Any]] | None = None
        while True:
            now = self.incidents(since)
            if now == before or time.monotonic() > deadline:
                return now
            before = now
            time.sleep(1.0)


def deaths(incidents: Sequence[dict[str, Any]]) -> int:
    """Count the workers that died."""
    return sum(incident["kind"] in DEATHS for incident in incidents)
