"""Rules on running tasks: one that is too large, or too many at once."""

from dataclasses import replace

import pytest
from builders import MiB
from cases import (
    T0,
    case,
    expected,
    facts,
    held,
    parts,
    stored,
    storing,
    suspect,
    task,
)

from dask_memdash.analysis.incidents.case import Attempt
from dask_memdash.analysis.incidents.diagnose import diagnose
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.need import held_by, need_of
from dask_memdash.analysis.incidents.rules.task_too_large import task_too_large
from dask_memdash.analysis.incidents.rules.too_many_at_once import too_many_at_once
from dask_memdash.model.event_parts import TaskInputs
from dask_memdash.model.evidence import OrderFacts


def running(*suspects, executing=None, managed=0, **more):
    total = sum(s.bytes or 0 for s in suspects) // MiB
    size = total if executing is None else executing
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
        "sum-1 held 840 MiB (exact, 84 % of the limit) of the 840 MiB beyond an idle "
        "worker. Cut short, it had taken 840 MiB of the 850 MiB that an empty worker "
        "has room for."
    )
    assert finding.advice == (
        "Give each worker more memory: `--memory-limit 1.9GiB`. `sum` needs at least "
        "840 MiB, and an empty worker of 0.98 GiB has room for 850 MiB; it will have "
        "room for 1.64 GiB.",
    )
    assert finding.thin == ""


def test_what_a_task_was_filling_when_it_was_cut_short_is_part_of_its_need():
    cut_short = suspect("sum-1", 300, filling=600 * MiB)
    known = running(cut_short, executing=300)
    assert need_of(known, cut_short) == 900 * MiB


def test_one_large_task_among_small_ones_is_too_large():
    small = [suspect(f"open-{n}", 5) for n in range(3)]
    assert weights(running(suspect("sum-1", 700), *small)) == {"task-too-large": 1.0}


def test_equal_tasks_of_which_each_would_fit_are_too_many():
    known = running(*(suspect(f"sum-{n}", 200) for n in range(4)))
    assert weights(known) == {"too-many-at-once": 1.0}


def test_of_two_unequal_tasks_that_are_new_neither_cause_is_sure():
    known = running(suspect("sum-1", 500), suspect("sum-2", 300))
    assert weights(known) == {"task-too-large": 0.5, "too-many-at-once": 0.5}


def test_a_task_whose_like_have_finished_with_as_much_is_not_too_large():
    usual = facts(expected={"sum": expected(finished=10, peak=450, most=600)})
    known = running(suspect("sum-1", 500), suspect("sum-2", 300), facts=usual)
    assert weights(known) == {"too-many-at-once": 1.0}


def test_two_finished_tasks_say_too_little_of_what_is_usual():
    usual = facts(expected={"sum": expected(finished=2, peak=450, most=600)})
    known = running(suspect("sum-1", 500), suspect("sum-2", 300), facts=usual)
    assert weights(known)["task-too-large"] == 0.5


def test_what_a_task_held_at_earlier_deaths_counts_as_its_need():
    again = suspect("sum-1", 500)
    known = running(
        again,
        suspect("sum-2", 300),
        attempts={"sum-1": (Attempt("1", "terminated", 800 * MiB),)},
    )
    assert weights(known)["task-too-large"] == 1.0
    (finding,) = task_too_large(known)
    assert "At 1 earlier death it had asked for up to 800 MiB." in finding.text


def test_a_task_that_would_have_fitted_alone_is_not_too_large():
    """Storage of 450 and a task of 400, which an empty worker has room for."""
    known = running(suspect("sum-1", 400), managed=450)
    assert weights(known) == {}


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
        "limit). 4 of them are `sum`. Cut short, they had taken 800 MiB of the 850 MiB "
        "that an empty worker has room for."
    )
    assert finding.thin == "no `open` has finished yet, so one alone may need more"


