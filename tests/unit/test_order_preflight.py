"""Preflight: execution and storage together, as intervals; and what is said of it."""

import numpy as np
import pytest

from dask_memdash.analysis.order.preflight import Planned, Space, preflight
from dask_memdash.analysis.order.preflight_words import in_words
from dask_memdash.analysis.order.simulate import Shape
from dask_memdash.analysis.order.taken import Sizes, Taken

MB = 1_000_000
MiB = 2**20


def planned(tasks, told=True, blocks=None):
    """Make a graph of (prefix, size, ranks that it needs) in the order of priority."""
    names = tuple(dict.fromkeys(prefix for prefix, _, _ in tasks))
    offsets = np.cumsum([0, *(len(needs) for _, _, needs in tasks)])
    flat = np.array([n for _, _, needs in tasks for n in needs], np.int64)
    sizes = np.array([size for _, size, _ in tasks], float)
    outputs = Sizes(sizes, np.zeros(len(tasks)), np.full(len(tasks), told))
    return Planned(
        Shape(offsets, flat, bytes(len(tasks))),
        names,
        np.array([names.index(prefix) for prefix, _, _ in tasks], np.intp),
        outputs,
        blocks or {},
    )


def workers(n=1, threads=4, limit=600 * MB, **more):
    lines = {"end": int(0.95 * limit), "pause": int(0.8 * limit), "idle": 70 * MB}
    lines["target"] = int(0.6 * limit)
    return Space(
        workers=n,
        threads=threads,
        total_threads=n * threads,
        limit=limit,
        most=int(0.95 * limit),
        **{**lines, **more},
    )


def took(size, finished=20, **more):
    known = {"output": None, **more}
    return Taken(finished=finished, p50=size, most=size, **known)


SIXTEEN = [("work", 10, ())] * 16


def test_what_fits_at_most_fits():
    found = preflight(planned(SIXTEEN), {"work": took(60 * MB)}, workers())
    assert (found.kind, found.reason) == ("fits", "")
    assert found.execution == 4 * 60 * MB
    # the largest four, at most three hundredths more, and what a worker gains
    assert found.load.high == pytest.approx(4 * 61.8 * MB + 12 * MB, abs=1000)


def test_what_its_share_of_a_round_fills_does_not_fit_and_fewer_threads_do():
    found = preflight(planned(SIXTEEN), {"work": took(200 * MB)}, workers())
    assert found.kind == "does-not-fit"
    assert [(load.threads, load.kind) for load in (found.load, *found.fewer)] == [
        (4, "does-not-fit"),
        (2, "fits"),
        (1, "fits"),
    ]
    assert found.fitting == 2
    told = in_words(found)
    assert told == (
        "Does not fit, if chunks of `work` are as large as those that ran: this order "
        "needs 763 MiB (572 MiB to 786 MiB) at its worst point, after 4 of 16 tasks, "
        "of which 763 MiB execution; this cluster has "
        "477 MiB. With 4 threads the worker will have at least 572 MiB, and has room "
        "for 477 MiB. With 2 threads a worker it fits."
    )


def test_one_task_that_no_worker_holds_does_not_fit_with_any_threads():
    tasks = [*SIXTEEN, ("huge", 10, ())]
    known = {"work": took(MB), "huge": took(590 * MB)}
    found = preflight(planned(tasks), known, workers())
    assert (found.kind, found.fitting) == ("does-not-fit", None)
    told = in_words(found)
    assert "one task of `huge` takes 563 MiB, its inputs among it" in told
    assert "It does not with 1 thread a worker either." in told


def test_between_the_two_nothing_is_claimed():
    found = preflight(planned(SIXTEEN), {"work": took(140 * MB)}, workers())
    assert (found.kind, found.reason) == ("unknown", "close")
    told = in_words(found)
    assert told.startswith("Not known whether it fits: this order needs 534 MiB (")
    assert "With 2 threads a worker it fits." in told


def test_a_prefix_that_never_ran_is_at_least_its_output_and_never_fits():
    tasks = [("load", 20 * MB, ()), ("new", 30 * MB, (0,))]
    found = preflight(planned(tasks), {"load": took(20 * MB)}, workers())
    assert (found.kind, found.reason, found.high) == ("unknown", "prefixes", None)
    assert found.why == {"new": "never-ran"}
    told = in_words(found)
    assert "needs at least 47.7 MiB at its worst point" in told
    assert "It is not, because no task of `new` has been measured yet." in told


