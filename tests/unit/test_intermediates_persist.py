"""persist and open_persisted with Dask's local scheduler: kinds, names, manifests."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
import warnings

import dask
import pytest

import dask_memdash
from dask_memdash import FSMemory, open_persisted
from dask_memdash.errors import (
    CorruptError,
    MissingError,
    NameTakenError,
    StorageError,
    UntrustedError,
)
from dask_memdash.intermediates import manifest, names
from dask_memdash.intermediates.unstable import UnstableKeysWarning

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
db = pytest.importorskip("dask.bag")

RUNS: list[int] = []


@pytest.fixture(autouse=True)
def local_scheduler():
    RUNS.clear()
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def memory(tmp_path):
    return FSMemory(tmp_path / "store")


def persist(*collections, **options):
    return dask_memdash.persist(*collections, **options)


def counted(block):
    RUNS.append(1)
    return block * 2


def numbers(size=40, chunk=10):
    return da.arange(size, chunks=chunk).map_blocks(counted, dtype="i8", meta=meta())


def meta():
    return np.empty(0, dtype="i8")


def runs():
    found = len(RUNS)
    RUNS.clear()
    return found


# -- kinds of collections ------------------------------------------------------


def test_an_array_is_stored_and_opened_with_nothing_computed(memory):
    x = numbers()
    y = persist(x, memory=memory, name="doubled")
    assert runs() == 4
    for found in (y, open_persisted(memory, "doubled")):
        assert type(found) is da.Array
        assert found.chunks == ((10, 10, 10, 10),)
        assert found.dtype == "i8"
        assert found.compute().tolist() == list(range(0, 80, 2))
        assert (found[15:25] + 1).sum().compute() == 400
    assert runs() == 0


def test_the_same_thing_again_is_loaded(memory):
    persist(numbers(), memory=memory, name="doubled")
    runs()
    again = persist(numbers(), memory=memory, name="doubled")
    assert again.sum().compute() == 1560
    other = persist(numbers(), memory=memory, name="other")
    assert other.sum().compute() == 1560
    assert runs() == 0


def test_what_is_there_already_is_adopted_key_by_key(memory):
    persist(numbers(), memory=memory, name="doubled")
    runs()
    gone = sorted((memory.local_root / "objects").iterdir())[1:3]
    for path in gone:
        path.unlink()
    assert persist(numbers(), memory=memory, name="doubled").sum().compute() == 1560
    assert runs() == 2


def where(collection, chosen):
    return collection[chosen(collection)]


ARRAYS = {
    "0-d": lambda: da.from_array(np.array(3.5)),
    "no rows": lambda: da.zeros((0, 3), chunks=(0, 3)),
    "unknown sizes": lambda: where(da.arange(9, chunks=4), lambda x: x > 3),
    "objects": lambda: da.from_array(np.array(["a", None], dtype=object), chunks=1),
    "masked": lambda: da.ma.masked_greater(da.arange(6, chunks=3), 3),
    "one chunk": lambda: da.ones(5),
    "rechunked": lambda: da.arange(16, chunks=4).reshape(4, 4).rechunk((2, 2)),
}


@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_of_every_kind_come_back(memory, make):
    expected = make().compute()
    y = persist(make(), memory=memory, name="x")
    for found in (y, open_persisted(memory, "x")):
        value = found.compute()
        assert type(value) is type(expected)
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


def table():
    return pd.DataFrame(
        {
            "a": range(12),
            "b": list("abcdef") * 2,
            "c": pd.Categorical(list("uv") * 6),
            "d": pd.date_range("2020-01-01", periods=12),
        }
    )


def parts():
    return dd.from_pandas(table(), npartitions=3)


FRAMES = {
    "whole": lambda: parts().copy(),
    "empty partitions": lambda: where(parts(), lambda f: f.a > 9),
    "nothing left": lambda: where(parts(), lambda f: f.a > 99),
    "one column": lambda: parts().b,
    "an index": lambda: parts().index,
    "a projection": lambda: parts()[["a", "c"]],
    "no divisions": lambda: dd.from_pandas(table(), 2).clear_divisions(),
    "grouped": lambda: parts().groupby("b").sum(numeric_only=True),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES.keys())
def test_frames_of_every_kind_come_back(memory, make):
    y = persist(make(), memory=memory, name="t")
    for found in (y, open_persisted(memory, "t")):
        assert type(found) is type(make())
        assert found.divisions == make().optimize().divisions
        dd.utils.assert_eq(found, make().compute(), check_divisions=False)


def test_a_scalar_of_a_frame_comes_back(memory):
    total = dd.from_pandas(table(), npartitions=3).a.sum()
    y = persist(total, memory=memory, name="total")
    assert y.compute() == 66
    assert open_persisted(memory, "total").compute() == 66


def add(a, b):
    RUNS.append(1)
    return a + b


def test_bags_items_and_delayed_come_back(memory):
    bag = db.from_sequence(range(10), npartitions=3).map(add, 1)
    delayed = dask.delayed(add, pure=True)(1, 2)
    pair = dask.delayed(divmod, pure=True, nout=2)(17, 5)
    persist(bag, bag.sum(), delayed, pair, memory=memory, name="four")
    runs()
    found = open_persisted(memory, "four")
    assert found[0].compute() == list(range(1, 11))
    assert found[1].compute() == 55
    assert found[2].compute() == 3
    assert [part.compute() for part in found[3]] == [3, 2]
    assert found[0].map(add, 1).sum().compute() == 65
    assert runs() == 10


def test_a_delayed_of_none_and_of_containers_come_back(memory):
    nothing = dask.delayed(print, pure=True)(end="")
    mixed = dask.delayed(dict, pure=True)(a=[np.arange(3), None], b="x")
    persist(nothing, mixed, memory=memory, name="odd")
    found = open_persisted(memory, "odd")
    assert found[0].compute() is None
    value = found[1].compute()
    assert value["a"][0].tolist() == [0, 1, 2]
    assert value["b"] == "x"


def test_the_same_collection_twice_is_stored_once(memory):
    x = numbers()
    one, two = persist(x, x, memory=memory, name="twice")
    assert one.sum().compute() == two.sum().compute() == 1560
    assert runs() == 4


def test_a_collection_and_what_is_made_of_it(memory):
    x = numbers()
    persist(x, (x + 1).rechunk(20), memory=memory, name="both")
    assert runs() == 4
    x, z = open_persisted(memory, "both")
    assert (x.sum().compute(), z.sum().compute()) == (1560, 1600)


def test_xarray_comes_back_with_all_that_is_around_the_arrays(memory):
    xarray = pytest.importorskip("xarray")
    dataset = xarray.Dataset(
        {
            "t": (("y", "x"), da.ones((4, 6), chunks=2), {"units": "K"}),
            "eager": ("x", np.arange(6)),
            "n": ((), da.from_array(np.array(7))),
        },
        coords={"y": [1, 2, 3, 4], "lon": ("x", da.arange(6, chunks=3))},
        attrs={"title": "made"},
    )
    dataset.t.encoding["dtype"] = "f4"
    y = persist(dataset, memory=memory, name="set")
    for found in (y, open_persisted(memory, "set")):
        xarray.testing.assert_identical(found.compute(), dataset.compute())
        assert list(found.data_vars) == ["t", "eager", "n"]
        assert found.t.chunks == ((2, 2), (2, 2, 2))
        assert found.t.encoding == {"dtype": "f4"}
    array = persist(dataset.t, memory=memory, name="array")
    for found in (array, open_persisted(memory, "array")):
        xarray.testing.assert_identical(found.compute(), dataset.t.compute())
    variable = persist(dataset.t.variable, memory=memory, name="variable")
    assert variable.compute().identical(dataset.t.variable.compute())


def test_what_cannot_be_stored_is_said(memory):
    with pytest.raises(StorageError, match="this is of type list"):
        persist([1, 2], memory=memory)
    with pytest.raises(StorageError, match="at least one collection"):
        persist(memory=memory)
    xarray = pytest.importorskip("xarray")
    with pytest.raises(StorageError, match="nothing to compute"):
        persist(xarray.Dataset({"a": 1}), memory=memory)


def test_nothing_is_computed_until_asked(memory):
    later = persist(numbers(), memory=memory, name="later", compute=False)
    assert runs() == 0
    with pytest.raises(MissingError, match=r"not finished: 0 of 4 chunks \(0 %\)"):
        open_persisted(memory, "later")
    assert later.compute() == "later"
    assert runs() == 4
    assert open_persisted(memory, "later").sum().compute() == 1560
    assert runs() == 0


def test_without_a_name_one_is_made_from_the_keys(memory):
    persist(numbers(), memory=memory)
    persist(numbers(), memory=memory)
    (entry,) = memory.list("names/")
    assert entry.name.startswith("names/counted-")
    assert runs() == 4


def test_the_graph_need_not_be_optimized(memory):
    x = (numbers() + 1)[:20]
    y = persist(x, memory=memory, name="x", optimize_graph=False)
    assert y.sum().compute() == 400


# -- names ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/b", ".hidden", "-x", "a b", "é", "a\0", "x" * 101, 5, None],
)
def test_names_are_checked(memory, name):
    if name is not None:
        with pytest.raises(StorageError, match="no name for stored collections"):
            persist(numbers(), memory=memory, name=name)
    with pytest.raises(StorageError, match="no name for stored collections"):
        open_persisted(memory, name)


def test_another_thing_under_the_same_name_asks(memory):
    persist(numbers(), memory=memory, name="x")
    with pytest.raises(NameTakenError) as caught:
        persist(numbers(60), memory=memory, name="x")
    message = str(caught.value)
    assert "'x' in file://" in message
    assert "holds something else: Array (40,) of int64, by" in message
    assert "Take another name, or overwrite=True" in message
    assert open_persisted(memory, "x").shape == (40,)
    persist(numbers(60), memory=memory, name="x", overwrite=True)
    assert open_persisted(memory, "x").shape == (60,)


def test_of_two_writers_of_one_name_the_second_gets_an_error_at_once(memory):
    first = persist(numbers(), memory=memory, name="x", compute=False)
    with pytest.raises(NameTakenError, match="is being given to something else"):
        persist(numbers(60), memory=memory, name="x")
    first.compute()
    assert open_persisted(memory, "x").shape == (40,)


def test_a_writer_that_was_overtaken_is_told_and_changes_nothing(memory):
    first = persist(numbers(), memory=memory, name="x", compute=False)
    persist(numbers(60), memory=memory, name="x", overwrite=True)
    with pytest.raises(NameTakenError):
        first.compute()
    assert open_persisted(memory, "x").shape == (60,)


def test_two_writers_of_the_same_thing_both_succeed(memory):
    first = persist(numbers(), memory=memory, name="x", compute=False)
    second = persist(numbers(), memory=memory, name="x", compute=False)
    assert first.compute() == second.compute() == "x"
    assert open_persisted(memory, "x").sum().compute() == 1560


def test_a_set_whose_objects_go_while_it_is_stored_gets_no_name(memory, monkeypatch):
    real = names.stored_ids
    looks = []

    def lose(memory):
        looks.append(1)
        found = real(memory)
        if len(looks) == 2:
            found.popitem()
        return found

    monkeypatch.setattr(names, "stored_ids", lose)
    with pytest.raises(StorageError, match="1 object of 4 went while"):
        persist(numbers(), memory=memory, name="x")
    assert [entry.name for entry in memory.list("names/")] == []


def test_a_set_is_opened_once_it_is_whole_even_before_it_has_its_name(
    memory, monkeypatch
):
    """As between the last chunk and the name, or if the client is killed there."""
    monkeypatch.setattr(names, "finish", lambda *_: None)
    monkeypatch.setattr(dask_memdash.intermediates.persisting, "_loaded", id)
    with pytest.raises(AttributeError):
        persist(numbers(), memory=memory, name="x")
    assert memory.exists("drafts/x")
    assert not memory.exists("names/x")
    assert open_persisted(memory, "x").sum().compute() == 1560


def test_a_name_that_is_not_there_says_which_are(memory):
    persist(numbers(), memory=memory, name="alpha")
    persist(numbers(), memory=memory, name="beta")
    with pytest.raises(MissingError, match="there are alpha, beta"):
        open_persisted(memory, "gamma")


# -- code and versions ---------------------------------------------------------


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of the user's own, and import it anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source):
        (tmp_path / "users_module.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        sys.modules.pop("users_module", None)
        import linecache

        linecache.clearcache()
        return importlib.import_module("users_module")

    yield write
    sys.modules.pop("users_module", None)


SOURCE = """
FACTOR = 2
def helper(block):
    return block * FACTOR
