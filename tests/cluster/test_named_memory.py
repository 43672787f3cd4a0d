"""Memory that is no task's has its name: variables, caches, plugins, client.run."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import with_cache
from clusters import Session, wait_for
from distributed import WorkerPlugin

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]

MB = 1_000_000


class Lookup(WorkerPlugin):  # type: ignore[misc]
    """A plugin that holds 30 MB on each worker."""

    def setup(self, worker: Any) -> None:
        self.table = np.ones(30 * MB, dtype="u1")


def others(session: Session) -> dict[str, Any]:
    return {row["name"]: row for row in session.api("cluster")["others"]}


def settled(session: Session, wanted: dict[str, int]) -> dict[str, Any]:
    """Wait until each row has its bytes, in MB, within 5 percent; give the rows."""

    def seen() -> Any:
        rows = others(session)
        near = all(
            abs((rows.get(name) or {"bytes": 0})["bytes"] - size * MB)
            <= 0.05 * size * MB
            for name, size in wanted.items()
        )
        return rows if near else None

    try:
        return dict(wait_for(seen, "the rows", 20))
    except AssertionError as error:
        error.add_note(str({n: row["bytes"] for n, row in others(session).items()}))
        raise


def test_what_no_task_holds_is_named_with_its_bytes(start: Any) -> None:
    session: Session = start(n_workers=1, threads_per_worker=2, memory_limit="600MB")
    client = session.client
    client.submit(np.ones, 1000).result()
    time.sleep(1)
    client.run(with_cache.keep_by_run)
    settled(session, {"client.run": 40})
    assert len(client.run(with_cache.give_back).popitem()[1]) == 50 * MB
    client.register_plugin(Lookup(), name="lookup")
    client.gather(client.map(with_cache.fill_table, range(4)))
    client.gather(client.map(with_cache.use_cache, range(8)))
    wanted = {
        "client.run": 40,
        "plugin lookup": 30,
        "global with_cache.TABLE": 80,
        "global with_cache.load": 30,
    }
    rows = settled(session, wanted)
    assert {rows[name]["part"] for name in wanted} == {"baseline"}
    assert "`with_cache.TABLE` keeps" in rows["global with_cache.TABLE"]["advice"]
    stored = client.submit(with_cache.give_cached)
    stored.result()
    settled(session, {"global with_cache.load": 15})
    assert stored.status == "finished"
