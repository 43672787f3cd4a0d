"""What a store holds, who deletes what, and the command line over it."""

from __future__ import annotations

import json
import os
import time

import dask
import pytest
from click.testing import CliRunner

from dask_memdash import FSMemory, open_persisted, persist
from dask_memdash.cli.main import main
from dask_memdash.errors import MissingError, StorageError
from dask_memdash.intermediates import inventory
from dask_memdash.intermediates.inventory import collect, remove, take_stock, verify

da = pytest.importorskip("dask.array")

DAY = 86_400.0


@pytest.fixture(autouse=True)
def local_scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def memory(tmp_path):
    return FSMemory(tmp_path / "store")


def ones(size):
    return da.ones(size, chunks=10)


def files(memory, folder="objects"):
    return sorted(path.name for path in (memory.local_root / folder).iterdir())


def age(memory, days):
    """Make all that is stored older."""
    for path in memory.local_root.rglob("*"):
        then = path.stat().st_mtime - days * DAY
        os.utime(path, (then, then))


def run(memory, *arguments, status=0, **options):
    command = ["storage", *arguments, "--url", memory.url]
    done = CliRunner().invoke(main, command, **options)
    assert done.exit_code == status, done.output
    return done.output


# -- stock -----------------------------------------------------------------------


def test_stock_tells_names_sizes_and_what_nobody_needs(memory):
    persist(ones(20), memory=memory, name="two")
    persist(ones(30), memory=memory, name="three", compute=False)
    (memory.local_root / "objects" / ("a" * 40)).write_bytes(b"12345")
    stock = take_stock(memory)
    two, three = stock.sets
    assert (two.name, two.finished, two.objects, two.stored) == ("two", True, 2, 2)
    assert (three.name, three.finished, three.objects, three.stored) == (
        *("three", False, 3, 0),
    )
    assert [entry.size for entry in stock.unpinned] == [5]
    assert stock.objects == 3
    assert stock.bytes == two.bytes + 5


def test_a_damaged_manifest_is_listed_as_such(memory):
    persist(ones(20), memory=memory, name="two")
    (memory.local_root / "names/two").write_bytes(b"nonsense and more of it")
    (two,) = take_stock(memory).sets
    assert two.facts is None
    assert "damaged" in two.error
    assert "two   damaged" in run(memory, "ls")


# -- removal -----------------------------------------------------------------------


def test_removing_a_name_leaves_what_other_names_need(memory):
    x = ones(20)
    persist(x, memory=memory, name="small")
    persist(x, x + 1, memory=memory, name="large")
    assert len(files(memory)) == 4
    removal = remove(memory, "large")
    assert (removal.objects, len(files(memory))) == (2, 2)
    assert open_persisted(memory, "small").sum().compute() == 20
    with pytest.raises(MissingError):
        remove(memory, "large")


def test_a_dry_run_deletes_nothing_and_says_the_same(memory):
    persist(ones(20), memory=memory, name="x")
    before = sorted(memory.local_root.rglob("*"))
    dry = remove(memory, "x", dry_run=True)
    assert sorted(memory.local_root.rglob("*")) == before
    assert dry == remove(memory, "x")
    assert files(memory) == []


# -- garbage -----------------------------------------------------------------------


def test_garbage_is_what_nobody_needs_and_is_old(memory):
    persist(ones(20), memory=memory, name="kept")
    persist(ones(30), memory=memory, name="gone")
    (memory.local_root / "names/gone").unlink()
    assert collect(memory, 7 * DAY).objects == 0
    age(memory, 8)
    assert collect(memory, 7 * DAY).objects == 3
    assert open_persisted(memory, "kept").sum().compute() == 20
    assert len(files(memory)) == 2


def test_a_computation_that_runs_keeps_its_chunks_and_an_abandoned_one_does_not(memory):
    persist(ones(20), memory=memory, name="x")
    (memory.local_root / "names/x").unlink()
    age(memory, 8)
    persist(ones(30), ones(20), memory=memory, name="running", compute=False)
    assert collect(memory, 7 * DAY).objects == 0
    age(memory, 8)
    removal = collect(memory, 7 * DAY)
    assert removal.names == ["running"]
    assert removal.objects == 2
    assert files(memory, "drafts") == []


def test_leftovers_of_killed_writes_go_when_they_are_old(memory):
    persist(ones(20), memory=memory, name="x")
    left = memory.local_root / "objects/.unfinished-1-abc"
    left.write_bytes(b"123")
    assert collect(memory, 0.0).leftovers == 0
    age(memory, 1)
    assert collect(memory, 60.0, dry_run=True).leftovers == 1
    assert left.exists()
    removal = collect(memory, 60.0)
    assert (removal.leftovers, removal.bytes) == (1, 3)
    assert not left.exists()


def test_nothing_is_deleted_while_a_manifest_cannot_be_read(memory):
    persist(ones(20), memory=memory, name="x")
    persist(ones(30), memory=memory, name="y")
    (memory.local_root / "names/x").write_bytes(b"nonsense and more of it")
    age(memory, 30)
    for call in (lambda: collect(memory, 1.0), lambda: remove(memory, "y")):
        with pytest.raises(StorageError, match="dask memdash storage rm x"):
            call()
    assert len(files(memory)) == 5
    remove(memory, "x")
    assert collect(memory, 1.0).objects == 2


def test_what_somebody_begins_to_use_meanwhile_stays(memory, monkeypatch):
    persist(ones(20), memory=memory, name="x")
    (memory.local_root / "names/x").unlink()
    age(memory, 8)
    real = inventory._delete

    def late(memory, doomed):
        persist(ones(20), memory=memory, name="again", compute=False)
        real(memory, doomed)

    monkeypatch.setattr(inventory, "_delete", late)
    collect(memory, DAY)
    assert len(files(memory)) == 2