def work(block):
    return helper(block) + 1
"""


def worked(module):
    return da.arange(4, chunks=2).map_blocks(module.work, dtype="i8", meta=meta())


def test_a_changed_function_is_an_error_that_names_it(memory, module):
    persist(worked(module(SOURCE)), memory=memory, name="x")
    changed = worked(module(SOURCE.replace("+ 1", "+ 5")))
    with pytest.raises(NameTakenError) as caught:
        persist(changed, memory=memory, name="x")
    assert "Functions changed: users_module.work." in str(caught.value)
    trusted = persist(changed, memory=memory, name="x", trust_keys=True)
    assert trusted.compute().tolist() == [1, 3, 5, 7]
    anew = persist(changed, memory=memory, name="x", overwrite=True)
    assert anew.compute().tolist() == [5, 7, 9, 11]


@pytest.mark.parametrize(
    ("old", "new"),
    [("* FACTOR", "* FACTOR * 1"), ("FACTOR = 2", "FACTOR = 3")],
    ids=["a function that it calls", "a constant"],
)
def test_what_a_function_names_counts_too(memory, module, old, new):
    persist(worked(module(SOURCE)), memory=memory, name="x")
    changed = worked(module(SOURCE.replace(old, new)))
    with pytest.raises(NameTakenError, match=r"users_module\.helper"):
        persist(changed, memory=memory, name="x")


def test_comments_layout_and_docstrings_do_not_count(memory, module):
    persist(worked(module(SOURCE)), memory=memory, name="x")
    same = SOURCE.replace(
        "def work(block):", 'def work(\n    block,  # comment\n):\n    """Words."""'
    )
    y = persist(worked(module(same)), memory=memory, name="x")
    assert y.compute().tolist() == [1, 3, 5, 7]


def test_changed_source_is_not_adopted_under_another_name_either(memory, module):
    persist(worked(module(SOURCE)), memory=memory, name="old")
    changed = worked(module(SOURCE.replace("+ 1", "+ 5")))
    y = persist(changed, memory=memory, name="new")
    assert y.compute().tolist() == [5, 7, 9, 11]


def test_another_version_of_the_users_own_asks(tmp_path):
    persist(numbers(), memory=FSMemory(tmp_path / "s", version="1"), name="x")
    second = FSMemory(tmp_path / "s", version="2")
    with pytest.raises(NameTakenError, match=r"version '1' of this.*version is '2'"):
        persist(numbers(), memory=second, name="x")
    runs()
    persist(numbers(), memory=second, name="x", overwrite=True)
    assert runs() == 4


# -- unstable keys -------------------------------------------------------------


def test_random_numbers_without_a_seed_are_named(memory):
    x = da.random.default_rng().random(4, chunks=2)
    with pytest.warns(UnstableKeysWarning, match="`random` draws random numbers"):
        persist(x, memory=memory, name="x")


def test_impure_delayed_is_named(memory):
    value = dask.delayed(add, pure=False)(1, 2)
    with pytest.warns(UnstableKeysWarning, match="`add` has a random key"):
        persist(value, memory=memory, name="x")


def test_stable_keys_are_not_warned_of(memory):
    x = da.random.default_rng(7).random(4, chunks=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        persist(x, numbers(), dd.from_pandas(table(), 2), memory=memory, name="x")


# -- trust and damage ----------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A store whose directories above are nobody else's."""
    tmp_path.chmod(0o755)
    memory = FSMemory(tmp_path / "store")
    persist(numbers(), memory=memory, name="x")
    return memory


