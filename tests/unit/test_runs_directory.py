"""A directory of runs: manifests, names of segments, and what is damaged in it."""

import json

import pytest

from dask_memdash.errors import RunError
from dask_memdash.runs.directory import (
    MANIFEST,
    LivePlace,
    Manifest,
    Segment,
    clean_tags,
    closed_name,
    is_run_id,
    live_kind,
    live_name,
    live_segments,
    new_run_id,
    read_manifest,
    runs_in,
    segment_of,
    write_manifest,
)


def manifest(**changes):
    values = {
        "id": "20261129-071500-0a1b2c",
        "started": 1_796_000_000.0,
        "name": "nightly",
        "tags": {"branch": "main"},
        "summary": {"workers": 2, "most_memory": None},
        "segments": [Segment("0001-main.sqlite", "main", 1.0, 2.0, 4096)],
        "live": LivePlace("/tmp/x", "here", 42),
    }
    return Manifest(**{**values, **changes})


def test_a_manifest_is_written_and_read(tmp_path):
    write_manifest(tmp_path, manifest())
    assert read_manifest(tmp_path) == manifest()
    assert (tmp_path / MANIFEST).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_manifest(tmp_path, manifest())
    with pytest.raises(TypeError):
        write_manifest(tmp_path, manifest(name=object()))
    assert read_manifest(tmp_path) == manifest()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "damaged"),
        ("[" * 100_000, "damaged"),
        ("{}", "not the manifest"),
        ("[]", "not the manifest"),
        (json.dumps({**manifest().to_dict(), "version": 99}), "newer"),
        (json.dumps({**manifest().to_dict(), "segments": [{"name": "x"}]}), "damaged"),
        (json.dumps({**manifest().to_dict(), "segments": 7}), "damaged"),
        (json.dumps({**manifest().to_dict(), "started": None}), "damaged"),
        (
            json.dumps(manifest(segments=[Segment("../x", "main", 1, 2, 3)]).to_dict()),
            "impossible",
        ),
    ],
)
def test_a_manifest_that_is_none_is_an_error_that_names_the_file(
    tmp_path, content, why
):
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(RunError, match=why) as caught:
        read_manifest(tmp_path)
    assert str(tmp_path / MANIFEST) in str(caught.value)


def test_what_a_later_version_adds_is_ignored(tmp_path):
    values = {**manifest().to_dict(), "weather": "fine"}
    values["segments"][0]["colour"] = "blue"
    (tmp_path / MANIFEST).write_text(json.dumps(values))
    assert read_manifest(tmp_path) == manifest()


def test_names_of_segments():
    assert closed_name(7, "main") == "0007-main.sqlite"
    assert segment_of("0007-main.sqlite") == (7, "main")
    assert segment_of("12345-s10.sqlite") == (12345, "s10")
    assert segment_of("0007-main.sqlite-wal") is None
    assert segment_of("live-main.sqlite") is None
    assert live_name("s1") == "live-s1.sqlite"
    assert live_kind("live-s1.sqlite") == "s1"
    assert live_kind("live-s1.sqlite-shm") is None


def test_ids_of_runs_sort_by_time_and_are_names_of_directories():
    early, late = new_run_id(0.0), new_run_id(1_796_000_000.0)
    assert early.startswith("19700101-000000-")
    assert early < late
    assert is_run_id(early)
    assert not is_run_id("../../etc")


def test_a_directory_lists_its_runs_and_what_is_wrong_with_one(tmp_path):
    good, bad, other = (tmp_path / name for name in (new_run_id(1), new_run_id(2), "x"))
    for path in (good, bad, other):
        path.mkdir()
    write_manifest(good, manifest())
    (bad / MANIFEST).write_text("{")
    found = {entry.path: entry for entry in runs_in(tmp_path)}
    assert set(found) == {str(good), str(bad)}
    assert found[str(good)].manifest == manifest()
    assert str(bad / MANIFEST) in found[str(bad)].error
    assert [entry.manifest for entry in runs_in(good)] == [manifest()]


def test_a_directory_that_is_none_is_an_error(tmp_path):
    with pytest.raises(RunError, match="cannot be listed"):
        list(runs_in(tmp_path / "missing"))


def test_live_segments_are_found_here_and_where_the_manifest_says(tmp_path):
    run, spool = tmp_path / "run", tmp_path / "spool"
    run.mkdir(), spool.mkdir()
    (run / "live-main.sqlite").touch()
    (spool / "live-s1.sqlite").touch()
    found = live_segments(manifest(live=LivePlace(str(spool), "here", 1)), run)
    assert found == {"main": run / "live-main.sqlite", "s1": spool / "live-s1.sqlite"}
    assert set(live_segments(manifest(live=None), run)) == {"main"}


def test_tags_are_short_texts():
    tags = clean_tags({"n": 1, "long": "x" * 1000, **{f"t{i}": i for i in range(100)}})
    assert tags["n"] == "1"
    assert len(tags["long"]) == 200
    assert len(tags) == 50
    assert clean_tags(None) == {}
