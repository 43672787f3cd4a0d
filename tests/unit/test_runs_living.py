"""Whether a run is still written: a pid alone says nothing."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from dask_memdash.runs.directory import LivePlace, Manifest
from dask_memdash.runs.living import SILENCE, lives, state_of, this_place

NOW = 1_796_000_000.0


def run(**changes):
    values = {"id": "20261129-071500-0a1b2c", "started": NOW - 60, "updated": NOW - 5}
    return Manifest(**{**values, **changes})


def test_the_process_that_writes_lives():
    here = this_place("/tmp/x")
    assert (here.host, here.pid) == (os.uname().nodename, os.getpid())
    assert lives(here) is True
    assert state_of(run(live=here), NOW) == ("written", "")


def test_a_process_that_is_gone_or_not_yet_reaped_does_not_live():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    place = replace(this_place("/tmp/x"), pid=child.pid)
    assert lives(place) is False  # it started at another instant
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert lives(place) is False
    child.wait()
    assert lives(place) is False
    child.stdin.close()


def test_a_pid_that_was_given_to_another_process_does_not_keep_a_run_alive():
    here = this_place("/tmp/x")
    reused = replace(here, started=here.started - 500)
    assert lives(reused) is False
    state, note = state_of(run(live=reused), NOW)
    assert state == "cut-short"
    assert "gone" in note


@pytest.mark.parametrize(
    "other", [{"host": "elsewhere"}, {"boot": "another"}, {"namespace": 1}]
)
def test_of_another_machine_boot_or_container_nothing_is_claimed(other):
    place = replace(this_place("/tmp/x"), **other)
    assert lives(place) is None
    state, note = state_of(run(live=place), NOW)
    assert state == "unknown"
    assert "5.0 s ago" in note
    assert str(place.pid) in note


def test_what_was_silent_for_a_day_is_over_and_a_clock_that_is_ahead_is_said():
    place = replace(this_place("/tmp/x"), host="elsewhere")
    old = run(live=place, updated=NOW - SILENCE - 1)
    assert state_of(old, NOW)[0] == "cut-short"
    assert state_of(old, NOW, heard=NOW - 10)[0] == "unknown"
    state, note = state_of(run(live=place, updated=NOW + 3600), NOW)
    assert state == "unknown"
    assert "clock" in note


def test_a_manifest_of_an_older_version_says_only_that_its_process_is_gone():
    here = this_place("/tmp/x")
    old = LivePlace("/tmp/x", here.host, here.pid)
    assert lives(old) is None
    child = subprocess.run([sys.executable, "-c", ""], check=True)
    assert child.returncode == 0
    gone = replace(old, boot=here.boot, namespace=here.namespace, pid=2**22 + 1)
    assert lives(gone) is False
    assert lives(replace(gone, pid=here.pid)) is None


def test_ended_and_closed_later_by_another_scheduler():
    assert state_of(run(ended=NOW), NOW) == ("ended", "")
    assert state_of(run(live=None), NOW)[0] == "cut-short"
