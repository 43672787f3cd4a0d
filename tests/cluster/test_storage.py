"""Storage by prefix is what the workers really hold."""

from __future__ import annotations

import time

import numpy as np
import pytest
from clusters import wait_for
from distributed import wait
from zict import Buffer

pytestmark = pytest.mark.cluster

MB = 1_000_000


def block(i: int) -> np.ndarray:
    return np.full(10 * MB // 8, i, dtype=float)


def block_of_other_prefix(i: int) -> np.ndarray:
    return np.full(20 * MB // 8, i, dtype=float)


def sleep_on(block: np.ndarray) -> None:
    time.sleep(60)


def foreign_buffer() -> Buffer:
    """A buffer that spills and is not Dask's own."""
    return Buffer({}, {}, n=10**9)


def storage(session, name: str) -> dict:
    rows = session.api("prefixes")
    return next((p["storage"] for p in rows if p["prefix"] == name), None)


def truth(session) -> dict[str, list[int]]:
    """What the spill buffers hold, asked of them: prefix → [in RAM, spilled, disk]."""

    def ask(dask_worker):
        from dask.utils import key_split

        found: dict[str, list[int]] = {}
        data = dask_worker.data
        for key, size in data.fast.weights.items():
            found.setdefault(key_split(key), [0, 0, 0])[0] += size
        for key, size in data.slow.data.weight_by_key.items():
            sums = found.setdefault(key_split(key), [0, 0, 0])
            sums[1] += size.memory
            sums[2] += size.disk
        return found

    total: dict[str, list[int]] = {}
    for found in session.client.run(ask).values():
        for prefix, sums in found.items():
            old = total.get(prefix, [0, 0, 0])
            total[prefix] = [a + b for a, b in zip(old, sums, strict=True)]
    return total


def test_spilled_bytes_by_prefix_are_those_of_the_spill_buffers(start):
    session = start(memory_limit="350 MB")
    futures = session.client.map(block, range(30)) + session.client.map(
        block_of_other_prefix, range(12)
    )
    wait(futures)

    def agrees():
        expected = truth(session)
        shown = {
            name: storage(session, name) for name in ("block", "block_of_other_prefix")
        }
        return all(
            row is not None
            and [row["managed_claimed"], row["spilled"], row["spilled_disk"]]
            == expected[name]
            for name, row in shown.items()
        ) and (expected, shown)

    expected, shown = wait_for(agrees, "the page to agree with the workers")
    assert sum(sums[1] for sums in expected.values()) > 50 * MB
    assert shown["block"]["count"] == 30
    assert shown["block_of_other_prefix"]["count"] == 12
    assert shown["block"]["output_bytes"]["p50"] == pytest.approx(10 * MB, rel=0.02)
    cluster = session.api("cluster")["breakdown"]
    rows = [p["storage"] for p in session.api("prefixes") if p["kind"] == "task"]
    assert cluster["managed"] == sum(row["managed"] for row in rows)
    assert cluster["spilled"] == sum(row["spilled"] for row in rows)
    del futures
    wait_for(lambda: storage(session, "block")["count"] == 0, "the released keys to go")
    assert storage(session, "block")["spilled"] == 0


@pytest.mark.slow
def test_replicas_are_counted_once_as_data(start):
    session = start(n_workers=3)
    session.client.amm.stop()  # it would take the copies away again
    futures = session.client.map(block, range(4))
    wait(futures)
    session.client.replicate(futures[:2], n=3)

    def agrees():
        row = storage(session, "block")
        return (
            row is not None
            and row["replicas"] == pytest.approx(40 * MB, rel=0.001)
            and row["count"] == 4
            and row["managed"] + row["spilled"] == pytest.approx(80 * MB, rel=0.001)
        )

    wait_for(agrees, "four blocks of data and four copies to be seen")


def test_pinned_and_awaited_outputs_are_told_apart(start):
    session = start(n_workers=1)
    pinned = session.client.map(block, range(3))
    wait(pinned)
    slow = [
        session.client.submit(sleep_on, future, pure=False, key=f"slow-{i}")
        for i, future in enumerate(pinned[:2])
    ]

    def agrees():
        row = storage(session, "block")
        return row and row["awaited"] == pytest.approx(20 * MB, rel=0.001) and row

    row = wait_for(agrees, "the awaited outputs to be seen")
    assert row["pinned"] == pytest.approx(30 * MB, rel=0.001)
    assert [w["prefix"] for w in row["awaited_by"]] == ["slow"]
    session.client.cancel(slow)


@pytest.mark.slow
def test_without_a_spill_buffer_nothing_is_spilled_and_the_rest_is_right(start):
    import dask

    with dask.config.set(
        {
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
        }
    ):
        session = start(n_workers=1)
        futures = session.client.map(block, range(5))
        wait(futures)
        row = wait_for(
            lambda: (r := storage(session, "block")) and r["count"] == 5 and r,
            "the outputs to be reported",
        )
        assert row["spilled"] == 0
        assert row["managed_claimed"] == pytest.approx(50 * MB, rel=0.001)
        assert session.api("workers")[0]["thresholds"]["spill"] is None


@pytest.mark.slow
def test_data_of_another_kind_is_counted_and_its_spilling_not_known(start):
    session = start(n_workers=1, data=foreign_buffer)
    futures = session.client.map(block, range(3))
    wait(futures)
    row = wait_for(
        lambda: (r := storage(session, "block")) and r["count"] == 3 and r,
        "the outputs to be reported",
    )
    assert row["spilled"] is None
    assert session.api("cluster")["breakdown"]["spilled"] is None
