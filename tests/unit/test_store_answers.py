"""What a person wants to know first, and who holds the memory."""

import fake_store
import pytest
import stories
from builders import A, MiB, added, died, executing, removed, reported
from fake_parts import failure, prefix, worker
from stories import NOW

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import LargestBlock
from dask_memdash.store.answers import (
    change,
    first_sentences,
    standing,
    told_failures,
)
from dask_memdash.store.holders import holders
from dask_memdash.store.live import LiveStore

BLOCK = LargestBlock(300 * MiB, "app/model.py", 42, "fit", "np.ones")


def killer(finished=()):
    """Return the store of a cluster that lost its worker to a task of `fit`."""
    model = ClusterModel()
    task = executing(
        "fit-1", 380 * MiB, block=BLOCK, method="exact", peak=380 * MiB, seconds=9.0
    )
    reading = {"base": 60 * MiB, "live": 380 * MiB, "busy": True}
    last = reported(time=NOW - 30, rss=440 * MiB, reading=reading, executing=(task,))
    for event in (
        added(time=NOW - 60, limit=460 * MiB),
        reported(time=NOW - 50, rss=60 * MiB, reading={"base": 60 * MiB}),
        last,
        removed(time=NOW - 29),
        died(
            time=NOW - 28,
            reading=last.reading,
            executing=(task,),
            signal=15,
            by="nanny",
            samples=tuple((NOW - 60 + n, (60 + 12 * n) * MiB) for n in range(31)),
        ),
        added(time=NOW - 20, pid=101, limit=460 * MiB),
        reported(time=NOW - 10, pid=101, rss=70 * MiB, reading={"base": 60 * MiB}),
        *finished,
    ):
        model.handle(event)
    return LiveStore(model)


# --- what happened --------------------------------------------------------------------


def test_a_death_is_told_with_the_prefix_and_the_line_that_allocated():
    (told,), more = told_failures(killer())
    assert more == 0
    assert told.happened == "A worker died (terminated by its nanny)."
    assert told.prefix == "fit"
    assert told.line == "app/model.py:42 in np.ones"
    assert told.block == 300 * MiB


def test_a_failure_is_told_while_it_is_open_and_some_minutes_after():
    store = fake_store.busy()
    store.all_failures = [
        failure(4, [], closed=NOW - 601),
        failure(3, [], closed=NOW - 600),
        failure(2, [], closed=None),
        failure(1, [], closed=None),
    ]
    told, more = told_failures(store)
    assert [(f.id, f.closed) for f in told] == [
        ("2", None),
        ("1", None),
        ("3", NOW - 600),
    ]
    assert more == 0
    store.all_failures.insert(0, failure(5, [], closed=None))
    told, more = told_failures(store)
    assert [f.id for f in told] == ["5", "2", "1"]
    assert more == 1


@pytest.mark.parametrize(
    ("advice", "line"),
    [
        (
            'Make chunks smaller: `x = x.rechunk("8MiB")`. `fit` works on 64 MiB.',
            'x = x.rechunk("8MiB")',
        ),
        ("`fit` needs much. Use `--memory-limit 1.8GiB`.", "--memory-limit 1.8GiB"),
        ('Give `chunks="4MiB"` to what makes `load`.', 'chunks="4MiB"'),
        (
            'Let Dask join less: `dask.config.set({"array.chunk-size": "4MiB"})`.',
            'dask.config.set({"array.chunk-size": "4MiB"})',
        ),
        ("Start workers with `MALLOC_ARENA_MAX=2`.", "MALLOC_ARENA_MAX=2"),
        ("Restart it: `client.restart_workers([...])`.", ""),
        ("Start workers: `cluster.scale(n)`.", ""),
        ("See to `read-parquet-f00`.", ""),
        ("Use `rm -rf /`.", ""),
        ("Store what is large.", ""),
    ],
)
def test_only_what_can_be_run_as_it_stands_is_to_be_copied(advice, line):
    assert change(advice).line == line
    assert change(advice).text == advice


def test_why_is_the_beginning_of_the_diagnosis():
    assert first_sentences("Cause: too large. 3 MiB of 2. The rest is nothing.") == (
        "Too large. 3 MiB of 2."
    )
    assert first_sentences("Likely cause: 2.5 MiB.") == "Likely cause: 2.5 MiB."


# --- how it stands --------------------------------------------------------------------


