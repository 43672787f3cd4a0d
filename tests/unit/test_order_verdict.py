"""Verdicts on orders, and why roots are queued or not, in words."""

from dataclasses import replace

import numpy as np
import pytest
from order_graphs import CHAINS, snapshot

from dask_memdash.analysis.order.comparison import Usual, judge
from dask_memdash.analysis.order.roots import why_rootish
from dask_memdash.analysis.order.verdict import verdict
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


#: All prefixes have run before, and are like that: size, spread and peak.
EARLIER = {
    "load": Usual(10 * MiB, 0, 12 * MiB),
    "cut": Usual(3 * MiB, 0, 4 * MiB),
    "join": Usual(1 * MiB, 0, 2 * MiB),
}


def one_worker(capacity, threads, task=100 * MiB):
    """Make what one worker has room for."""
    room = Room(processes=1, storage=capacity, task=task, least=task, unknown="")
    return replace(room, threads=threads)


def said(**options):
    roots = options.pop("roots", ())
    usual = options.pop("usual", EARLIER)
    deaths = options.pop("deaths", ())
    capacity = options.get("capacity")
    if capacity is not None and "room" not in options:
        options["room"] = one_worker(capacity, options.get("threads", 1))
    taken = snapshot(LARGE, **options)
    taken.roots, taken.usual, taken.deaths = roots, usual, deaths
    return verdict(judge(taken))


LARGEST = (
    " Its largest task, `cut`, needs 24 MiB of the 100 MiB that one worker has for it."
)


def test_a_graph_that_fits_says_what_was_judged():
    assert said(threads=2, capacity=100 * MiB) == (
        "fits",
        "Storage fits: its order needs 32 MiB (2 tasks at a time) of the "
        f"workers' 100 MiB.{LARGEST} The 2 tasks that a worker runs at once need at "
        "most 38 MiB of 100 MiB.",
    )


def test_of_tasks_that_were_never_measured_only_storage_is_said_to_fit():
    earlier = {name: replace(usual, peak=None) for name, usual in EARLIER.items()}
    assert said(threads=2, capacity=100 * MiB, usual=earlier) == (
        "storage-fits",
        "Storage fits: its order needs 32 MiB (2 tasks at a time) of the "
        "workers' 100 MiB. Its largest task, `cut`, needs at least 23 MiB of the 100 "
        "MiB that one worker has for it. What its tasks use while they run has not "
        "been measured, so that it is not known whether those that run at once fit.",
    )


RAN = (("load-1", 1, 2), ("cut-1", 2, 0), ("load-2", 3, 0))


def test_a_graph_that_fits_says_what_it_held_so_far():
    assert said(capacity=100 * MiB, stored=RAN).text == (
        "Storage fits: its order needs 25 MiB (1 task at a time) of the "
        f"workers' 100 MiB, and the cluster stored at most 22 MiB so far.{LARGEST}"
    )


def test_a_graph_that_fits_with_fewer_threads_only():
    assert said(threads=2, capacity=30 * MiB) == (
        "fits",
        "Storage fits only with fewer tasks at a time: its order needs 32 MiB "
        "(2 tasks at a time), one at a time 25 MiB, and the workers have room "
        "for 30 MiB.",
    )


def test_a_graph_that_fits_with_fewer_threads_only_is_not_said_to_fit_if_none_spill():
    # Workers that cannot spill are paused when it is too much, and may stay so.
    room = Room(processes=2, storage=30 * MiB, unspilling=2, unknown="")
    assert said(threads=2, capacity=30 * MiB, room=room).kind == "unknown"


