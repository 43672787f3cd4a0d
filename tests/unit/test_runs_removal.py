"""Removing runs: what is named or old goes, and nothing else does."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from recorded_runs import write_run
from test_runs_listing import write as write_some

from dask_memdash.cli.main import main
from dask_memdash.errors import RunError
from dask_memdash.runs import removal
from dask_memdash.runs.directory import MANIFEST, read_manifest, write_manifest
from dask_memdash.runs.living import SILENCE, this_place
from dask_memdash.runs.upload import SPOOLS

DAY = 24 * 3600.0


def write(root, number, age=0.0, **changes):
    """Write a run that was last written some seconds ago."""
    then = time.time() - age
    ended = {"ended": then, "updated": then, **changes}
    path = write_some(root, number, **ended)
    for file in path.iterdir():
        os.utime(file, (then, then))
    return path


def rm(*arguments, text=None):
    return CliRunner().invoke(main, ["runs", "rm", *map(str, arguments)], input=text)


def names(root):
    return sorted(path.name for path in root.iterdir())


def test_old_runs_go_and_new_ones_stay(tmp_path):
    old, new = write(tmp_path, 1, age=31 * DAY), write(tmp_path, 2, age=29 * DAY)
    done = rm(tmp_path, "--older-than", "30d", "--yes")
    assert done.exit_code == 0
    assert old.name in done.output
    assert new.name not in done.output
    assert names(tmp_path) == [new.name]
    assert "nothing to remove" in rm(tmp_path, "--older-than", "30d", "--yes").output


def test_nothing_goes_before_somebody_has_said_yes(tmp_path):
    path = write(tmp_path, 1)
    asked = rm(tmp_path, path.name, text="n\n")
    assert asked.exit_code == 1
    assert "Remove 1 run (" in asked.output
    assert path.name in asked.output
    assert path.is_dir()
    tried = rm(tmp_path, path.name, "--dry-run")
    assert tried.exit_code == 0
    assert "Would remove 1 run" in tried.output
    assert path.is_dir()
    assert "Removed 1 run" in rm(tmp_path, path.name, text="y\n").output
    assert not path.exists()


def test_neither_a_name_nor_an_age_is_a_mistake(tmp_path):
    write(tmp_path, 1)
    assert rm(tmp_path, "--yes").exit_code == 2
    assert rm(tmp_path, "--older-than", "soon", "--yes").exit_code == 2
    assert len(names(tmp_path)) == 1


def test_a_run_that_is_not_there_is_an_error_and_none_of_the_others_goes(tmp_path):
    path = write(tmp_path, 1)
    for wrong in ("nothing", "..", f"../{tmp_path.name}/{path.name}"):
        done = rm(tmp_path, path.name, wrong, "--yes")
        assert done.exit_code == 3
        assert "there is no run" in done.output
    assert path.is_dir()


def test_a_run_that_is_written_or_may_be_stays(tmp_path):
    here = this_place(tmp_path)
    live = write(tmp_path, 1, age=90 * DAY, ended=None, live=here)
    other = replace(here, host="elsewhere")
    unknown = write(tmp_path, 2, age=3600, ended=None, live=other)
    killed = write(tmp_path, 3, ended=None, live=replace(here, started=1))
    silent = write(tmp_path, 4, age=SILENCE + 60, ended=None, live=other)
    done = rm(tmp_path, live.name, unknown.name, killed.name, silent.name, "--yes")
    assert done.exit_code == 1
    assert f"{live.name} stays: it is still written" in done.output
    assert f"{unknown.name} stays: it may still be written" in done.output
    assert names(tmp_path) == [live.name, unknown.name]
    assert rm(tmp_path, "--older-than", "1s", "--yes").exit_code == 1
    assert names(tmp_path) == [live.name, unknown.name]


def test_a_run_that_is_taken_up_between_question_and_answer_stays(tmp_path):
    path = write(tmp_path, 1)
    [row] = removal.plan(tmp_path, [path.name]).rows
    manifest = read_manifest(path)
    manifest.ended, manifest.live = None, this_place(path)
    write_manifest(path, manifest)
    assert removal.remove(row) == "it is still written"
    assert path.is_dir()


def test_a_clock_that_was_ahead_makes_no_run_old(tmp_path):
    write(tmp_path, 1, age=-3 * DAY)
    assert removal.plan(tmp_path, older_than=60.0).rows == []
    path = write(tmp_path, 2, age=90 * DAY)
    os.utime(path / MANIFEST)  # what the files say counts too
    assert removal.plan(tmp_path, older_than=60.0).rows == []


def test_what_is_no_run_stays(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "run.json").write_text('{"npm": "start"}')
    (tmp_path / "20260101-000000-abcdef").mkdir()
    (tmp_path / "20260101-000000-abcdef" / "thesis.tex").write_text("x")
    done = rm(tmp_path, "notes", "20260101-000000-abcdef", "--yes")
    assert done.exit_code == 1
    assert done.output.count("not known to be a run") == 2
    assert (tmp_path / "notes" / "run.json").exists()
    assert (tmp_path / "20260101-000000-abcdef" / "thesis.tex").exists()


def test_files_of_others_in_a_run_stay_and_so_does_a_link_to_one(tmp_path):
    path = write(tmp_path / "runs", 1)
    (path / "notes.txt").write_text("mine")
    (path / "0002-main.sqlite").mkdir()
    far = write(tmp_path / "far", 2)
    (tmp_path / "runs" / far.name).symlink_to(far)
    done = rm(tmp_path / "runs", path.name, far.name, "--yes")
    assert done.exit_code == 1
    assert f"{far.name} stays: it is a link" in done.output
    assert "is not of the run" in done.output
    assert names(path) == ["0002-main.sqlite", "notes.txt"]
    assert (far / MANIFEST).exists()


def test_a_damaged_run_can_be_removed_unless_it_may_be_written(tmp_path):
    bad = write(tmp_path, 1)
    (bad / MANIFEST).write_text("{")
    busy = write(tmp_path, 2)
    (busy / MANIFEST).write_text("{")
    (busy / "live-main.sqlite").write_bytes(b"x")
    done = rm(tmp_path, bad.name, busy.name, "--yes")
    assert done.exit_code == 1
    assert "may still be written" in done.output
    assert names(tmp_path) == [busy.name]


def test_a_real_run_goes_whole_with_drafts_and_logs(tmp_path):
    import stories

    path = write_run(tmp_path / "20260801-100000-abcdef", stories.one(1))
    for name in ("live-s1.sqlite", "live-s1.sqlite-wal", ".0002-s1.sqlite"):
        (path / name).write_bytes(b"x")
    (path / f".{MANIFEST}.123").write_text("{")
    assert rm(tmp_path, path.name, "--yes").exit_code == 0
    assert names(tmp_path) == []


LEFT = """
import os, signal, sys
from dask_memdash.runs import local_disk, place
place.is_network = lambda path: "runs" in str(path)
from dask_memdash.runs.directory import Manifest, write_manifest
from dask_memdash.runs.living import this_place
to, run, scratch = sys.argv[1:]
home, up = place.prepare(to, run, scratch)
(home / "0001-main.sqlite").write_bytes(b"x")
write_manifest(home, Manifest(run, 1.0, live=this_place(home)))
os.makedirs(os.path.join(to, run))
write_manifest(os.path.join(to, run), Manifest(run, 1.0, live=this_place(home)))
print(home, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_scheduler_could_not_send_goes_too(tmp_path):
    run = "20260801-100000-abcdef"
    arguments = [str(tmp_path / "runs"), run, str(tmp_path / "scratch")]
    (tmp_path / "scratch").mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", LEFT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    spool = Path(child.stdout.readline().strip())
    try:
        assert spool == tmp_path / "scratch" / SPOOLS / run
        assert rm(tmp_path / "runs", run, "--yes").exit_code == 1
        assert spool.is_dir()
    finally:
        child.kill()
        child.communicate()
    assert rm(tmp_path / "runs", run, "--yes").exit_code == 0
    assert not spool.exists()
    assert names(tmp_path / "runs") == []


def test_runs_behind_a_url_are_left_to_their_store():
    with pytest.raises(RunError, match="tools of that store"):
        removal.plan("s3://bucket/runs", ["x"])