@pytest.mark.parametrize(
    ("path", "mode", "said"),
    [
        ("", 0o777, "everybody"),
        ("names", 0o770, "its group"),
        ("names/x", 0o666, "everybody"),
        ("objects", 0o722, "everybody"),
        ("..", 0o777, "everybody"),
    ],
)
def test_a_store_that_others_can_write_to_is_not_opened(home, path, mode, said):
    (home.local_root / path).chmod(mode)
    with pytest.raises(UntrustedError, match=f"can be written to by {said}") as caught:
        open_persisted(home, "x")
    assert f"pid {os.getpid()}" in str(caught.value).replace("process", "pid")
    assert open_persisted(home, "x", trust=True).sum().compute() == 1560


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_manifest_of_another_user_is_not_opened(home):
    os.chown(home.local_root / "names/x", 65534, 65534)
    with pytest.raises(UntrustedError, match="belongs to nobody"):
        open_persisted(home, "x")


def test_no_code_of_a_manifest_runs_before_the_look(home, monkeypatch):
    home.local_root.chmod(0o777)

    def never(*_):
        raise AssertionError("unpickled")

    monkeypatch.setattr(manifest.cloudpickle, "loads", never)
    with pytest.raises(UntrustedError):
        open_persisted(home, "x")


def test_a_damaged_manifest_is_noticed_wherever_it_is_damaged(memory):
    persist(numbers(), memory=memory, name="x")
    path = memory.local_root / "names/x"
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(CorruptError):
            open_persisted(memory, "x", trust=True)
    path.write_bytes(whole)
    (memory.local_root / "names/y").write_bytes(whole)
    with pytest.raises(CorruptError, match="no manifest of that name"):
        open_persisted(memory, "y", trust=True)


def test_damaged_and_swapped_chunks_are_noticed_when_they_are_read(memory):
    persist(numbers(), memory=memory, name="x")
    first, second, third, fourth = sorted((memory.local_root / "objects").iterdir())
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(CorruptError, match="is the object of"):
        open_persisted(memory, "x").compute()
    first.write_bytes(kept)
    third.write_bytes(third.read_bytes()[:-1])
    with pytest.raises(CorruptError, match=rf"{third.name}.*is damaged"):
        open_persisted(memory, "x").compute()
    third.unlink()
    with pytest.raises(MissingError, match=third.name):
        open_persisted(memory, "x").compute()
    assert fourth.exists()


def test_facts_can_be_read_with_msgpack_alone(memory):
    import msgpack

    from dask_memdash.intermediates.object_format import check

    persist(numbers(), memory=memory, name="x")
    content = (memory.local_root / "names/x").read_bytes()
    header, (facts, _) = check(content, "names/x", "here")
    assert header["type"] == "memdash-manifest"
    read = msgpack.unpackb(facts)
    assert read["name"] == "x"
    assert read["collections"] == ["Array (40,) of int64"]
    assert len(read["objects"]) == 4
    assert "dask" in read["versions"]
