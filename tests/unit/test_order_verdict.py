"""Verdicts on orders, and why roots are queued or not, in words."""

import numpy as np
import pytest
from order_graphs import CHAINS, snapshot

from dask_memdash.analysis.order.comparison import Usual, judge
from dask_memdash.analysis.order.verdict import verdict, why_rootish
from dask_memdash.model.graph_columns import RootGroup
from dask_memdash.model.room import Room

MiB = 2**20

#: The chains of the other tests, in MiB.
LARGE = {key: (needs, size * MiB) for key, (needs, size) in CHAINS.items()}

ROOT = {
    "prefix": "load",
    "tasks": 400,
    "threads": 8,
    "rootish": True,
    "queued": True,
    "saturation": 1.1,
    "groups": 0,
    "group_tasks": 0,
}


def root(**values):
    return RootGroup(**{**ROOT, **values})


#: All prefixes have run before, and are like that.
EARLIER = {name: Usual(10 * MiB, 0) for name in ("load", "cut", "join")}


def said(**options):
    roots = options.pop("roots", ())
    usual = options.pop("usual", EARLIER)
    taken = snapshot(LARGE, **options)
    taken.roots, taken.usual = roots, usual
    return verdict(judge(taken))


def test_a_graph_that_fits():
    assert said(threads=2, capacity=100 * MiB) == (
        "fits",
        "Fits: its order needs 32 MiB (2 tasks at a time) of the workers' 100 MiB.",
    )


RAN = (("load-1", 1, 2), ("cut-1", 2, 0), ("load-2", 3, 0))


def test_a_graph_that_fits_says_what_it_held_so_far():
    assert said(capacity=100 * MiB, stored=RAN).text == (
        "Fits: its order needs 25 MiB (1 task at a time) of the workers' 100 MiB, "
        "and the cluster stored at most 22 MiB so far."
    )


def test_a_graph_that_fits_with_fewer_threads_only():
    assert said(threads=2, capacity=30 * MiB) == (
        "fits",
        "Fits only with fewer tasks at a time: its order needs 32 MiB (2 tasks at a "
        "time), one at a time 25 MiB, and the workers have room for 30 MiB.",
    )


def test_a_graph_that_fits_with_fewer_threads_only_is_not_said_to_fit_if_none_spill():
    # Workers that cannot spill are paused when it is too much, and may stay so.
    room = Room(processes=2, storage=30 * MiB, unspilling=2, unknown="")
    assert said(threads=2, capacity=30 * MiB, room=room).kind == "unknown"


def test_a_graph_that_cannot_fit_says_where_and_what_to_do():
    assert said(capacity=24 * MiB) == (
        "cannot-fit",
        "The order needs 25 MiB of storage at task 4 of 5, even one task at a time, "
        "and the workers have room for 24 MiB. What helps: spilling to disk, more or "
        "bigger workers or smaller chunks of `load`.",
    )


def test_a_graph_that_has_run_did_fit_whatever_its_order_needs():
    stored = tuple((name, n + 1, n + 3) for n, name in enumerate(CHAINS))
    kind, text = said(capacity=24 * MiB, stored=stored)
    assert kind == "fits"
    assert text.startswith("It has run, though its order needs 25 MiB of storage")


def test_a_graph_that_needs_exactly_what_there_is_fits():
    assert said(capacity=25 * MiB).kind == "fits"


def test_a_rechunk_that_cannot_fit_is_told_to_go_in_steps():
    graph = {"rechunk-1": ((), 9 * MiB), "sum-1": (("rechunk-1",), MiB)}
    text = verdict(judge(snapshot(graph, capacity=MiB, wanted=("sum-1",)))).text
    assert "rechunking in intermediate steps" in text


def test_outputs_that_a_client_keeps_are_named_where_they_are_too_much():
    graph = {f"load-{n}": ((), MiB) for n in range(9)}
    text = verdict(judge(snapshot(graph, capacity=4 * MiB, wanted=tuple(graph)))).text
    assert text.endswith(
        "smaller chunks of `load` or not keeping all outputs in memory (store them as "
        "they come)."
    )


AHEAD = (("load-1", 1, 3), ("load-2", 2, 0), ("cut-1", 3, 0))

HELD = (
    "The cluster stored 32 MiB where the order needs at most 22 MiB (1 task at a time, "
    "3 of 5 done); nearly all of the difference is `load`. "
)