def test_a_graph_that_cannot_fit_says_where_and_what_to_do():
    assert said(capacity=24 * MiB, room=Room()) == (
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
    assert judged.run_ahead == 20 * MiB
    assert verdict(judged).kind != "runs-ahead"


def test_a_run_ahead_that_is_small_beside_the_workers_is_none():
    assert said(capacity=400 * MiB, stored=AHEAD).kind == "fits"


def test_without_limits_nothing_is_said_to_fit():
    assert said(stored=RAN, room=Room(processes=2, unknown="no-limit")) == (
        "unknown",
        "Not every worker has a limit to compare with; its order needs 25 MiB of "
        "storage (1 task at a time), and the cluster stored at most 22 MiB so far.",
    )


def test_before_any_size_is_known_there_is_no_verdict():
    taken = snapshot(LARGE, capacity=100 * MiB, room=one_worker(100 * MiB, 1))
    taken.sizes[:] = -1
    assert verdict(judge(taken)).kind == "unknown"
    taken.usual = EARLIER
    assert verdict(judge(taken)).kind == "fits"


def test_a_graph_is_not_said_to_fit_while_a_prefix_has_never_run():
    assert said(capacity=100 * MiB, usual={"load": Usual(10 * MiB, 0)}) == (
        "unknown",
        "Whether it fits is not known until the first tasks of `cut` and `join` have "
        "finished; its order needs 25 MiB of storage (1 task at a time) so far, and "
        "the workers have room for 100 MiB.",
    )


def test_sizes_that_may_be_off_by_more_than_there_is_left_are_no_fit():
    taken = snapshot(LARGE, capacity=26 * MiB)
    taken.usual = EARLIER
    taken.doubt = np.full(5, 2 * MiB, np.float32)
    made = verdict(judge(taken))
    assert made.kind == "unknown"
    assert "25 MiB of storage (1 task at a time) ± 6 MiB" in made.text


def test_before_any_worker_was_idle_nothing_is_said_to_fit():
    made = said(room=Room(processes=1, guessed=1, unknown="young"))
    assert made.kind == "unknown"
    assert made.text.startswith("What an idle worker takes has not been measured yet")


def test_workers_that_are_taken_to_be_like_others_are_counted():
    room = replace(one_worker(100 * MiB, 1, 30 * MiB), processes=3, guessed=1)
    kind, text = said(capacity=100 * MiB, room=room)
    assert kind == "fits"
    assert text.endswith(
        " Its largest task, `cut`, needs 24 MiB of the 30 MiB that one worker has for "
        "it. 1 worker of 3 has not been idle yet; this assumes that an idle process "
        "takes as much there as elsewhere."
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


# -- tasks at once on one worker -------------------------------------------------

#: Twelve parts that are summed up, and two workers with four threads each.
PARTS = {
    **{f"part-{n}": ((), 1 * MiB) for n in range(12)},
    "sum-1": (tuple(f"part-{n}" for n in range(12)), 1),
}
PEAKS = {"part": Usual(1 * MiB, 0, 137 * MiB), "sum": Usual(1, 0, 1 * MiB)}
ROOM = Room(
    processes=2,
    storage=860 * MiB,
    task=430 * MiB,
    least=430 * MiB,
    threads=4,
    unknown="",
)


def parts(usual=PEAKS, room=ROOM, deaths=(), **more):
    taken = snapshot(PARTS, 8, capacity=860 * MiB, room=room, wanted=("sum-1",), **more)
    taken.usual, taken.deaths = usual, deaths
    return verdict(judge(taken))


STORAGE = (
    "Storage fits: its order needs 12 MiB (8 tasks at a time) of the workers' 860 MiB."
)


def test_tasks_that_fit_one_by_one_and_not_together_do_not_fit():
    assert parts() == (
        "too-many-at-once",
        "4 tasks at once do not fit on a worker: each of `part` needs 137 MiB beside "
        "its inputs, and there is room for 430 MiB. Start the workers with 3 threads "
        "each, use smaller chunks, or raise their memory limit by 124 MiB. " + STORAGE,
    )


def test_what_a_death_taught_is_said_to_be_the_least():
    cut = {"part": Usual(None, 0, None, 137 * MiB)}
    taken = snapshot(PARTS, 8, capacity=860 * MiB, room=ROOM, wanted=("sum-1",))
    taken.sizes[:] = -1
    taken.usual, taken.deaths = cut, ("4", "3")
    assert verdict(judge(taken)) == (
        "too-many-at-once",
        "4 tasks at once do not fit on a worker: each of `part` needs at least 137 MiB "
        "beside its inputs, and there is room for 430 MiB. 2 workers died for memory "
        "while it ran: incident 4 and others say why. Start the workers with at most 3 "
        "threads each, use smaller chunks, or raise their memory limit by 124 MiB. "
        "Whether its storage fits is not known yet.",
    )


def test_a_death_under_another_graph_says_nothing_of_this_one():
    assert parts({**PEAKS, "part": Usual(1 * MiB, 0, 20 * MiB, 300 * MiB)}).kind == (
        "fits"
    )


def test_a_graph_under_which_workers_died_is_never_said_to_fit_before_it_has_run():
    small = {**PEAKS, "part": Usual(1 * MiB, 0, 20 * MiB)}
    assert parts(small).kind == "fits"
    assert parts(small, deaths=("7",)) == (
        "unknown",
        f"{STORAGE} What is known of its tasks fits too, each by itself. 1 worker died "
        "for memory while it ran: incident 7 says why.",
    )
    stored = tuple((name, n + 1, 0) for n, name in enumerate(PARTS))
    kind, text = parts(small, deaths=("7",), stored=stored)
    assert kind == "fits"
    assert text.startswith("It has run. ")
    assert text.endswith(" 1 worker died for memory while it ran: incident 7 says why.")


def test_tasks_that_ran_together_and_lived_leave_it_open():
    many = {f"part-{n}": ((), 1 * MiB) for n in range(24)}
    taken = snapshot(many, 8, capacity=860 * MiB, room=ROOM, wanted=tuple(many))
    taken.usual = PEAKS
    taken.stored_at[:7] = range(1, 8)
    assert verdict(judge(taken)).kind == "too-many-at-once"
    taken.stored_at[:8] = range(1, 9)
    kind, text = verdict(judge(taken))
    assert kind == "unknown"
    assert text.endswith(
        " One task at a time fits too. Whether 4 tasks at once fit is not known yet: "
        "they may need up to 548 MiB with their inputs, and a worker has 430 MiB for "
        "them; 8 of `part` ran, and none died."
    )


def test_tasks_that_need_one_another_are_not_at_once():
    chain = {
        "one-1": ((), 1 * MiB),
        **{f"one-{n}": ((f"one-{n - 1}",), 1 * MiB) for n in range(2, 9)},
    }
    taken = snapshot(chain, 4, capacity=860 * MiB, room=ROOM, wanted=("one-8",))
    taken.usual = {"one": Usual(1 * MiB, 0, 137 * MiB)}
    together = judge(taken).at_once
    assert (together.surely, together.at_most) == (0, 4 * 138 * MiB)
    made = verdict(judge(taken))
    assert made.kind == "unknown"
    assert "Whether 4 tasks at once fit is not known yet: they may need up to" in (
        made.text
    )


def test_fewer_tasks_than_threads_are_spread_over_the_workers():
    few = {f"part-{n}": ((), 1 * MiB) for n in range(4)}
    taken = snapshot(few, 8, capacity=860 * MiB, room=ROOM, wanted=tuple(few))
    taken.usual = PEAKS
    together = judge(taken).at_once
    assert (together.tasks, together.surely) == (2, 2 * 137 * MiB)


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
