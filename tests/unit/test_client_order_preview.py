"""``dask_memdash.order``: what a collection needs, before anything runs."""

import re

import dask
import dask.array as da
import pytest
from dask.delayed import delayed

import dask_memdash
from dask_memdash.analysis.order.preflight import Space
from dask_memdash.client import size_estimates
from dask_memdash.client.planned_graph import PreviewError
from dask_memdash.client.preflight import Known

KB = 1000


def passed_on(x, *more):
    return x


@pytest.fixture
def chains():
    """Make two chains that meet: load, cut, load, cut, join."""

    def task(name, *needs):
        return delayed(passed_on, pure=False)(*needs, dask_key_name=name)

    cuts = [task(f"cut-{n}", task(f"load-{n}", n)) for n in (1, 2)]
    return task("join-1", *cuts)


SIZES = {"load": "10 kB", "cut": 2 * KB, "join": 1 * KB}


def test_sizes_that_are_told_give_the_minimum(chains):
    order = dask_memdash.order(chains, sizes=SIZES, threads=2)
    assert order.tasks == 5
    assert (order.minimum, order.minimum_position) == (14 * KB, 4)
    assert order.minimum_threads == 22 * KB
    assert order.uncertainty == 0
    assert order.held == {"load": 10 * KB, "cut": 4 * KB}
    assert order.what_if["load in chunks half as large"] == 9 * KB
    assert order.curve["ideal"] == [n * KB for n in (10, 12, 12, 14, 5)]


def test_sizes_can_be_given_key_by_key(chains):
    order = dask_memdash.order(
        chains, sizes=lambda key: 7 if key == "load-2" else None, threads=1
    )
    assert {row.prefix: row.source for row in order.sizes} == {
        "load": "given, shared out",
        "cut": "shared out",
        "join": "shared out",
    }
    assert order.uncertainty > 0


def test_arrays_know_the_sizes_of_their_chunks():
    x = da.random.random((400, 100), chunks=(100, 100))
    order = dask_memdash.order(x.sum(axis=1, split_every=2), threads=1)
    rows = {row.prefix: (row.tasks, row.bytes, row.source) for row in order.sizes}
    # chunks of 100 rows are made and summed by one fused task each
    assert rows["random_sample-sum-sum-aggregate"] == (4, 3_200, "array")
    assert order.minimum == 4_000
    kept = dask_memdash.order(x, threads=1)
    (row,) = kept.sizes
    assert (row.tasks, row.bytes, row.source) == (4, 320_000, "array")
    assert kept.minimum == 320_000


def test_a_sample_measures_one_task_of_each_prefix(chains):
    big = delayed(bytes)(100_000, dask_key_name="big-1")
    order = dask_memdash.order(big, chains, sample=True, threads=1)
    rows = {row.prefix: row for row in order.sizes}
    assert rows["big"].source == "sampled"
    assert 100_000 <= rows["big"].bytes < 100_100


def test_a_sample_leaves_out_what_takes_too_many_tasks(monkeypatch, chains):
    monkeypatch.setattr(size_estimates, "MAX_SAMPLED", 2)
    order = dask_memdash.order(chains, sample=True, threads=1)
    assert {row.prefix: row.source for row in order.sizes} == {
        "load": "sampled",
        "cut": "sampled",
        "join": "shared out",
    }


def test_nothing_runs_without_a_sample():
    boom = delayed(pytest.fail)("it ran")
    assert dask_memdash.order(boom, threads=1).minimum == 0


@pytest.mark.parametrize(
    ("capacity", "verdict"),
    [
        ("30 kB", "Storage fits: this order needs 13.7 kiB at task 4 of 5 one task at "
         "a time, 21.5 kiB with 2 tasks at a time; the workers have 29.3 kiB. What "
         "tasks use while they run is not known before they have run."),
        (20 * KB, "Fits only with fewer tasks at a time: it needs 13.7 kiB at task 4 "
         "of 5 one task at a time, 21.5 kiB with 2 tasks at a time; the workers have "
         "19.5 kiB."),
        (10 * KB, "Cannot fit: this order needs 13.7 kiB at task 4 of 5 one task at a "
         "time, 21.5 kiB with 2 tasks at a time; the workers have 9.77 kiB."),
        (None, "This order needs 13.7 kiB at task 4 of 5 one task at a time, 21.5 kiB "
         "with 2 tasks at a time."),
    ],
)  # fmt: skip
def test_the_verdict_compares_with_what_the_workers_have(chains, capacity, verdict):
    order = dask_memdash.order(chains, sizes=SIZES, threads=2, capacity=capacity)
    assert order.verdict == verdict