def test_headroom_is_of_the_worker_that_is_nearest_to_its_line():
    store = fake_store.busy()
    room = standing(store).headroom
    assert room.worker["name"] == "worker-2"
    assert room.line == "pause"
    assert room.left == room.at - room.worker["breakdown"]["process"]
    off = dict.fromkeys(("target", "spill", "pause", "terminate"))
    for known in store.all_workers:
        known["thresholds"] = off
    assert standing(store).headroom.line == "limit"
    for known in store.all_workers:
        known["limit"] = None
    assert standing(store).headroom is None


def test_the_first_worker_to_be_full_is_the_one_that_is_told():
    store = fake_store.busy()
    full = {"soonest": 1.0, "latest": None, "line": "pause", "bytes": 9, "rate": 1}
    full |= {"grows": "storage", "confidence": 0.9}
    store.all_workers = [
        worker(1, time_to_limit={**full, "seconds": 300.0}),
        worker(2, time_to_limit={**full, "seconds": 40.0}),
        worker(3, time_to_limit=None),
    ]
    known, told = standing(store).soonest
    assert (known["name"], told["seconds"]) == ("worker-2", 40.0)
    assert standing(fake_store.busy()).soonest is None


def test_the_largest_users_are_found_among_many_prefixes():
    store = fake_store.busy()
    stored = [prefix(f"stored-{n}", (900 - n) * MiB) for n in range(200)]
    store.all_prefixes = [*stored, prefix("runs", 0, 50 * MiB), prefix("idle", 0)]
    stands = standing(store)
    assert stands.stores["prefix"] == "stored-0"
    assert stands.executes["prefix"] == "runs"
    store.all_prefixes = [prefix("idle", 0)]
    assert (standing(store).stores, standing(store).executes) == (None, None)
    assert standing(fake_store.empty()).stores is None


# --- who holds it ---------------------------------------------------------------------


def sums(known):
    return (
        sum(row.managed for row in known.rows),
        sum(row.spilled for row in known.rows),
        sum(row.executing for row in known.rows),
    )


@pytest.mark.parametrize("make", [stories.busy, stories.after_incident, killer])
@pytest.mark.parametrize("most", [1, 3, 20])
def test_rows_sum_to_the_cluster_however_few_there_are(make, most):
    store = make()
    whole = store.cluster()["breakdown"]
    known = holders(store, most)
    moved = whole["transfer"] + whole["actors"]
    assert sums(known) == (
        whole["managed"] + moved,
        whole["spilled"] or 0,
        whole["executing"],
    )
    assert known.stored == whole["managed"] + moved
    assert known.executing == whole["executing"]


def test_a_prefix_that_killed_has_a_row_though_none_of_its_tasks_finished():
    many = {f"x{n}": stories.StorageRow(1, MiB, 0, 0) for n in range(5)}
    store = killer([reported(A, 101, time=NOW - 5, rss=90 * MiB, rows=many)])
    known = holders(store, 3)
    row = next(row for row in known.rows if row.name == "fit")
    assert row.blame.deaths == 1
    assert row.prefix["execution"]["finished"] == 0
    assert row.prefix["execution"]["peak"]["at_least"] >= 380 * MiB
    assert (row.managed, row.spilled, row.executing) == (0, 0, 0)


def test_deaths_of_one_prefix_in_several_failures_are_counted_together():
    store = fake_store.failing(3)
    (row,) = [row for row in holders(store).rows if row.blame is not None]
    assert (row.name, row.blame.deaths, row.blame.failure) == ("rechunk-split", 9, "3")


def test_deaths_of_prefixes_without_a_row_stand_beside_the_smaller_ones():
    store = fake_store.busy()
    store.all_prefixes = [prefix(f"p{n}", (20 - n) * MiB) for n in range(20)]
    killers = ["p1", *(f"p{n}" for n in range(10, 17))]
    store.all_failures = [
        failure(n, [], responsible={"prefix": name, "key": None}, deaths=n)
        for n, name in enumerate(killers, 1)
    ]
    rows = holders(store, 3).rows
    assert [row.name for row in rows if row.blame] == ["p1", "p10", "p11", "p12", ""]
    (others,) = [row for row in rows if row.kind == "smaller"]
    assert (others.number, others.blame.deaths) == (14, 5 + 6 + 7 + 8)
    assert others.blame.failure == "5"


def test_nothing_is_held_before_the_first_report():
    known = holders(fake_store.empty())
    assert (known.rows, known.stored, known.executing) == ((), None, None)