@pytest.mark.parametrize(
    ("peak", "running_now", "threads", "advice"),
    [
        (
            390,
            3,
            4,
            "Run 2 tasks at a time on each worker: `--nthreads 2`. One `load` needs "
            "390 MiB, so 3 need 1.14 GiB and a worker has room for 800 MiB once it "
            "has run some tasks; 2 will take 780 MiB.",
        ),
        (
            500,
            2,
            2,
            "Run 1 task at a time on each worker: `--nthreads 1`. One `load` needs "
            "500 MiB, so 2 need 0.98 GiB and a worker has room for 800 MiB once it "
            "has run some tasks; 1 will take 500 MiB.",
        ),
    ],
)
def test_the_advice_says_how_many_fit(peak, running_now, threads, advice):
    usual = facts(nthreads=threads, expected={"load": expected(peak=peak)})
    suspects = [suspect(f"load-{n}", 800 // running_now) for n in range(running_now)]
    (finding,) = too_many_at_once(running(*suspects, facts=usual))
    assert finding.advice[0] == advice


def test_without_measured_peaks_what_was_held_is_a_lower_bound():
    suspects = [suspect(f"load-{n}", 400) for n in range(2)]
    (finding,) = too_many_at_once(running(*suspects))
    assert (
        "One `load` needs at least 400 MiB, so 2 need at least 800 MiB"
        in finding.advice[0]
    )


def test_tasks_that_were_all_cut_short_are_planned_with_twice_what_they_held():
    (finding,) = too_many_at_once(
        running(*(suspect(f"load-{n}", 200) for n in range(4)))
    )
    assert "`--nthreads 2`. One `load` needs at least 200 MiB" in finding.advice[0]


def test_one_task_that_has_finished_is_enough_to_plan_with():
    usual = facts(nthreads=4, expected={"load": expected(1, peak=390)})
    suspects = [suspect(f"load-{n}", 200) for n in range(4)]
    (finding,) = too_many_at_once(running(*suspects, facts=usual))
    assert "`--nthreads 2`. One `load` needs 390 MiB" in finding.advice[0]


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
    assert finding.text == (
        "`sum` could not get what it needs. It asked for 2 GiB for an array of shape "
        "(268435456,): more than the worker's limit of 0.98 GiB."
    )
    assert finding.advice == (
        "Give each worker more memory: `--memory-limit 4.4GiB`. `sum` needs at least "
        "2 GiB, and an empty worker of 0.98 GiB has room for 850 MiB; it will have "
        "room for 4 GiB.",
    )


def test_a_task_that_the_guard_does_not_run_any_more_is_too_large():
    known = case(
        "memory-error",
        detail="task 'load-1' of 'load' needs at least 700 MiB. An empty worker has "
        "400 MiB in use already, of 0.98 GiB at most. It was stopped once before it "
        "could end a worker, and is not run again. Make its chunks smaller",
        tasks=(task("load-1"),),
        # another task fills the worker that it was refused on
        breakdown=parts(executing=700),
        suspects=(suspect("sum-1", 700),),
    )
    told = diagnose(known)
    assert (told.cause, told.prefix) == ("task-too-large", "load")
    assert told.confidence >= 0.9
    assert (
        "`load` has no room on any worker. The guard does not run it any more: it "
        "needs at least 700 MiB of the 0.98 GiB that the largest worker has, as was "
        "seen when it ran."
    ) in told.text
    assert "`--memory-limit" in told.advice[0]


def test_a_request_of_terabytes_is_too_large_and_no_memory_is_advised():
    (finding,) = task_too_large(
        case(
            "memory-error",
            detail="Unable to allocate 256. TiB for an array with shape (2, 3)",
            tasks=(task("outer-1"),),
        )
    )
    assert (finding.prefix, finding.weight) == ("outer", 1.0)
    assert "It asked for 256 TiB" in finding.text
    assert "No worker has that." in finding.text
    assert "--memory-limit" not in finding.advice[0]


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


def test_the_one_that_dominates_is_not_blamed_where_another_may_hold_the_rest():
    known = case(
        breakdown=parts(executing=850),
        suspects=(
            suspect("mid-1", 340, grown=675 * MiB),
            suspect("mid-2", 0, grown=800 * MiB),
        ),
    )
    assert diagnose(known).cause != "task-too-large"


def test_a_task_that_still_grows_beside_a_trifle_is_not_known_to_need_no_more():
    """Two deaths at one size may be chance: its workers have the same limit."""
    known = case(
        breakdown=parts(executing=800, managed=40),
        suspects=(
            suspect("hog-1", 700, grown=740 * MiB),
            suspect("small-1", 40, grown=300 * MiB),
        ),
        attempts={"hog-1": (Attempt("1", "terminated", 701 * MiB),)},
        timeline=((T0 - 1, 200 * MiB), (T0 - 0.1, 900 * MiB), (T0, 940 * MiB)),
    )
    assert diagnose(known).key == "hog-1"


def test_what_came_after_the_last_look_came_as_fast_as_what_tasks_held_by_then():
    known = case(
        evidence="heartbeat",
        breakdown=parts(executing=900),
        unseen=400 * MiB,
        suspects=(
            suspect("hog-1", 400, grown=850 * MiB, seconds=2.0),
            suspect("small-1", 100, grown=890 * MiB, seconds=0.25),
        ),
    )
    assert give_out(known).charged == {"hog-1": 130 * MiB, "small-1": 260 * MiB}


# -- whom to charge ------------------------------------------------------------


def alone(counted, executing, **more):
    """One running task that counted so much of what was in execution."""
    return case(
        breakdown=parts(executing=executing),
        suspects=(suspect("native-1", counted, **more),),
    )


def test_growth_while_a_task_ran_is_its_own_though_not_counted():
    """Native code that allocates by itself."""
    known = alone(0, 800, grown=800 * MiB)
    (finding,) = task_too_large(known)
    assert (finding.key, round(finding.weight, 2)) == ("native-1", 0.85)
    assert finding.thin == "most of what the task held was not counted"
    assert finding.text == (
        "The process grew by 800 MiB that nobody counted while native-1 ran, of the "
        "800 MiB beyond an idle worker. Native code of this task may have taken it; "
        "0 B were counted. An empty worker has room for 850 MiB."
    )
    assert finding.advice == ()  # what it needs is a guess


def test_which_of_several_tasks_took_what_nobody_counted_is_not_known():
    """They may all have read one file through a memory map."""
    known = case(
        breakdown=parts(executing=800),
        suspects=tuple(
            suspect(f"scan-{n}", 1, grown=800 * MiB, seconds=1.0) for n in range(2)
        ),
    )
    said = diagnose(known)
    assert (said.cause, said.prefix, said.advice) == ("unaccounted", None, ())
    assert said.confidence < 0.8
    assert "798 MiB belong to no stored output and no task's count." in said.text
    assert "Up to 798 MiB of it came while `scan` ran" in said.text


def test_a_task_is_charged_at_most_with_what_came_since_it_began():
    """It counted 8 MiB, 20 MiB came since it began, and 772 MiB were there before."""
    known = alone(8, 792, grown=20 * MiB)
    growth = give_out(known)
    assert growth.charged == {"native-1": 12 * MiB}
    assert growth.unaccounted == 772 * MiB
    assert weights(known) == {}


def test_a_task_is_charged_at_least_with_its_count():
    known = alone(300, 800, grown=100 * MiB)
    assert held_by(known, known.suspects[0]) == 300 * MiB


def test_a_task_whose_like_have_finished_with_little_is_hardly_charged():
    usual = facts(expected={"native": expected(finished=50, peak=8)})
    known = alone(8, 800, grown=800 * MiB)
    known = case(breakdown=known.breakdown, suspects=known.suspects, facts=usual)
    assert (give_out(known).charged, give_out(known).belief) == (
        {"native-1": 792 * MiB},
        0.3,
    )


def test_what_the_process_had_when_a_task_began_is_read_off_its_timeline():
    timeline = ((T0, 100 * MiB), (T0 + 1, 700 * MiB), (T0 + 4, 900 * MiB))
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("native-1", 8, seconds=2.5),),
        timeline=timeline,
    )
    assert known.grown_since(known.suspects[0]) == 200 * MiB
    assert give_out(known).unaccounted == 600 * MiB