def test_it_prints_as_a_text_with_tables(chains):
    order = dask_memdash.order(chains, sizes={"load": 9 * KB, "cut": KB}, threads=1)
    text = str(order)
    assert "Sizes of 1 prefix are guesses (0 B of the minimum)." in text
    assert re.search(r"^  load +2 +17.6 kiB +given +8.79 kiB$", text, re.MULTILINE)
    assert re.search(r"^  join +1 +1.95 kiB +shared out +0 B$", text, re.MULTILINE)


def test_a_notebook_gets_a_drawing_with_everything_escaped():
    hostile = delayed(int)(dask_key_name="<script>alert(1)</script>")
    html = dask_memdash.order(hostile, threads=1)._repr_html_()
    assert html.count("<polyline") == 1
    assert "</script" not in html
    assert "script&gt;alert(1)&lt;/script" in html


def test_the_drawing_does_not_grow_with_the_graph():
    x = da.ones((5000,), chunks=(1,))
    order = dask_memdash.order(x + 1, threads=2)
    assert order.tasks >= 5000
    assert len(order.curve["position"]) <= 500


class Client:
    """What is asked of a client about its cluster."""

    def __init__(self, *limits):
        self.limits = limits

    def scheduler_info(self, n_workers):
        assert n_workers == -1
        # 4 bytes of each process, 1 of which is a stored output
        known = {"nthreads": 3, "metrics": {"memory": 4, "managed_bytes": 1}}
        workers = [{"memory_limit": limit, **known} for limit in self.limits]
        return {"workers": dict(enumerate(workers))}


@pytest.mark.parametrize(
    ("limits", "threads", "capacity"),
    [((10, 20), 6, 24), ((10, 0), 6, None)],
)
def test_a_client_gives_threads_limits_and_measured_sizes(
    chains, monkeypatch, limits, threads, capacity
):
    from dask_memdash.client import order_preview

    told = Known({}, {"load": 5 * KB}, Space())
    monkeypatch.setattr(order_preview, "known_of", lambda client, run: told)
    order = dask_memdash.order(chains, client=Client(*limits))
    assert (order.threads, order.capacity) == (threads, capacity)
    assert {row.prefix: row.source for row in order.sizes}["load"] == "measured"


def test_a_task_whose_inputs_no_worker_can_hold_cannot_fit(chains, monkeypatch):
    from dask_memdash.client import order_preview

    monkeypatch.setattr(order_preview, "known_of", lambda client, run: None)
    many = Client(*[KB] * 100)
    told = dask_memdash.order(chains, sizes=SIZES, client=many).verdict
    assert told == (
        "Cannot fit: one task of `cut` needs 11.7 kiB at once, its inputs among it; "
        "the largest worker has 0.97 kiB for it."
    )


@pytest.mark.parametrize("nothing", [(), (5,), ("text", None)])
def test_what_is_no_collection_is_refused(nothing):
    with pytest.raises(PreviewError, match="takes Dask collections"):
        dask_memdash.order(*nothing)


@pytest.mark.parametrize(
    "sizes",
    [{"load": "ten"}, {"load": -5}, lambda key: -1],
    ids=["text", "negative", "function"],
)
def test_a_size_that_makes_no_sense_is_refused(chains, sizes):
    with pytest.raises(ValueError, match=r"ten|negative"):
        dask_memdash.order(chains, sizes=sizes)


def test_annotated_collections_are_taken_as_they_are(chains):
    with dask.annotate(priority=3):
        assert dask_memdash.order(chains, sizes=SIZES, threads=1).minimum == 14 * KB
