"""A recorded run in the user's hands: no cluster, and the same answers."""

import asyncio

import pytest
import stories
from distributed.scheduler import KilledWorker
from recorded_runs import write_run

import dask_memdash
from dask_memdash.errors import (
    RunError,
    UnexplainedError,
    UnknownFailureError,
    UnknownIncidentError,
)


@pytest.fixture
def run(tmp_path):
    path = write_run(tmp_path / "20260801-100000-abcdef", stories.after_incident())
    with dask_memdash.open_run(path) as opened:
        yield opened


def test_frames_are_those_of_a_connection(run):
    live = stories.after_incident()
    assert list(run.workers()["name"]) == [w["name"] for w in live.workers()]
    assert list(run.incidents().index) == [i["id"] for i in live.incidents()]
    assert len(run.failures()) == len(live.failures())
    assert len(run.limits()) == 4
    assert len(run.order()) == 1
    assert len(run.prefixes()) >= len(live.prefixes())
    assert run.cluster()["n_workers"].iloc[0] == 4
    assert len(run.storage()) == 0


def test_explain_tells_incidents_and_failures_as_they_were_told(run):
    newest = run.incidents().index[0]
    assert "rechunk-split" in str(run.explain(newest))
    for failure in stories.after_incident().failures():
        told = run.explain(f"failure-{failure['id']}")
        assert told.failure == failure
        assert str(told).startswith(f"Failure {failure['id']}: ")
    with pytest.raises(UnknownIncidentError):
        run.explain("999")
    with pytest.raises(UnknownFailureError):
        run.explain("failure-999")


def test_a_killed_worker_of_that_run_is_explained(run):
    error = KilledWorker(stories.CULPRIT, None, 3)
    assert run.explain(error).incident["kind"] == "killed-worker"
    with pytest.raises(UnexplainedError):
        run.explain(KilledWorker("another", None, 3))


def test_it_works_within_a_running_loop(run):
    async def ask():
        return run.incidents(), run.explain(run.incidents().index[0])

    frame, told = asyncio.run(ask())
    assert len(frame) == 5
    assert told.incident["id"] == frame.index[0]


def test_another_instant_is_looked_at_with_at(run):
    assert len(run.at(stories.NOW - 45).incidents()) == 1
    assert len(run.incidents()) == 5


def test_the_report_is_one_file(run, tmp_path):
    path = run.report(tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    assert "rechunk-split" in text
    assert path.stat().st_size > 100_000


def test_of_several_runs_one_is_named(tmp_path):
    for name in ("20260801-100000-aaaaaa", "20260802-100000-bbbbbb"):
        write_run(tmp_path / name, stories.one(1))
    with pytest.raises(RunError, match="20260802-100000-bbbbbb"):
        dask_memdash.open_run(tmp_path)
    with dask_memdash.open_run(tmp_path, "20260801-100000-aaaaaa") as run:
        assert run.id == "20260801-100000-aaaaaa"
    with pytest.raises(RunError, match="no run 'other'"):
        dask_memdash.open_run(tmp_path, "other")
    with pytest.raises(RunError, match="no such directory"):
        dask_memdash.open_run(tmp_path / "nowhere")