def test_what_never_ran_does_not_fit_where_its_output_alone_does_not():
    found = preflight(planned([("new", 700 * MB, ())]), {}, workers())
    assert found.kind == "does-not-fit"


@pytest.mark.parametrize(
    ("here", "then", "kind"),
    [
        (40 * MB, 40 * MB, "fits"),
        (70 * MB, 40 * MB, "fits"),
        (100 * MB, 40 * MB, "unknown"),
        (10 * MB, 40 * MB, "unknown"),
    ],
)
def test_peaks_of_other_sizes_of_chunks_are_not_taken_over(here, then, kind):
    known = {"work": took(60 * MB, output=then)}
    graph = planned([("work", here, ())] * 4)
    found = preflight(graph, known, workers(threads=1, limit=900 * MB))
    assert found.kind == kind
    assert found.why == ({} if kind == "fits" else {"work": "other-sizes"})
    if kind == "fits":  # a larger chunk takes more
        assert found.execution == 60 * MB * here // then


def test_inputs_tell_where_outputs_are_small():
    tasks = [("load", 80 * MB, ()), ("sum", 10, (0,))]
    known = {"load": took(80 * MB, output=80 * MB)}
    known["sum"] = took(30 * MB, output=10, inputs=30 * MB)
    found = preflight(planned(tasks), known, workers())
    assert found.why == {"sum": "other-sizes"}
    known["sum"] = took(30 * MB, output=10, inputs=80 * MB)
    found = preflight(planned(tasks), known, workers())
    assert (found.why, found.assumed, found.kind) == ({}, (), "fits")


def test_what_no_size_tells_is_said_to_be_taken_for_granted():
    found = preflight(planned(SIXTEEN, told=False), {"work": took(9 * MB)}, workers())
    assert found.assumed == ("work",)
    assert in_words(found).startswith(
        "Fits, if chunks of `work` are as large as those that ran: this order needs "
    )


def test_a_chunk_that_is_larger_than_anything_tasks_took_is_another_size():
    known = {"work": took(9 * MB)}
    graph = planned(SIXTEEN, told=False, blocks={"work": 50 * MB})
    found = preflight(graph, known, workers())
    assert (found.kind, found.why) == ("unknown", {"work": "other-sizes"})


def test_a_task_that_was_cut_short_has_no_upper_end():
    known = {"work": took(20 * MB, at_least=300 * MB)}
    found = preflight(planned(SIXTEEN), known, workers())
    assert (found.kind, found.high) == ("unknown", None)
    assert "was cut short by its worker's death" in in_words(found)


def test_outputs_that_no_worker_can_spill_do_not_fit():
    tasks = [("keep", 100 * MB, ()) for _ in range(10)]
    tasks.append(("join", 10, tuple(range(10))))
    known = {"keep": took(100 * MB), "join": took(MB)}
    found = preflight(planned(tasks), known, workers(n=2, threads=1, target=None))
    # one task needs ten of them in any case
    assert found.kind == "does-not-fit"


def test_storage_beyond_the_pause_threshold_without_spilling_does_not_fit():
    tasks = [("keep", 100 * MB, ()) for _ in range(12)]
    tasks += [("pair", 10, (rank, 11 - rank)) for rank in range(6)]
    known = {"keep": took(100 * MB), "pair": took(MB)}
    found = preflight(planned(tasks), known, workers(n=2, threads=1, target=None))
    assert (found.kind, found.reason) == ("does-not-fit", "storage")
    assert "workers that cannot spill can store 782 MiB" in in_words(found)


@pytest.mark.parametrize(
    ("space", "why"),
    [
        (Space(workers=1), "Not every worker has a memory limit to compare with."),
        (Space(), "Not every worker has a memory limit to compare with."),
        (workers(idle=None), "What an idle worker takes has not been measured yet."),
    ],
)
def test_what_is_not_known_of_workers_is_said(space, why):
    found = preflight(planned(SIXTEEN), {"work": took(MB)}, space)
    assert found.kind == "unknown"
    assert why in in_words(found)


def test_tasks_that_need_one_another_do_not_run_together():
    chain = [("a", 10, ())] + [("a", 10, (rank,)) for rank in range(7)]
    found = preflight(planned(chain), {"a": took(100 * MB)}, workers(n=1))
    assert found.execution == 100 * MB
    assert found.kind != "does-not-fit"


def test_nothing_to_run_is_no_preflight():
    graph = planned([("given", 10, ())])
    graph.shape.given[:] = True
    assert preflight(graph, {}, workers()) is None
