"""A run as Parquet files: every table, once each row, and what is damaged."""

import builtins
import json
import stat

import pytest
import stories
from click.testing import CliRunner
from recorded_runs import Segment, write_run, write_store

from dask_memdash.cli.main import main
from dask_memdash.errors import MemDashError
from dask_memdash.runs.parquet import export, table_names
from dask_memdash.runs.reading import RunReader

parquet = pytest.importorskip("pyarrow.parquet")
NOW = stories.NOW


@pytest.fixture
def run(tmp_path):
    """Write a run of two segments that tell of the same cluster twice, and a third."""
    store = stories.after_incident()
    path = write_run(tmp_path / "20260801-100000-abcdef", store)
    second = Segment(path, number=2, opened=NOW + 60)
    write_store(second, store, NOW + 100)
    second.db.execute("UPDATE failures SET text = 'as it was last known'")
    second.close(NOW + 120)
    third = Segment(path, kind="s10", number=3, opened=NOW)
    third.add("breakdown", NOW, 0, 7, 7, 0, 0, 0, 0, 0, 0, 0)
    third.close(NOW + 120)
    return path


def asked(*arguments):
    return CliRunner().invoke(main, ["runs", "export", *map(str, arguments)])


def rows(path, table):
    return parquet.read_table(path / f"{table}.parquet").to_pylist()


def test_every_table_is_a_file_that_its_owner_alone_reads(run, tmp_path):
    to = tmp_path / "tables"
    done = asked(run, "--to", to)
    assert done.exit_code == 0, done.output
    assert {path.stem for path in to.iterdir()} == set(table_names())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in to.iterdir())
    assert "failures.parquet: 2 rows" in done.output


def test_rows_come_once_as_they_were_last_known(run, tmp_path):
    list(export(RunReader(run), tmp_path / "t"))
    store = stories.after_incident()
    failures = rows(tmp_path / "t", "failures")
    assert {f["id"] for f in failures} == {f["id"] for f in store.failures()}
    assert {f["text"] for f in failures} == {"as it was last known"}
    assert len(rows(tmp_path / "t", "cluster_states")) == 2
    workers = rows(tmp_path / "t", "workers")
    assert len({w["id"] for w in workers}) == len(workers)


def test_answers_are_json_and_sizes_are_integers(run, tmp_path):
    list(export(RunReader(run), tmp_path / "t"))
    (first, *_) = rows(tmp_path / "t", "worker_states")
    assert json.loads(first["answer"])["address"].startswith("tcp://")
    prefix = rows(tmp_path / "t", "prefix_states")[0]
    assert isinstance(prefix["managed"], int)
    assert json.loads(prefix["answer"])["prefix"] == prefix["prefix"]
    kinds = {
        (row["kind"], row["process_bytes"]) for row in rows(tmp_path / "t", "breakdown")
    }
    assert ("s10", 7) in kinds
    assert {kind for kind, _ in kinds} == {"main", "s10"}


def test_one_table_alone(run, tmp_path):
    done = asked(
        run, "--to", tmp_path / "t", "--table", "incidents", "--table", "tasks"
    )
    assert done.exit_code == 0
    assert {p.name for p in (tmp_path / "t").iterdir()} == {
        *("incidents.parquet", "tasks.parquet")
    }


def test_what_cannot_be_is_an_error_that_says_what_there_is(run, tmp_path):
    wrong = asked(run, "--to", tmp_path / "t", "--table", "nothing")
    assert wrong.exit_code == 3
    assert "prefix_states" in wrong.output
    assert not (tmp_path / "t").exists()
    asked(run, "--to", tmp_path / "t", "--table", "tasks")
    again = asked(run, "--to", tmp_path / "t")
    assert again.exit_code == 3
    assert "there already" in again.output
    (tmp_path / "file").write_text("x")
    assert "cannot write" in asked(run, "--to", tmp_path / "file" / "t").output
    assert asked(tmp_path / "nowhere", "--to", tmp_path / "u").exit_code == 3


def test_without_pyarrow_its_name_is_told(run, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MemDashError, match="pip install pyarrow"):
        list(export(RunReader(run), tmp_path / "t"))


def test_a_damaged_segment_is_named_and_the_rest_is_written(run, tmp_path):
    (run / "0002-main.sqlite").write_bytes(b"no database" * 1000)
    done = asked(run, "--to", tmp_path / "t", "--table", "failures")
    assert done.exit_code == 1
    assert "0002-main.sqlite is left out" in done.output
    assert len(rows(tmp_path / "t", "failures")) == 2


def test_a_segment_without_a_newer_column_and_values_of_other_types(tmp_path):
    run = tmp_path / "20260801-100000-abcdef"
    old = Segment(run, number=1)
    old.db.execute("DROP TABLE pauses")
    old.db.execute("CREATE TABLE pauses (worker INTEGER, began REAL)")
    old.db.execute("INSERT INTO pauses VALUES (1, 5.0), ('many', 'x')")
    old.close(10.0)
    list(export(RunReader(run), tmp_path / "t", ["pauses", "notices"]))
    assert rows(tmp_path / "t", "pauses") == [
        {"worker": 1, "began": 5.0, "ended": None},
        {"worker": None, "began": None, "ended": None},
    ]
    assert rows(tmp_path / "t", "notices") == []
