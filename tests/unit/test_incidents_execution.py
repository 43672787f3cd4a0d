"""Rules on running tasks: one that is too large, or too many at once."""

import pytest
from builders import MiB
from cases import case, expected, facts, parts, storing, suspect, task

from dask_memdash.analysis.incidents.case import Attempt
from dask_memdash.analysis.incidents.rules.execution import (
    task_too_large,
    too_many_at_once,
)


def running(*suspects, executing=None, managed=0, **more):
    held = sum(s.bytes or 0 for s in suspects) // MiB
    size = held if executing is None else executing
    return case(
        breakdown=parts(executing=size, managed=managed), suspects=suspects, **more
    )


def weights(known):
    return {
        f.cause: round(f.weight, 2)
        for rule in (task_too_large, too_many_at_once)
        for f in rule(known)
    }


def test_one_task_that_fills_the_worker_is_too_large():
    (finding,) = task_too_large(running(suspect("sum-1", 840)))
    assert finding.weight == 1.0
    assert (finding.prefix, finding.key) == ("sum", "sum-1")
    assert finding.text == (
        "sum-1 held 840 MiB (exact, 84 % of the limit) of the 840 MiB that the worker "
        "used beyond an idle one, and an idle worker has 850 MiB for it."
    )
    assert finding.advice == (
        "`sum` held 840 MiB when it ended, so it needs at least that; the worker has "
        "850 MiB. Make its chunks smaller, 2 times at least, or give the worker more "
        "than 1.74 GiB.",
    )
    assert finding.thin == ""


def test_one_large_task_among_small_ones_is_too_large():
    small = [suspect(f"open-{n}", 5) for n in range(3)]
    assert weights(running(suspect("sum-1", 700), *small)) == {"task-too-large": 1.0}


def test_equal_tasks_of_which_each_would_fit_are_too_many():
    known = running(*(suspect(f"sum-{n}", 200) for n in range(4)))
    assert weights(known) == {"too-many-at-once": 1.0}


def test_of_two_unequal_tasks_that_are_new_neither_cause_is_sure():
    known = running(suspect("sum-1", 500), suspect("sum-2", 300))
    assert weights(known) == {"task-too-large": 0.36, "too-many-at-once": 0.64}


def test_a_task_whose_like_have_finished_with_as_much_is_not_too_large():
    usual = facts(expected={"sum": expected(finished=10, peak=450, most=600)})
    known = running(suspect("sum-1", 500), suspect("sum-2", 300), facts=usual)
    assert weights(known) == {"too-many-at-once": 1.0}


def test_two_finished_tasks_say_too_little_of_what_is_usual():
    usual = facts(expected={"sum": expected(finished=2, peak=450, most=600)})
    known = running(suspect("sum-1", 500), suspect("sum-2", 300), facts=usual)
    assert weights(known)["task-too-large"] == 0.36


def test_what_a_task_held_at_earlier_deaths_counts_as_its_need():
    again = suspect("sum-1", 500)
    known = running(
        again,
        suspect("sum-2", 300),
        attempts={"sum-1": (Attempt("1", "terminated", 800 * MiB),)},
    )
    assert weights(known)["task-too-large"] == 1.0
    (finding,) = task_too_large(known)
    assert "at 1 earlier death too, and held up to 800 MiB there" in finding.text


def test_a_task_that_would_have_fitted_alone_counts_half():
    """Storage of 450 and a task of 400, which an idle worker has room for."""
    known = running(suspect("sum-1", 400), managed=450)
    assert weights(known) == {"task-too-large": 0.24}


@pytest.mark.parametrize("rule", [task_too_large, too_many_at_once])
def test_without_a_running_task_neither_is_found(rule):
    assert list(rule(storing("open", 850))) == []


def test_one_task_alone_is_never_too_many():
    assert list(too_many_at_once(running(suspect("sum-1", 840)))) == []


def test_a_task_that_could_not_be_measured_counts_half_and_is_thin():
    (finding,) = task_too_large(running(suspect("sum-1", None), executing=800))
    assert finding.weight == 0.5
    assert finding.thin == "the running task could not be measured"


def test_what_is_known_from_a_heartbeat_only_is_thin():
    (finding,) = task_too_large(running(suspect("s-1", 840), evidence="heartbeat"))
    assert finding.thin == "what was running is known from the last heartbeat only"


def test_the_prefix_that_held_most_together_is_responsible():
    several = [suspect(f"sum-{n}", 150) for n in range(4)]
    (finding,) = too_many_at_once(running(suspect("open-1", 200), *several))
    assert (finding.prefix, finding.key) == ("sum", None)
    assert finding.text == (
        "5 tasks held 800 MiB together, the largest 200 MiB (exact, 20 % of the "
        "limit); 4 of them were `sum`."
    )
    assert finding.thin == "no `open` has finished yet, so one alone may need more"


@pytest.mark.parametrize(
    ("peak", "running_now", "threads", "advice"),
    [
        (
            412,
            3,
            4,
            "`load` peaks at 412 MiB (p95); 3 at once do not fit into 0.98 GiB: use 2 "
            "threads per worker, or tasks that peak at 191 MiB at most.",
        ),
        (
            500,
            2,
            2,
            "`load` peaks at 500 MiB (p95); 2 at once do not fit into 0.98 GiB: use 1 "
            "thread per worker, or tasks that peak at 383 MiB at most.",
        ),
        (
            900,
            2,
            2,
            "`load` peaks at 900 MiB (p95); not even one fits into 0.98 GiB.",
        ),
    ],
)
def test_the_advice_says_how_many_fit(peak, running_now, threads, advice):
    usual = facts(nthreads=threads, expected={"load": expected(peak=peak)})
    suspects = [suspect(f"load-{n}", 800 // running_now) for n in range(running_now)]
    (finding,) = too_many_at_once(running(*suspects, facts=usual))
    assert finding.advice == (advice,)


def test_without_measured_peaks_what_was_held_is_a_lower_bound():
    suspects = [suspect(f"load-{n}", 400) for n in range(2)]
    (finding,) = too_many_at_once(running(*suspects))
    assert "`load` peaks at 400 MiB at least; 2 at once" in finding.advice[0]


def test_a_refused_request_that_is_not_absurd_is_a_task_too_large():
    (finding,) = task_too_large(
        case(
            "memory-error",
            detail="Unable to allocate 2 GiB for an array with shape (268435456,)",
            tasks=(task("sum-1"),),
        )
    )
    assert (finding.cause, finding.prefix, finding.weight) == (
        "task-too-large",
        "sum",
        1.0,
    )
    assert finding.advice == ("Make the chunks of `sum` smaller, 3 times at least.",)


def test_a_memory_error_that_does_not_say_what_was_asked_for_blames_no_size():
    known = case("memory-error", detail="MemoryError()", tasks=(task(),))
    assert list(task_too_large(known)) == []


def test_without_a_limit_the_one_that_dominates_is_blamed_and_no_advice_is_made_up():
    known = running(suspect("sum-1", 700), suspect("sum-2", 20), limit=None)
    known = case(
        limit=None,
        breakdown=known.breakdown,
        suspects=known.suspects,
        facts=facts(thresholds=type(known.facts.thresholds)()),
    )
    (finding,) = task_too_large(known)
    assert (finding.weight, finding.advice) == (1.0, ())
