"""A worker's storage by prefix, key by key, and its spilled bytes in slices."""

from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.measure.storage_by_prefix import StorageLedger, largest_rows
from dask_memdash.model.event_parts import StorageRow


def ledger(**keys):
    """Make a ledger of ``key=size``; the prefix is the key's first letter."""
    made = StorageLedger()
    for key, size in keys.items():
        made.store(key, key[0], size)
    return made


def test_what_is_stored_is_summed_by_prefix():
    made = ledger(a1=10, a2=20, b1=5)
    assert made.rows() == {
        "a": StorageRow(2, 30, 0, 0),
        "b": StorageRow(1, 5, 0, 0),
    }
    assert (made.total, made.claimed, made.spilled) == (35, 35, (0, 0))
    assert "a1" in made
    assert "c1" not in made


def test_a_key_that_is_stored_again_counts_with_its_newest_size():
    made = ledger(a1=10)
    made.store("a1", "a", 25)
    assert made.rows() == {"a": StorageRow(1, 25, 0, 0)}
    made.store("a1", "other", 7)
    assert made.rows() == {"other": StorageRow(1, 7, 0, 0)}


def test_released_keys_do_not_count_any_more():
    made = ledger(a1=10, a2=20)
    made.release("a1")
    assert made.rows() == {"a": StorageRow(1, 20, 0, 0)}
    made.release("a2")
    assert (made.rows(), made.total) == ({}, 0)


def test_releasing_what_was_never_stored_changes_nothing():
    made = ledger(a1=10)
    version = made.version
    made.release("b1")
    assert (made.rows(), made.version) == ({"a": StorageRow(1, 10, 0, 0)}, version)


def test_keys_of_no_size_count_as_keys():
    assert ledger(a1=0).rows() == {"a": StorageRow(1, 0, 0, 0)}


def test_spilled_keys_are_taken_from_what_is_claimed_in_ram():
    made = ledger(a1=10, a2=20, b1=5)
    assert made.look_at_spilled({"a2": (20, 8), "b1": (5, 3)})
    assert made.rows() == {
        "a": StorageRow(2, 10, 20, 8),
        "b": StorageRow(1, 0, 5, 3),
    }
    assert (made.claimed, made.spilled) == (10, (25, 11))


def test_spilled_keys_that_were_never_stored_are_not_counted():
    made = ledger(a1=10)
    assert made.look_at_spilled({"ghost": (99, 99)})
    assert (made.rows(), made.spilled) == ({"a": StorageRow(1, 10, 0, 0)}, (0, 0))


def test_spilled_bytes_that_have_become_stale_never_make_ram_negative():
    made = ledger(a1=10, a2=20)
    made.look_at_spilled({"a2": (20, 8)})
    made.release("a2")
    assert made.rows()["a"].claimed == 0
    made.look_at_spilled({})
    assert made.rows() == {"a": StorageRow(1, 10, 0, 0)}


def test_spilled_bytes_of_a_prefix_without_keys_are_not_shown():
    made = ledger(a1=10)
    made.look_at_spilled({"a1": (10, 4)})
    made.release("a1")
    assert made.rows() == {}
    made.store("a2", "a", 7)
    made.look_at_spilled({"a2": (7, 3)})
    assert made.rows() == {"a": StorageRow(1, 0, 7, 3)}


def test_many_spilled_keys_are_looked_at_in_slices(monkeypatch):
    monkeypatch.setattr(StorageLedger, "SLICE", 2)
    made = ledger(a1=1, a2=2, a3=4, a4=8, a5=16)
    sizes = {f"a{n}": (2 ** (n - 1), 1) for n in range(1, 6)}
    assert not made.look_at_spilled(sizes)
    assert made.looking
    assert made.spilled == (0, 0), "shown only when all have been looked at"
    assert not made.look_at_spilled(sizes)
    assert made.look_at_spilled(sizes)
    assert not made.looking
    assert made.spilled == (31, 5)
    assert made.rows() == {"a": StorageRow(5, 0, 31, 5)}


def test_a_look_in_slices_shows_the_spilled_keys_as_they_were_at_its_beginning(
    monkeypatch,
):
    monkeypatch.setattr(StorageLedger, "SLICE", 1)
    made = ledger(a1=1, a2=2)
    assert not made.look_at_spilled({"a1": (1, 1), "a2": (2, 2)})
    assert made.look_at_spilled({})
    assert made.spilled == (3, 3)
    assert made.look_at_spilled({})
    assert made.spilled == (0, 0)


def test_the_version_grows_with_every_change_of_the_rows_only():
    made = ledger(a1=10)
    versions = [made.version]
    made.look_at_spilled({})
    made.look_at_spilled({"ghost": (1, 1)})
    made.release("ghost")
    assert made.version == versions[0]
    for change in (
        lambda: made.store("a2", "a", 1),
        lambda: made.look_at_spilled({"a1": (10, 4)}),
        lambda: made.release("a1"),
    ):
        change()
        versions.append(made.version)
    assert versions == sorted(set(versions))
    made.look_at_spilled({})
    version = made.version
    made.look_at_spilled({})
    assert made.version == version


keys = st.sampled_from(["a1", "a2", "a3", "b1", "b2"])
changes = st.lists(
    st.tuples(st.just("store"), keys, st.integers(0, 100))
    | st.tuples(st.just("release"), keys, st.none())
    | st.tuples(st.just("spill"), st.lists(keys), st.none()),
    max_size=30,
)


@given(changes)
def test_the_rows_sum_to_the_totals_at_every_moment(changes):
    made, real = StorageLedger(), {}
    for what, key, size in changes:
        if what == "store":
            made.store(key, key[0], size)
            real[key] = size
        elif what == "release":
            made.release(key)
            real.pop(key, None)
        else:
            spilled = {k: (real[k], real[k] // 2) for k in key if k in real}
            made.look_at_spilled(spilled)
            rows = made.rows()
            for place in (0, 1):
                assert sum(s[place] for s in spilled.values()) == made.spilled[place]
            assert sum(r.spilled for r in rows.values()) == made.spilled[0]
            assert sum(r.claimed + r.spilled for r in rows.values()) == made.total
        rows = made.rows().values()
        assert sum(row.keys for row in rows) == len(real)
        assert made.total == sum(real.values())
        assert made.claimed == sum(row.claimed for row in rows)
        assert all(min(row) >= 0 for row in rows)


def test_of_too_many_prefixes_the_largest_stay_and_the_others_are_summed():
    rows = {f"p{n}": StorageRow(1, n, 2 * n, n) for n in range(6)}
    kept = largest_rows(rows, most=3)
    assert kept == {
        "p5": StorageRow(1, 5, 10, 5),
        "p4": StorageRow(1, 4, 8, 4),
        "(other prefixes)": StorageRow(4, 6, 12, 6),
    }
    assert largest_rows(rows) == rows