@pytest.mark.parametrize(
    ("roots", "advice"),
    [
        (
            (root(queued=False, saturation=None),),
            "Lower `distributed.scheduler.worker-saturation` (now inf; Dask's default "
            "is 1.1), so that these root tasks wait on the scheduler.",
        ),
        (
            (root(),),
            "Lower `distributed.scheduler.worker-saturation` (now 1.1) to 1.0, or give "
            "the workers fewer threads.",
        ),
        (
            (root(saturation=1.0),),
            "The scheduler queues them already. Give the workers fewer threads.",
        ),
        (
            (root(rootish=False, queued=False, tasks=12),),
            "The scheduler does not queue them, because it does not take them for root "
            "tasks (its 12 tasks are not more than twice the 8 threads). Split the "
            "graph, or use fewer and larger chunks there.",
        ),
        (
            (root(prefix="another"),),
            "These are no root tasks, so the scheduler does not hold them back. Give "
            "the tasks that consume them a higher priority.",
        ),
    ],
)
def test_a_graph_that_ran_ahead_says_of_what_and_what_to_do(roots, advice):
    assert said(capacity=100 * MiB, stored=AHEAD, roots=roots) == (
        "runs-ahead",
        HELD + advice,
    )


def test_a_run_ahead_that_may_be_what_is_not_measured_is_none():
    taken = snapshot(LARGE, capacity=100 * MiB, stored=AHEAD[:2])
    taken.usual = {"join": Usual(MiB, 0)}
    assert verdict(judge(taken)).kind == "runs-ahead"
    taken.sizes[[1, 3]] = -1  # cuts: the order holds one there, and may need more
    judged = judge(taken)
    assert (judged.run_ahead, judged.needed_doubt) == (20 * MiB, 20 * MiB)
    assert verdict(judged).kind != "runs-ahead"


def test_a_run_ahead_that_is_small_beside_the_workers_is_none():
    assert said(capacity=400 * MiB, stored=AHEAD).kind == "fits"


def test_without_limits_nothing_is_said_to_fit():
    assert said(stored=RAN, room=Room(processes=2, unknown="no-limit")) == (
        "unknown",
        "Not every worker has a limit to compare with; its order needs 25 MiB (1 task "
        "at a time), and the cluster stored at most 22 MiB so far.",
    )


def test_before_any_size_is_known_there_is_no_verdict():
    taken = snapshot(LARGE, capacity=100 * MiB)
    taken.sizes[:] = -1
    assert verdict(judge(taken)).kind == "unknown"
    taken.usual = EARLIER
    assert verdict(judge(taken)).kind == "fits"


def test_a_graph_is_not_said_to_fit_while_a_prefix_has_never_run():
    assert said(capacity=100 * MiB, usual={"load": Usual(10 * MiB, 0)}) == (
        "unknown",
        "Whether it fits is not known until the first tasks of `cut` and `join` have "
        "run; its order needs 25 MiB (1 task at a time) so far, and the workers have "
        "room for 100 MiB.",
    )


def test_sizes_that_may_be_off_by_more_than_there_is_left_are_no_fit():
    taken = snapshot(LARGE, capacity=26 * MiB)
    taken.usual = EARLIER
    taken.doubt = np.full(5, 2 * MiB, np.float32)
    made = verdict(judge(taken))
    assert made.kind == "unknown"
    assert "25 MiB (1 task at a time) ± 6 MiB" in made.text


def test_before_any_worker_was_idle_nothing_is_said_to_fit():
    made = said(room=Room(processes=1, guessed=1, unknown="young"))
    assert made.kind == "unknown"
    assert made.text.startswith("What an idle worker takes has not been measured yet")


def test_workers_that_are_taken_to_be_like_others_are_counted():
    room = Room(processes=3, storage=100 * MiB, task=30 * MiB, guessed=1, unknown="")
    made = said(capacity=100 * MiB, room=room)
    assert made == (
        "fits",
        "Fits: its order needs 25 MiB (1 task at a time) of the workers' 100 MiB. Its "
        "largest task, `cut`, needs 23 MiB of the 30 MiB that one worker has for it. 1 "
        "worker of 3 has not been idle yet; this assumes that an idle process takes as "
        "much there as elsewhere.",
    )


