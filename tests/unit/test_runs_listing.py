"""A list of runs: figures, order, what is damaged, and that none is opened."""

import json
import os
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner
from recorded_runs import list_of_runs

from dask_memdash.cli.main import main
from dask_memdash.errors import RunError
from dask_memdash.runs.directory import MANIFEST, Manifest, Segment, write_manifest
from dask_memdash.runs.listing import SORTS, LocalRuns, select
from dask_memdash.runs.living import this_place

NOW = 1795936500.0
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202eevil"


def write(root, number, **changes):
    name = f"20261129-0715{number:02d}-0a1b2c"
    path = root / name
    path.mkdir(parents=True)
    begun = NOW + number
    values = {
        "id": name,
        "started": begun,
        "ended": begun + 90,
        "updated": begun + 90,
        "summary": {"n_workers": number, "failures": 0, "deaths": 0, "incidents": 0},
        "segments": [Segment("0001-main.sqlite", "main", begun, begun + 90, 10)],
    }
    write_manifest(path, Manifest(**{**values, **changes}))
    (path / "0001-main.sqlite").write_bytes(b"x" * 10)
    return path


def ids(rows):
    return [row.id for row in rows]


def test_a_run_is_told_by_its_manifest_and_its_files(tmp_path):
    summary = {"n_workers": 4, "failures": 1, "deaths": 3, "incidents": 5}
    summary |= {"most_memory": 9_000, "most_worker": 5_000}
    path = write(tmp_path, 1, name="nightly", tags={"branch": "main"}, summary=summary)
    [row] = LocalRuns(tmp_path).rows(NOW)
    assert (row.id, row.path, row.name) == (path.name, str(path), "nightly")
    assert row.tags == {"branch": "main"}
    assert (row.began, row.seconds) == (NOW + 1, 90)
    assert (row.workers, row.failures, row.deaths) == (4, 1, 3)
    assert (row.most_worker, row.most_memory) == (5_000, 9_000)
    assert row.size == 10 + (path / MANIFEST).stat().st_size
    assert (row.state, row.note) == ("ended", "")


def test_what_an_older_manifest_does_not_tell_is_not_known(tmp_path):
    path = write(tmp_path, 1)
    values = json.loads((path / MANIFEST).read_text())
    values["summary"] = {}
    values["live"] = {"directory": str(path), "host": "other", "pid": 1}
    values["ended"] = None
    (path / MANIFEST).write_text(json.dumps(values))
    [row] = LocalRuns(tmp_path).rows(NOW)
    assert (row.workers, row.failures, row.most_worker) == (None, None, None)
    assert row.state == "unknown"


def test_a_run_that_is_written_grows_and_one_that_was_killed_does_not(tmp_path):
    here = this_place(tmp_path)
    write(tmp_path, 1, ended=None, live=here)
    write(tmp_path, 2, ended=None, live=replace(here, started=1))
    killed, written = select(LocalRuns(tmp_path).rows(NOW + 1000))
    assert (written.state, written.seconds) == ("written", 999)
    assert (killed.state, killed.seconds) == ("cut-short", 90)


def test_files_that_are_written_elsewhere_count(tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "live-main.sqlite").write_bytes(b"x" * 5000)
    path = write(tmp_path / "runs", 1, ended=None, live=this_place(spool))
    [row] = LocalRuns(tmp_path / "runs").rows(NOW)
    assert row.size == 5010 + (path / MANIFEST).stat().st_size


def impossible(**changes):
    values = Manifest("20261129-071503-0a1b2c", NOW).to_dict()
    return json.dumps({**values, **changes})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ("no json", "damaged"),
        ('{"format": "other"}', "not the manifest"),
        (impossible(version=99), "newer"),
        (impossible(started=float("nan")), "impossible"),
        (impossible(started=1e300), "impossible"),
        (impossible(updated="soon"), "damaged"),
        (impossible(ended=-5), "impossible"),
        (impossible(tags=["a"]), "damaged"),
        (impossible(name=7), "damaged"),
        (impossible(summary={"deaths": "many"}), "impossible"),
        (impossible(live={"directory": 5, "host": "x", "pid": 1}), "impossible"),
        (impossible(live={}), "damaged"),
        (impossible(left_out=[{}]), "impossible"),
    ],
)
def test_a_damaged_run_is_a_row_that_says_so_and_the_others_are_listed(
    tmp_path, content, says
):
    good = write(tmp_path, 1)
    bad = write(tmp_path, 3)
    (bad / MANIFEST).write_text(content)
    rows = select(LocalRuns(tmp_path).rows(NOW))
    assert ids(rows) == [bad.name, good.name]
    assert (rows[0].state, rows[1].state) == ("damaged", "ended")
    assert says in rows[0].note
    assert MANIFEST in rows[0].note
    assert rows[0].began is not None  # by its name
    assert rows[0].failures is None


def test_a_run_without_a_manifest_and_one_that_is_a_loop_of_links_are_rows(tmp_path):
    write(tmp_path, 1)
    (tmp_path / "20261129-071502-0a1b2c").mkdir()
    loop = tmp_path / "20261129-071503-0a1b2c"
    loop.mkdir()
    (loop / MANIFEST).symlink_to(loop / MANIFEST)
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("x")
    rows = select(LocalRuns(tmp_path).rows(NOW))
    assert [row.state for row in rows] == ["damaged", "damaged", "ended"]