def test_an_object_whose_age_is_not_told_stays(memory, monkeypatch):
    persist(ones(20), memory=memory, name="x")
    (memory.local_root / "names/x").unlink()
    real = memory.list
    monkeypatch.setattr(
        memory,
        "list",
        lambda prefix="": (
            inventory.Entry(entry.name, entry.size, None) for entry in real(prefix)
        ),
    )
    assert collect(memory, 0.0, now=lambda: time.time() + 99 * DAY).objects == 0


# -- verification --------------------------------------------------------------------


def test_verify_reads_all_and_names_what_is_wrong(memory):
    persist(ones(40), memory=memory, name="x")
    assert verify(memory) == (4, [])
    flipped, swapped, gone, whole = files(memory)
    folder = memory.local_root / "objects"
    content = bytearray((folder / flipped).read_bytes())
    content[-1] ^= 1
    (folder / flipped).write_bytes(content)
    (folder / swapped).write_bytes((folder / whole).read_bytes())
    (folder / gone).unlink()
    read, problems = verify(memory, "x")
    assert read == 4
    said = {p.object_name.removeprefix("objects/"): p.message for p in problems}
    assert set(said) == {flipped, swapped, gone}
    assert "is damaged: the checksum of frame 1 of 1" in said[flipped]
    assert "is another key's object" in said[swapped]
    assert "It was deleted" in said[gone]


# -- command line ----------------------------------------------------------------------


def test_ls_is_a_table(memory):
    persist(ones(20), memory=memory, name="two")
    lines = run(memory, "ls").splitlines()
    head = ["name", "state", "chunks", "size", "written", "by", "holds"]
    assert lines[0].split() == head
    assert lines[1].split()[:3] == ["two", "stored", "2"]
    assert lines[1].endswith("Array (20,) of float64")
    assert lines[3].startswith("2 chunks, ")


def test_ls_of_nothing(memory):
    memory.create()
    assert run(memory, "ls").splitlines()[0] == "Nothing here has a name."


def test_ls_as_json(memory):
    persist(ones(20), memory=memory, name="two")
    found = json.loads(run(memory, "ls", "--json"))
    assert found["objects"] == 2
    (two,) = found["sets"]
    assert (two["name"], two["state"], two["stored_objects"]) == ("two", "stored", 2)
    assert two["facts"]["collections"] == ["Array (20,) of float64"]


def test_show_tells_all(memory):
    persist(ones(20), memory=memory, name="two")
    output = run(memory, "show", "two")
    for words in ("state       stored", "2 of 2 are there", "python 3.", "dask 20"):
        assert words in output
    (found,) = json.loads(run(memory, "show", "two", "--json"))
    assert found["name"] == "two"


def test_rm_asks_first(memory):
    persist(ones(20), memory=memory, name="x")
    output = run(memory, "rm", "x", input="n\n", status=1)
    assert "Delete the name x and 2 chunks" in output
    assert files(memory, "names") == ["x"]
    run(memory, "rm", "x", input="y\n")
    assert files(memory) == []


def test_rm_and_gc_as_json_without_asking(memory):
    persist(ones(20), memory=memory, name="x")
    dry = json.loads(run(memory, "rm", "x", "--dry-run", "--json"))
    assert (dry["deleted"], dry["objects"]) == (False, 2)
    done = json.loads(run(memory, "rm", "x", "--yes", "--json"))
    assert (done["deleted"], done["objects"]) == (True, 2)
    output = run(memory, "gc", "--ttl", "1s", "--yes")
    assert output == "There is nothing to delete.\n"


def test_gc_asks_first(memory):
    persist(ones(20), memory=memory, name="x")
    (memory.local_root / "names/x").unlink()
    age(memory, 8)
    assert "Would delete 2 chunks" in run(memory, "gc", "--dry-run")
    assert len(files(memory)) == 2
    assert "Delete 2 chunks" in run(memory, "gc", input="n\n", status=1)
    assert "Deleted 2 chunks" in run(memory, "gc", input="y\n")
    assert files(memory) == []


def test_verify_has_an_exit_status(memory):
    persist(ones(20), memory=memory, name="x")
    assert run(memory, "verify") == "2 chunks read; nothing is damaged.\n"
    (memory.local_root / "objects" / files(memory)[0]).unlink()
    assert "1 problem:" in run(memory, "verify", "x", status=1)
    found = json.loads(run(memory, "verify", "--json", status=1))
    assert len(found["problems"]) == 1


def test_the_address_may_come_from_the_environment(memory):
    memory.create()
    done = CliRunner().invoke(
        main, ["storage", "ls"], env={"DASK_MEMDASH__STORAGE__URL": memory.url}
    )
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ls", "--url", "/nowhere/at/all"], "there is no store at"),
        (["ls", "--url", "nosuch://x"], "no address of a store"),
        (["ls", "--url", "memory://x", "--storage-options", "{"], "is no JSON"),
        (["ls", "--url", "memory://x", "--storage-options", "[]"], "no JSON object"),
        (["gc", "--url", "memory://x", "--ttl", "soon"], "is no age"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, said):
    done = CliRunner().invoke(main, ["storage", *arguments])
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert said in line


def test_names_and_texts_of_others_are_harmless_in_a_terminal(memory, monkeypatch):
    monkeypatch.setenv("LOGNAME", "evil\x1b[2J")
    persist(ones(20), memory=memory, name="x")
    assert "\x1b" not in run(memory, "ls") + run(memory, "show", "x")