def test_inputs_are_part_of_what_a_task_needs():
    inputs = TaskInputs(count=20, size=500 * MiB, n_fetched=10, fetched=250 * MiB)
    known = running(suspect("join-1", 400, inputs=inputs), managed=430)
    assert need_of(known, known.suspects[0]) == 900 * MiB
    (finding,) = task_too_large(known)
    assert finding.weight == pytest.approx(1.0)
    assert "Its 20 inputs take 500 MiB." in finding.text


@pytest.mark.parametrize(
    ("inputs", "advice"), [(1, 'x.rechunk("128MiB")'), (2, 'x.rechunk("64MiB")')]
)
def test_chunks_are_cut_by_what_the_task_needs_of_each(inputs, advice):
    known = running(
        suspect("map-1", 400, inputs=TaskInputs(inputs, 500 * MiB, 0, 0)),
        managed=430,
        facts=facts(held={"open": held(types=("numpy.ndarray",), awaited=430)}),
    )
    (finding,) = task_too_large(known)
    assert advice in finding.advice[0]


def test_no_smaller_chunks_are_advised_to_a_task_that_gathers_many():
    known = running(
        suspect("join-1", 400, inputs=TaskInputs(20, 500 * MiB, 0, 0)),
        managed=430,
        facts=facts(held={"open": held(types=("numpy.ndarray",), awaited=430)}),
    )
    (finding,) = task_too_large(known)
    assert [advice.partition(":")[0] for advice in finding.advice] == [
        "Give each worker more memory"
    ]