def test_a_manifest_is_read_again_once_it_has_changed(tmp_path, monkeypatch):
    path = write(tmp_path, 1, name="before")
    runs = LocalRuns(tmp_path)
    assert runs.rows(NOW)[0].name == "before"
    read = []
    monkeypatch.setattr("dask_memdash.runs.directory.read_manifest", read.append)
    assert runs.rows(NOW)[0].name == "before"
    assert read == []
    monkeypatch.undo()
    write_manifest(path, Manifest(path.name, NOW, name="after"))
    assert runs.rows(NOW)[0].name == "after"


def test_search_tags_and_names(tmp_path):
    write(tmp_path, 1, name="nightly build", tags={"branch": "main", "ci": ""})
    write(tmp_path, 2, name="Nightly", tags={"branch": "other"})
    write(tmp_path, 3)
    rows = LocalRuns(tmp_path).rows(NOW)

    def numbers(**asked):
        return [int(row.id[13:15]) for row in select(rows, **asked)]

    assert numbers() == [3, 2, 1]
    assert numbers(name="NIGHT") == [2, 1]
    assert numbers(tags=["branch"]) == [2, 1]
    assert numbers(tags=["branch=main"]) == [1]
    assert numbers(tags=["branch", "ci"]) == [1]
    assert numbers(tags=["ci="]) == [1]
    assert numbers(search="night main") == [1]
    assert numbers(search="071503") == [3]
    assert numbers(search="branch=other") == [2]
    assert numbers(search="ended") == [3, 2, 1]
    assert numbers(search="nothing") == []


def test_every_column_sorts_and_what_is_not_known_comes_last(tmp_path):
    for number, (name, workers) in enumerate([("b", 5), ("a", None), ("", 7)], 1):
        write(tmp_path, number, name=name, summary={"n_workers": workers})
    rows = LocalRuns(tmp_path).rows(NOW)

    def numbers(sort, reverse=False):
        found = select(rows, sort=sort, reverse=reverse)
        return [int(row.id[13:15]) for row in found]

    assert numbers("workers") == [3, 1, 2]
    assert numbers("workers", reverse=True) == [1, 3, 2]
    assert numbers("name") == [2, 1, 3]
    assert numbers("began", reverse=True) == [1, 2, 3]
    for sort in SORTS:
        assert sorted(numbers(sort)) == [1, 2, 3]


def test_hostile_names_and_tags_are_made_harmless_where_they_are_listed(tmp_path):
    tags = {f"{HOSTILE}{n}": HOSTILE * 100 for n in range(100)}
    write(tmp_path, 1, name=HOSTILE * 10_000, tags=tags)
    odd = tmp_path / HOSTILE.replace("/", "_")
    odd.mkdir()
    write_manifest(odd, Manifest("x", NOW))
    rows = LocalRuns(tmp_path).rows(NOW)
    assert max(len(row.name) for row in rows) == 200
    assert max(len(row.tags) for row in rows) == 50
    shown = CliRunner().invoke(main, ["runs", "ls", str(tmp_path)])
    assert shown.exit_code == 0
    assert "\x1b" not in shown.output
    assert "\u202e" not in shown.output


def test_two_hundred_runs_are_listed_without_one_being_opened(tmp_path, monkeypatch):
    import sqlite3

    list_of_runs(tmp_path, 200, NOW)
    monkeypatch.setattr(sqlite3, "connect", None)
    begun = time.process_time()
    rows = select(LocalRuns(tmp_path).rows(NOW))
    assert time.process_time() - begun < 1.0
    assert len(rows) == 200
    assert rows == sorted(rows, key=lambda row: row.began, reverse=True)


# --- the command ----------------------------------------------------------------------


def asked(*arguments):
    return CliRunner().invoke(main, ["runs", "ls", *arguments])


def test_the_command_writes_a_table(tmp_path):
    write(
        tmp_path,
        1,
        name="nightly",
        tags={"branch": "main"},
        summary={"n_workers": 4, "failures": 1, "deaths": 3, "most_worker": 2**28},
    )
    bad = write(tmp_path, 2)
    (bad / MANIFEST).write_text("{")
    lines = asked(str(tmp_path)).output.splitlines()
    assert lines[0].split()[:4] == ["id", "name", "began", "length"]
    assert "damaged" in lines[1]
    assert "nightly" in lines[2]
    for told in ("1 min 30 s", "256 MiB", "ended", "branch=main"):
        assert told in lines[2]
    assert "2 runs" in lines[4]
    assert "it is damaged" in lines[5]
    assert str(bad / MANIFEST) in lines[5]


def test_the_command_writes_json(tmp_path):
    write(tmp_path, 1, tags={"a": "b"})
    write(tmp_path, 2)
    found = json.loads(asked(str(tmp_path), "--json", "--tag", "a=b").output)
    assert [run["tags"] for run in found] == [{"a": "b"}]
    assert found[0]["began"] == NOW + 1
    assert found[0]["state"] == "ended"
    assert found[0]["damaged"] is False


def test_the_command_says_what_there_is_not(tmp_path):
    assert "There is no recorded run" in asked(str(tmp_path)).output
    write(tmp_path, 1)
    assert "None of the 1 run " in asked(str(tmp_path), "--name", "x").output
    missing = asked(str(tmp_path / "missing"))
    assert missing.exit_code == 3
    assert "cannot be listed" in missing.output


def test_the_command_and_the_list_sort_by_the_same_columns():
    from dask_memdash.cli import runs

    assert tuple(SORTS) == runs.SORTS


def test_a_directory_that_is_not_readable_is_an_error(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "runs").mkdir(mode=0)
    with pytest.raises(RunError, match="Permission denied"):
        LocalRuns(tmp_path / "runs").rows()
