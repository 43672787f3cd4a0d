"""The API's answers as DataFrames: flat columns in bytes, missing where not known."""

import fake_parts
import fake_store
import pandas as pd
import pytest
import stories
from stories import NOW, MiB

from dask_memdash.client.dataframes import FRAMES, frame
from dask_memdash.terms import PARTS

COLUMNS = {
    "cluster": {"n_workers", "limit", "process", "executing", "degraded"},
    "workers": {"name", "pid", "limit", "terminate", "transfer_incoming", "running"},
    "prefixes": {"managed", "awaited_by", "output_p95", "peak_max", "method"},
    "storage": {"state", "objects", "stored", "pending", "failed", "names", "error"},
    "failures": {"kind", "count", "deaths", "cause", "relief", "prefix", "bytes_lost"},
    "incidents": {"kind", "worker_name", "exit_signal", "process", "cause", "prefix"},
    "order": {"tasks", "minimum", "run_ahead", "capacity", "verdict"},
    "limits": {"limit", "effective", "source_cgroup", "verdict", "advice"},
}


@pytest.mark.parametrize("name", FRAMES)
def test_without_anything_the_frame_is_empty_and_has_its_columns(name):
    made = frame(name, [])
    assert len(made) == 0
    assert set(made.columns) >= COLUMNS[name]
    assert made.index.name == FRAMES[name][0]


def test_workers_are_rows_by_address_with_flat_columns():
    made = frame("workers", fake_store.busy().workers())
    assert list(made.index) == [f"tcp://10.0.0.{n}:4000" for n in range(1, 5)]
    first = made.iloc[0]
    assert (first["name"], first.nthreads, first.running) == ("worker-1", 2, 1)
    assert first.limit == 1024 * MiB
    assert first.pause == int(1024 * MiB * 0.8)
    assert first.transfer_incoming == 20 * MiB
    assert first.last_seen == pd.Timestamp(NOW, unit="s", tz="UTC")
    assert (made[list(PARTS)].sum(axis=1) == made.process).all()
    assert str(made.process.dtype) == "Int64"


def test_what_is_not_known_is_missing_and_not_zero():
    made = frame("workers", fake_store.degraded().workers())
    assert pd.isna(made.process.iloc[0])
    assert pd.isna(made.transfer_shuffle.iloc[0])
    assert made.process.iloc[1] > 0
    assert made.process.sum() > 0


def test_prefixes_have_storage_and_execution_side_by_side():
    made = frame("prefixes", fake_store.busy().prefixes())
    row = made.loc["random_sample"]
    assert (row.managed, row.spilled, row.awaited_by) == (768 * MiB, 400 * MiB, "sum")
    assert row.output_p95 == pytest.approx(9 * MiB, rel=0.01)
    assert row.peak_p95 == pytest.approx(140 * MiB, rel=0.01)
    assert row.finished == 40


def test_incidents_are_rows_by_id_newest_first():
    made = frame("incidents", fake_store.after_incident().incidents())
    assert list(made.index) == ["5", "4", "3", "2", "1"]
    assert made.kind["2"] == "oom-killed"
    assert (made.exit_signal["2"], made.exit_by["2"]) == (9, "kernel")
    assert made.worker_name["5"] == "worker-4", "whose death was one too many"
    assert made.until["3"] == pd.Timestamp(NOW - 30, unit="s", tz="UTC")
    assert pd.isna(made.until["4"])


def test_the_cluster_is_one_row():
    made = frame("cluster", [fake_store.busy().cluster()])
    assert len(made) == 1
    assert made.n_workers.iloc[0] == 4
    assert made.limit.iloc[0] == 4096 * MiB


def test_the_storage_of_intermediates_is_one_row():
    made = frame("storage", [stories.storing().cluster()["intermediates"]])
    assert list(made.index) == ["file:///shared/store"]
    row = made.iloc[0]
    assert (row.state, row.stored, row.pending) == ("writing", 20, 3)
    assert (row.workers_stored_bytes, row.seconds_a_write) == (400 * MiB, 0.05)
    assert pd.isna(row.workers_ram)
    assert row.text.startswith("20 of 23 results are stored")
    workers = frame("workers", stories.storing().workers())
    assert list(workers.stored) == [30 * MiB, 60 * MiB]


@pytest.mark.parametrize("name", ["order", "limits"])
def test_graphs_and_audits_are_rows(name):
    items = getattr(fake_store.busy(), name)()
    made = frame(name, items)
    assert list(made.index) == [item[FRAMES[name][0]] for item in items]


def test_hostile_names_are_kept_as_they_are():
    made = frame("workers", fake_store.hostile().workers())
    assert made["name"].iloc[0] == fake_parts.HOSTILE