def test_copies_of_a_large_piece_that_a_shuffle_sends_are_its_tasks():
    """16 chunks are joined into one of 300 MiB, which is split and sent."""
    name = "rechunk-merge-rechunk-transfer"
    inputs = TaskInputs(count=16, size=200 * MiB, n_fetched=12, fetched=150 * MiB)
    known = running(
        suspect(f"{name}-7", 200, prefix=name, inputs=inputs, grown=210 * MiB),
        executing=600,
        managed=200,
        facts=facts(expected={name: expected(20, left=900)}),
    )
    (finding,) = task_too_large(known)
    assert (finding.prefix, round(finding.weight, 2)) == (name, 0.93)
    assert "340 MiB of that are copies of its pieces on their way." in finding.text
    assert "Dask joins chunks up to `array.chunk-size`" in finding.text
    assert '{"array.chunk-size": "64MiB"}' in finding.advice[0]
    assert weights(known).keys() == {"task-too-large"}


def test_a_shuffles_task_that_its_own_copies_leave_no_room_for_is_too_large():
    """Its like have finished with the same peak, beside fewer copies by chance."""
    name = "rechunk-merge-rechunk-transfer"
    inputs = TaskInputs(count=11, size=220 * MiB, n_fetched=8, fetched=160 * MiB)
    known = running(
        suspect(f"{name}-7", 220, prefix=name, inputs=inputs, grown=220 * MiB),
        executing=350,
        managed=400,
        facts=facts(
            expected={name: expected(23, peak=440)},
            held={"random": held(by=name, awaited=400)},
            awaited={"random": 400},
            order=OrderFacts(
                graph="graph-1",
                done=122,
                total=471,
                ideal=20 * MiB,
                held=1600 * MiB,
                minimum=900 * MiB,
                capacity=3400 * MiB,
                run_ahead={"random": 1580 * MiB},
            ),
        ),
        storage=(stored("random", 400),),
    )
    assert need_of(known, known.suspects[0]) == (220 + 440 + 220) * MiB
    found = diagnose(known)
    assert (found.cause, found.prefix) == ("task-too-large", name)
    assert '{"array.chunk-size": "64MiB"}' in found.advice[0]
    assert (
        "It needs at least 880 MiB, 220 MiB of it copies to be sent, and an empty "
        "worker has room for 850 MiB. 23 tasks of "
        "`rechunk-merge-rechunk-transfer` had finished, with peaks of 440 MiB."
    ) in found.text