# -- one task against one worker ------------------------------------------------

#: Eight parts of 50 MiB that one task takes in, and the room of two workers.
GATHER = {
    **{f"part-{n}": ((), 50 * MiB) for n in range(8)},
    "gather-1": (tuple(f"part-{n}" for n in range(8)), 1 * MiB),
}
STORED = tuple((f"part-{n}", n + 1, 0) for n in range(8))
TWO = Room(processes=2, storage=600 * MiB, task=279 * MiB, unknown="")


def gathered(room=TWO, capacity=600 * MiB, usual=None, stored=STORED):
    taken = snapshot(
        GATHER, capacity=capacity, room=room, stored=stored, wanted=("gather-1",)
    )
    taken.usual = usual or {}
    return judge(taken)


def test_inputs_that_no_worker_can_hold_do_not_fit_though_all_together_can():
    assert verdict(gathered()) == (
        "cannot-fit",
        "`gather` needs 400 MiB of inputs at once, and the largest worker has 279 MiB "
        "for it. Combine its inputs in steps, or raise the workers' memory limit by "
        "128 MiB.",
    )
    need = gathered().need
    assert (need.prefix, need.bytes, need.inputs) == ("gather", 401 * MiB, 400 * MiB)


def test_a_peak_that_no_worker_has_room_for_does_not_fit():
    usual = {"part": Usual(50 * MiB, 0, 700 * MiB), "gather": Usual(MiB, 0)}
    room = Room(processes=2, storage=900 * MiB, task=600 * MiB, unknown="")
    assert verdict(gathered(room, 900 * MiB, usual, stored=())) == (
        "cannot-fit",
        "`part` needs 700 MiB at once, and the largest worker has 600 MiB for it. Use "
        "smaller chunks, or raise the workers' memory limit by 105 MiB.",
    )


def test_a_task_that_has_run_did_fit():
    stored = (*STORED, ("gather-1", 9, 0))
    assert verdict(gathered(stored=stored)).kind == "fits"


def test_a_peak_of_much_larger_outputs_says_nothing_of_these():
    usual = {"part": Usual(500 * MiB, 0, 700 * MiB), "gather": Usual(MiB, 0, MiB)}
    room = Room(processes=2, storage=900 * MiB, task=600 * MiB, unknown="")
    assert gathered(room, 900 * MiB, usual, stored=()).need.bytes == 401 * MiB


def test_inputs_whose_size_is_a_guess_are_not_said_to_be_too_large():
    taken = snapshot(GATHER, capacity=600 * MiB, room=TWO, wanted=("gather-1",))
    taken.usual = {"part": Usual(50 * MiB, 20 * MiB), "gather": Usual(MiB, 0)}
    taken.sizes[:] = -1
    made = verdict(judge(taken))
    assert made.kind == "unknown"
    assert "one task of `gather` needs 401 MiB ± 160 MiB" in made.text


@pytest.mark.parametrize(
    ("group", "text"),
    [
        (
            root(),
            "These are root tasks (400 tasks for 8 threads), and the scheduler queues "
            "them: each worker gets 1.1 times as many as it has threads.",
        ),
        (
            root(queued=False, saturation=None),
            "These are root tasks (400 tasks for 8 threads), but the scheduler queues "
            "none: distributed.scheduler.worker-saturation is inf.",
        ),
        (
            root(queued=False),
            "These are root tasks (400 tasks for 8 threads), but they are of a kind "
            "that the scheduler does not queue.",
        ),
        (
            root(tasks=1, producer=True),
            "These are root tasks (marked as producers of data), and the scheduler "
            "queues them: each worker gets 1.1 times as many as it has threads.",
        ),
        (
            root(rootish=False, queued=False, tasks=16),
            "The scheduler does not take it for root tasks: its 16 tasks are not more "
            "than twice the 8 threads.",
        ),
        (
            root(rootish=False, queued=False, restricted=True),
            "The scheduler does not take it for root tasks: it is bound to workers, "
            "hosts or resources.",
        ),
        (
            root(rootish=False, queued=False, groups=6, group_tasks=12),
            "The scheduler does not take it for root tasks: it depends on 12 tasks in "
            "6 groups.",
        ),
    ],
)
def test_roots_are_explained_by_the_schedulers_rule(group, text):
    assert why_rootish(group) == text