def test_a_shuffles_task_that_has_just_begun_is_too_large_not_what_it_waits_for():
    """Its worker has loaded on for the next one, and it has counted little yet."""
    name = "rechunk-merge-rechunk-transfer"
    inputs = TaskInputs(count=18, size=280 * MiB, n_fetched=0, fetched=0)
    known = running(
        suspect(f"{name}-1", 90, prefix=name, inputs=inputs, grown=200 * MiB),
        executing=330,
        managed=520,
        facts=facts(
            held={"random": held(by=name, awaited=520)},
            awaited={"random": 570},
            order=OrderFacts(
                graph="graph-1",
                done=68,
                total=397,
                ideal=15 * MiB,
                held=570 * MiB,
                minimum=280 * MiB,
                capacity=1700 * MiB,
                run_ahead={"random": 555 * MiB},
            ),
        ),
        storage=(stored("random", 520),),
    )
    # Joined, and copied piece by piece, and copied once more to be sent.
    assert need_of(known, known.suspects[0]) == 4 * 280 * MiB
    found = diagnose(known)
    assert (found.cause, found.prefix) == ("task-too-large", name)
    assert '{"array.chunk-size": "64MiB"}' in found.advice[0]


def test_chunks_that_dask_joins_are_made_smaller_by_the_line_that_is_advised():
    inputs = TaskInputs(count=16, size=108 * MiB, n_fetched=12, fetched=81 * MiB)
    joined = suspect("rechunk-merge-7", 800, prefix="rechunk-merge", inputs=inputs)
    (finding,) = task_too_large(running(joined))
    assert finding.advice[0] == (
        "Let Dask join chunks into smaller ones, before the graph is built: "
        '`dask.config.set({"array.chunk-size": "32MiB"})`. `rechunk-merge` works on '
        "108 MiB at a time and needs at least 908 MiB; with 32 MiB it will need about "
        "269 MiB."
    )


def test_chunks_are_advised_that_fit_beside_what_a_client_holds():
    inputs = TaskInputs(1, 400 * MiB, 0, 0)
    known = case(
        breakdown=parts(managed=400, executing=400),
        suspects=(suspect("sum-1", 400, inputs=inputs),),
        storage=(stored("open", 400),),
        facts=facts(held={"open": held(types=("numpy.ndarray",), pinned=400)}),
    )
    # 850 MiB of room, 400 of them the client's, for twice 800 MiB: 400 * 0.28.
    (finding,) = task_too_large(known)
    source, cut, *_ = finding.advice
    assert cut.startswith('Make chunks smaller: `x = x.rechunk("64MiB")`')
    # Spilling leaves 350 MiB between target and ceiling, for twice 800 MiB.
    assert source.startswith(
        'Make chunks smaller where they are made: give `chunks="64MiB"` to what makes '
        "`open`. A client holds 400 MiB of it in memory."
    )


def about_to_begin(key="sum-1", size=400, grown=300, spilled=380, **more):
    """Make a case of a task whose inputs were read back when its worker died."""
    inputs = TaskInputs(20, size * MiB, 0, 0)
    task_ = suspect(key, 0, inputs=inputs, grown=grown * MiB, gathering=True, **more)
    return case(
        breakdown=parts(executing=700, managed=50, spilled=spilled), suspects=(task_,)
    )


@pytest.mark.parametrize(
    ("known", "expected_size"),
    [
        (about_to_begin(), 300),
        (about_to_begin(grown=600), 380),
        (about_to_begin(grown=600, spilled=100), 100),
        (about_to_begin(size=200), 200),
        (about_to_begin(grown=0), 0),
    ],
)
def test_what_was_read_back_for_a_task_is_bounded_by_all_that_is_known(
    known, expected_size
):
    assert held_by(known, known.suspects[0]) == expected_size * MiB
    assert known.in_use == known.inputs_in_use == expected_size * MiB


def test_inputs_read_back_for_a_task_that_is_about_to_begin_are_the_tasks():
    known = about_to_begin(grown=600, size=600, spilled=600)
    diagnosis = diagnose(known)
    assert (diagnosis.cause, diagnosis.key) == ("task-too-large", "sum-1")
    text = diagnosis.findings[0].text
    assert text.startswith(
        "sum-1 was about to begin, and all of its inputs have to be in memory at once. "
        "600 MiB of them had just been read back from disk"
    )
    assert "Its 20 inputs take 600 MiB." in text


def test_little_that_was_read_back_beside_much_that_nobody_counted_is_not_blamed():
    assert diagnose(about_to_begin(grown=60)).cause == "unaccounted"


def test_a_task_that_joins_chunks_makes_as_much_as_its_inputs_before_it_has_run():
    known = about_to_begin(
        "rechunk-merge-1", 450, 400, spilled=450, prefix="rechunk-merge"
    )
    assert need_of(known, known.suspects[0]) == 900 * MiB
    (finding,) = task_too_large(known)
    assert finding.weight >= 0.75
    assert finding.advice[0] == (
        "Let Dask join chunks into smaller ones, before the graph is built: "
        '`dask.config.set({"array.chunk-size": "128MiB"})`. `rechunk-merge` works on '
        "450 MiB at a time and needs at least 900 MiB; with 128 MiB it will need about "
        "256 MiB."
    )


# -- modules that come with the tasks --------------------------------------------------


def with_modules(loaded, task=500, baseline=(100, 300), process=950, **more):
    """Make a case of a young worker's first task, whose modules came with it."""
    own = suspect("sum-1", task, grown=task * MiB, **more)
    rest = process - baseline[-1] - task
    return case(
        breakdown=parts(baseline=baseline[-1], executing=task + rest),
        suspects=(own,),
        timeline=((T0, 100 * MiB), (T0 + 1, process * MiB)),
        facts=facts(baseline=baseline, loaded=loaded * MiB),
    )


def test_modules_that_came_with_a_task_are_no_growth_that_nobody_counted():
    known = with_modules(loaded=200, task=650)
    assert (known.idle, known.risen) == (300 * MiB, 0)
    assert known.usable == 650 * MiB
    said = diagnose(known)
    assert (said.cause, said.prefix, said.key) == ("task-too-large", "sum", "sum-1")
    assert said.confidence > 0.9
    assert [finding.cause for finding in said.findings] == ["task-too-large"]
    assert "200 MiB beside that came with the tasks before they ran" in said.text


def test_a_task_that_would_have_fitted_beside_its_modules_is_not_to_blame():
    known = with_modules(loaded=200, task=100, baseline=(100, 850))
    assert known.risen == 550 * MiB
    said = diagnose(known)
    assert said.cause == "unaccounted"


def test_what_is_more_than_half_of_a_workers_room_is_not_taken_for_modules():
    known = with_modules(loaded=600, task=150, baseline=(100, 800))
    assert (known.loaded, known.risen) == (425 * MiB, 275 * MiB)
    assert diagnose(known).cause == "unaccounted"


def test_modules_of_a_little_more_than_half_of_a_small_workers_room_are_modules():
    known = with_modules(loaded=440, task=430, baseline=(100, 540), process=970)
    assert (known.loaded, known.risen) == (425 * MiB, 15 * MiB)
    said = diagnose(known)
    assert (said.cause, said.key) == ("task-too-large", "sum-1")
    assert said.confidence > 0.9


def test_modules_that_the_first_report_had_already_are_not_taken_off_twice():
    known = with_modules(loaded=200, baseline=(300, 500))
    facts_ = replace(known.facts, loaded_before=200 * MiB)
    known = replace(known, facts=facts_)
    assert (known.idle, known.risen, known.loaded) == (300 * MiB, 200 * MiB, 0)


def test_accounts_add_up_with_modules_that_are_gone_again():
    known = with_modules(loaded=200, baseline=(100, 150), task=700)
    assert (known.idle, known.risen, known.loaded) == (150 * MiB, 0, 50 * MiB)
