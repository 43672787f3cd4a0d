"""Rules on the process: buffers, leaks, the allocator, limits, ends without memory."""

from dataclasses import replace

import pytest
from builders import MiB
from cases import (
    T0,
    case,
    ended,
    expected,
    facts,
    held,
    host,
    order,
    parts,
    suspect,
)

from dask_memdash.analysis.incidents.diagnose import diagnose
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.plausible import plausible
from dask_memdash.analysis.incidents.rules.actor_state import actor_state
from dask_memdash.analysis.incidents.rules.crash import crash
from dask_memdash.analysis.incidents.rules.external import external
from dask_memdash.analysis.incidents.rules.graph import graph
from dask_memdash.analysis.incidents.rules.leak import leak
from dask_memdash.analysis.incidents.rules.overcommitted import overcommitted
from dask_memdash.analysis.incidents.rules.retained import retained
from dask_memdash.analysis.incidents.rules.transfer import transfer
from dask_memdash.analysis.incidents.rules.unaccounted import unaccounted
from dask_memdash.analysis.incidents.rules.unresponsive import unresponsive
from dask_memdash.model.event_parts import ActorRow, GraphRow, SpillRoom, TaskInputs

# -- transfer ------------------------------------------------------------------


def test_buffers_are_transfer_and_the_shuffles_prefix_is_named():
    (finding,) = transfer(
        case(
            breakdown=parts(transfer=600, executing=200),
            suspects=(
                suspect("x-rechunk-transfer-1", 200, prefix="x-rechunk-transfer"),
            ),
        )
    )
    assert (finding.weight, finding.prefix) == (0.75, "x-rechunk-transfer")
    assert "no buffer" not in finding.text


def test_buffers_of_pieces_that_hardly_fit_are_advised_to_be_smaller():
    name = "rechunk-merge-rechunk-transfer"
    inputs = TaskInputs(count=11, size=200 * MiB, n_fetched=8, fetched=160 * MiB)
    piece = suspect(f"{name}-1", 400, prefix=name, inputs=inputs)
    (finding,) = transfer(
        case(breakdown=parts(managed=200, transfer=400), suspects=(piece,))
    )
    assert '{"array.chunk-size": "64MiB"}' in finding.advice[0]


def test_buffers_of_small_pieces_are_advised_to_go_to_disk():
    inputs = TaskInputs(count=1, size=20 * MiB, n_fetched=0, fetched=0)
    piece = suspect("rechunk-transfer-1", 40, prefix="rechunk-transfer", inputs=inputs)
    (finding,) = transfer(case(breakdown=parts(transfer=800), suspects=(piece,)))
    assert '{"distributed.p2p.storage.disk": True, ' in finding.advice[0]


def test_what_a_shuffles_tasks_have_handed_over_is_transfer_and_no_leak():
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("shuffle-transfer-1", 0, prefix="shuffle-transfer"),),
        facts=facts(expected={"shuffle-transfer": expected(20, left=800)}),
    )
    (finding,) = transfer(known)
    assert (finding.weight, finding.prefix) == (1.0, "shuffle-transfer")
    assert finding.text.endswith(
        "800 MiB of it are in no buffer that Dask tells of: pieces that tasks had "
        "handed over, or copies of them."
    )
    assert list(leak(known)) == []


def test_copies_of_what_is_in_a_shuffles_buffers_are_its_own_and_not_nobodys():
    known = case(
        breakdown=parts(transfer=100, baseline=500),
        facts=facts(
            baseline=(100, 100), expected={"x-rechunk-transfer": expected(2, peak=None)}
        ),
    )
    assert give_out(known).moved == {"x-rechunk-transfer": 400 * MiB}
    assert give_out(known).unaccounted == 0
    (finding,) = transfer(known)
    assert (finding.weight, finding.prefix) == (1.0, "x-rechunk-transfer")
    # Without a shuffle nobody is known who would have copied anything.
    assert give_out(replace(known, facts=facts(baseline=(100, 100)))).moved == {}


def test_the_advice_on_a_shuffle_fits_its_buffers_into_the_worker():
    known = case(
        breakdown=parts(transfer=600, executing=200),
        suspects=(suspect("x-rechunk-transfer-1", 200, prefix="x-rechunk-transfer"),),
    )
    (finding,) = transfer(known)
    assert finding.advice == (
        "Let P2P shuffles write to disk, through smaller buffers, before the workers "
        'start: `dask.config.set({"distributed.p2p.storage.disk": True, '
        '"distributed.p2p.comm.buffer": "32MiB", "distributed.p2p.storage.buffer": '
        '"32MiB", "distributed.p2p.comm.concurrency": 10})`. 600 MiB were in buffers, '
        "and none of the shuffle on disk. A worker has room for 800 MiB; two "
        "buffers of 32 MiB and 10 messages of 2 MiB on their way will take about 164 "
        "MiB.",
    )


def test_without_buffers_there_is_no_transfer():
    assert list(transfer(case(breakdown=parts(managed=800)))) == []


# -- leak ----------------------------------------------------------------------


def test_a_baseline_that_grows_bit_by_bit_is_a_leak_of_what_left_it():
    (finding,) = leak(
        case(
            breakdown=parts(baseline=900),
            facts=facts(
                baseline=(100, 300, 500, 700),
                expected={"sum": expected(100, left=850), "open": expected(100)},
            ),
        )
    )
    assert (finding.weight, finding.prefix, finding.thin) == (1.0, "sum", "")
    assert "100 tasks of `sum` ended holding 8.5 MiB more than their outputs" in (
        finding.text
    )


def test_the_advice_on_a_leak_restarts_workers_at_half_of_their_room():
    known = case(
        breakdown=parts(baseline=950),
        facts=facts(
            baseline=(100, 300, 500, 700),
            expected={"sum": expected(100, left=850)},
        ),
        instant=T0 + 200.0,
    )
    (finding,) = leak(known)
    assert finding.advice[0] == (
        "Let workers restart in turn until the leak is found: `--lifetime 100s "
        "--lifetime-stagger 25s --lifetime-restart`. 850 MiB gathered in 3 min 20 s; "
        "a worker will restart at about 425 MiB of the 850 MiB that it has."
    )
    assert finding.advice[1].startswith("Look in `sum` for what keeps 8.5 MiB a task")


def test_the_advice_on_a_leak_of_a_graph_that_ends_is_room_for_all_of_it():
    known = case(
        breakdown=parts(baseline=950),
        facts=facts(
            baseline=(100, 300, 500, 700),
            expected={"sum": expected(100, left=850)},
            order=replace(order(0, 0), done=100, total=240),
            host=replace(host(8000), siblings=2000 * MiB),
        ),
        instant=T0 + 200.0,
    )
    (finding,) = leak(known)
    assert finding.advice[0] == (
        "Give each worker room for what the whole graph leaves, until the leak is "
        "found: `--memory-limit 1.5GiB`. `sum` leaves 8.5 MiB a task. There are 240 "
        "tasks, 120 on each of 2 workers: 1 GiB on a worker, and an empty one has "
        "room for 850 MiB; it will have room for 1.25 GiB."
    )
    # A machine that has not that much.
    small = replace(known.facts, host=replace(host(1000), siblings=2000 * MiB))
    (finding,) = leak(replace(known, facts=small))
    assert finding.advice[0].startswith("Let workers restart in turn")


def test_no_lifetime_is_advised_where_it_is_not_known_how_fast_a_leak_grows():
    known = case(
        breakdown=parts(baseline=950),
        facts=facts(baseline=(100, 500), expected={"sum": expected(100, left=850)}),
    )
    (finding,) = leak(known)
    (advice,) = finding.advice
    assert advice.startswith("Look in `sum`")


def test_what_is_in_execution_and_held_by_no_task_was_left_by_those_before():
    """A worker that is never idle has no newer baseline."""
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("sum-9", 8),),
        facts=facts(expected={"sum": expected(80, peak=8, left=700)}),
    )
    assert give_out(known).leaked == {"sum": 792 * MiB}
    (finding,) = leak(known)
    assert (round(finding.weight, 2), finding.prefix) == (0.99, "sum")


def test_growth_that_no_count_leaves_behind_is_unaccounted_and_nobodys():
    known = case(
        breakdown=parts(baseline=700),
        facts=facts(baseline=(100, 300, 500), expected={"sum": expected(9)}),
    )
    assert list(leak(known)) == []
    (finding,) = unaccounted(known)
    assert (finding.prefix, finding.weight, finding.advice) == (None, 1.0, ())
    assert finding.text == (
        "600 MiB belong to no stored output and no task's count. A thread, a plugin, a "
        "cache or a library of the worker may keep it."
    )


def test_a_baseline_that_grew_in_one_step_is_told_too():
    """A cache that was filled once, or modules that the first task imports."""
    known = case(breakdown=parts(baseline=400), facts=facts(baseline=(100, 400)))
    assert list(leak(known)) == []
    (finding,) = unaccounted(known)
    assert finding.weight == 1.0
    assert "300 MiB belong to no stored output" in finding.text


def test_little_that_was_left_behind_does_not_explain_a_lot():
    known = case(
        breakdown=parts(executing=400),
        suspects=(suspect("sum-1", 100),),
        facts=facts(expected={"sum": expected(7, peak=90, left=1)}),
    )
    (finding,) = leak(known)
    assert finding.weight < 0.02
    assert give_out(known).running == 0, "its like have finished with 90 MiB"
    assert give_out(known).unaccounted == 296 * MiB


def test_two_tasks_do_not_make_a_leak():
    known = case(
        breakdown=parts(executing=400),
        suspects=(suspect("sum-1", 400),),
        facts=facts(expected={"sum": expected(2, left=300)}),
    )
    assert list(leak(known)) == []


def test_tasks_whose_prefix_is_new_may_hold_what_is_not_counted():
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("native-1", 10),),
        facts=facts(),
    )
    assert (give_out(known).running, list(leak(known))) == (790 * MiB, [])


@pytest.mark.parametrize(("came", "told"), [(10, False), (30, True)])
def test_a_trifle_that_came_while_tasks_ran_is_not_worth_a_word(came, told):
    running = tuple(
        suspect(f"scan-{n}", 1, grown=came * MiB, seconds=1.0) for n in range(2)
    )
    known = case(breakdown=parts(executing=800), suspects=running)
    (finding,) = unaccounted(known)
    assert ("while `scan` ran" in finding.text) is told


def test_with_estimates_what_was_there_before_the_running_tasks_is_unaccounted():
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("sum-1", 10, method="estimated"),),
    )
    assert give_out(known).unaccounted == 790 * MiB


# -- retained ------------------------------------------------------------------


def test_what_the_allocator_keeps_is_retained_by_whom_took_most():
    usual = {"sum": expected(10, peak=300), "open": expected(20, peak=5)}
    (finding,) = retained(
        case(
            breakdown=parts(retained=500, executing=300),
            facts=facts(expected=usual),
        )
    )
    assert (finding.weight, finding.prefix) == (0.625, "sum")
    assert finding.thin == "what the allocator keeps is an upper bound"
    assert "10 tasks with peaks of 300 MiB" in finding.text


def test_nothing_kept_is_not_retained():
    assert list(retained(case(breakdown=parts(executing=800)))) == []


# -- limits --------------------------------------------------------------------


def killed_by_kernel(process, **more):
    return case("oom-killed", breakdown=parts(executing=process - 100), **more)


def test_a_limit_above_what_the_cgroup_allows_is_told_with_both():
    (finding,) = overcommitted(killed_by_kernel(480, facts=facts(host=host(500))))
    assert finding.weight == 1.0
    assert finding.text == (
        "The kernel ended the worker at 480 MiB, below its own terminate threshold of "
        "0.93 GiB. Its limit promises 0.98 GiB, and its cgroup allows 500 MiB."
    )


def test_a_kernels_kill_far_below_the_limit_speaks_for_itself():
    (finding,) = overcommitted(killed_by_kernel(480))
    assert finding.weight == 0.85
    assert finding.thin == "what host and container allow is not known"


def test_a_kernels_kill_at_the_limit_is_not_the_limits_fault():
    assert list(overcommitted(killed_by_kernel(1000))) == []


def test_a_limit_that_the_cgroup_allows_is_not_too_high():
    known = killed_by_kernel(1000, facts=facts(host=host(2000)))
    assert list(overcommitted(known)) == []


def test_a_worker_that_its_nanny_terminated_reached_its_limit():
    known = case(breakdown=parts(executing=860), facts=facts(host=host(500)))
    assert list(overcommitted(known)) == []


def test_a_kill_by_nobody_known_at_what_the_cgroup_allows_is_the_limits_fault():
    known = case("killed", breakdown=parts(executing=380), facts=facts(host=host(500)))
    assert [f.cause for f in overcommitted(known)] == ["overcommitted"]
    idle = case("killed", breakdown=parts(), facts=facts(host=host(500)))
    assert list(overcommitted(idle)) == []


def test_a_kill_at_what_the_cgroup_allows_is_no_kill_from_outside():
    known = case("killed", breakdown=parts(executing=380), facts=facts(host=host(500)))
    assert plausible(known) == 1.0
    assert list(external(known)) == []


# -- not memory ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "exit_", "text"),
    [
        (
            "crashed",
            ended(signal=11),
            "A fault in native code ended the process while `sum` was running. Memory "
            "was short then, and native code may fail when it gets none: it used "
            "900 MiB, 90 % of its limit.",
        ),
        (
            "exited",
            ended(code=3),
            "The process ended by itself while `sum` was running. Neither its nanny "
            "nor the kernel ended it: it used 900 MiB, 90 % of its limit.",
        ),
    ],
)
def test_a_fault_under_pressure_is_weighed_with_memory_and_an_exit_is_not(
    kind, exit_, text
):
    known = case(
        kind,
        exit=exit_,
        breakdown=parts(executing=800),
        suspects=(suspect("sum-1", 800),),
    )
    (finding,) = crash(known)
    assert (finding.key, finding.text) == ("sum-1", text)
    memory = {"crashed": 0.35, "exited": 0.0}[kind]
    assert plausible(known) == pytest.approx(memory, abs=0.01)
    assert finding.weight == pytest.approx(1 - memory, abs=0.01)


def test_of_several_tasks_none_is_blamed_for_a_fault():
    known = case("crashed", suspects=(suspect("a-1"), suspect("b-1")))
    (finding,) = crash(known)
    assert (finding.prefix, finding.key) == (None, None)


@pytest.mark.parametrize(
    ("process", "possible"), [(200, 0.0), (750, 0.0), (835, 0.5), (920, 1.0)]
)
def test_a_kill_from_outside_is_the_less_external_the_fuller_the_worker(
    process, possible
):
    known = case("killed", breakdown=parts(executing=process - 100))
    assert plausible(known) == pytest.approx(possible)
    assert [f.weight for f in external(known)] == (
        [pytest.approx(1 - possible)] if possible < 1 else []
    )


@pytest.mark.parametrize("kind", ["terminated", "oom-killed"])
def test_some_kinds_are_about_memory_alone(kind):
    known = case(kind)
    assert plausible(known) == 1.0
    assert [*crash(known), *external(known)] == []


def test_held_types_are_not_needed_for_what_is_no_lie():
    known = case(
        breakdown=parts(managed=700),
        facts=facts(held={"open": held(pinned=700)}, claimed={"open": 700}),
    )
    assert give_out(known).hidden == {}


# -- what was sent, and what actors keep ------------------------------------------


def test_arguments_of_which_not_all_is_in_memory_are_told_with_both_figures():
    known = case(
        breakdown=parts(baseline=700),
        facts=facts(
            baseline=(100, 500), graph={"score": GraphRow(8, 900 * MiB, 50_000)}
        ),
    )
    (finding,) = graph(known)
    assert "closures are 900 MiB, of which at least 600 MiB was in its" in finding.text


def test_arguments_that_came_with_tasks_are_graph_and_scatter_is_advised():
    known = case(
        breakdown=parts(baseline=700),
        facts=facts(
            baseline=(100, 500), graph={"score": GraphRow(8, 560 * MiB, 50_000)}
        ),
    )
    (finding,) = graph(known)
    assert (finding.prefix, round(finding.weight, 2)) == ("score", 0.93)
    assert finding.text.startswith(
        "8 tasks of `score` had been sent to the worker, and their arguments and "
        "closures took 560 MiB."
    )
    assert "`x = client.scatter(x)`" in finding.advice[0]
    assert [f.cause for f in unaccounted(known)] == ["unaccounted"]


def test_records_of_many_small_tasks_are_graph_and_batches_are_advised():
    known = case(
        breakdown=parts(baseline=200),
        facts=facts(baseline=(100,), graph={"one": GraphRow(15_000, 0, 97 * MiB)}),
    )
    (finding,) = graph(known)
    assert "15,000 tasks of `one`" in finding.text
    assert "Dask's records of them took 97 MiB" in finding.text
    assert "[one(x) for x in batch]" in finding.advice[0]
    assert "150 records will take 0.97 MiB" in finding.advice[0]


def test_the_parts_graph_and_actors_belong_to_their_prefixes_and_to_nobody_else():
    known = case(
        breakdown=parts(baseline=150, graph=192, actors=80),
        facts=facts(
            baseline=(100,),
            graph={"score": GraphRow(8, 183 * MiB, 1 * MiB)},
            actors={"Counter": ActorRow(1, 80 * MiB, 0)},
        ),
    )
    growth = give_out(known)
    assert growth.graph == {"score": 192 * MiB}
    assert growth.actors == {"Counter": 80 * MiB}
    assert growth.unaccounted == 50 * MiB
    (sent,), (kept,) = graph(known), actor_state(known)
    assert "took 192 MiB" in sent.text
    assert kept.text.startswith("1 actor of `Counter` kept 80 MiB. Dask")


def test_what_was_sent_since_the_part_was_counted_comes_out_of_what_grew():
    known = case(
        breakdown=parts(baseline=400, graph=100),
        facts=facts(baseline=(100,), graph={"score": GraphRow(8, 250 * MiB, 0)}),
    )
    growth = give_out(known)
    assert growth.graph == {"score": 250 * MiB}
    assert growth.unaccounted == 150 * MiB


def test_a_graph_of_which_no_prefix_is_known_is_a_graph_all_the_same():
    known = case(breakdown=parts(graph=300, actors=50), facts=facts(baseline=(100,)))
    (sent,), (kept,) = graph(known), actor_state(known)
    assert (sent.prefix, kept.prefix) == (None, None)
    assert "took 300 MiB" in sent.text
    assert "`x = client.scatter(x)`" in sent.advice[0]


def test_what_an_actor_keeps_is_its_prefixes():
    known = case(
        breakdown=parts(baseline=800),
        facts=facts(
            baseline=(100, 600),
            actors={"Counter": ActorRow(1, 700 * MiB, 680 * MiB)},
        ),
    )
    (finding,) = actor_state(known)
    assert (finding.prefix, round(finding.weight, 2)) == ("Counter", 0.97)


def test_a_worker_given_up_by_the_scheduler_was_unresponsive():
    known = case("lost", suspects=(suspect("spin-1", 1),), unresponsive=2.5)
    (finding,) = unresponsive(known)
    assert (finding.prefix, finding.key) == ("spin", "spin-1")
    assert "had not answered for 2.5 s" in finding.text
    assert finding.advice == (
        "Allow more time, before the scheduler starts: "
        '`dask.config.set({"distributed.scheduler.worker-ttl": "60s"})`. The worker '
        "was silent for 2.5 s.",
    )
    assert plausible(known) == 0.0


def test_growth_after_the_last_heartbeat_is_not_said_to_be_nobodys():
    known = case(breakdown=parts(baseline=500), facts=facts(baseline=(100,)))
    (finding,) = unaccounted(known)
    assert finding.text.startswith("400 MiB belong to no stored output")
    unseen = replace(known, evidence="heartbeat", unseen=400 * MiB)
    assert list(unaccounted(unseen)) == []
    said = diagnose(unseen)
    assert said.cause == "unknown"
    assert said.text == (
        "The cause is not known: it grew by 400 MiB after its last heartbeat, and no "
        "flight recorder says what ran then."
    )


def test_what_was_not_counted_belongs_first_to_the_task_that_is_not_measured():
    running = (
        suspect("small-1", 10, grown=600 * MiB),
        suspect("large-1", None, grown=590 * MiB),
    )
    known = case(
        breakdown=parts(executing=600),
        suspects=running,
        facts=facts(nthreads=2, baseline=(100,)),
    )
    assert give_out(known).charged == {"large-1": 590 * MiB}


IN_MEMORY = SpillRoom(shuffles_on_disk=False)


def handing_over(own, moved, **more):
    """A task of a shuffle that keeps all in memory, beside what it has kept."""
    name = "rechunk-merge-rechunk-transfer"
    return case(
        breakdown=parts(transfer=moved, executing=850 - moved, managed=0),
        suspects=(
            suspect(
                f"{name}-1",
                own,
                prefix=name,
                inputs=TaskInputs(2, own // 2 * MiB, 0, 0),
                grown=(850 - moved) * MiB,
            ),
        ),
        facts=facts(**more),
    )


def test_what_grows_beside_a_shuffle_in_memory_is_the_shuffles():
    found = diagnose(handing_over(100, 300, spill_room=IN_MEMORY))
    assert found.cause == "transfer"
    assert found.advice[0].startswith(
        "Let P2P shuffles write to disk, through smaller buffers, before the workers "
        'start: `dask.config.set({"distributed.p2p.storage.disk": True, '
    )
    # Of one on disk, what nobody counted are the copies of the task's large piece.
    on_disk = SpillRoom(shuffles_on_disk=True)
    found = diagnose(handing_over(300, 100, spill_room=on_disk))
    assert found.cause == "task-too-large"
    assert not any("storage.disk" in line for line in found.advice)


def test_a_task_too_large_beside_a_shuffle_in_memory_is_advised_the_disk_first():
    found = diagnose(handing_over(500, 100, spill_room=IN_MEMORY))
    assert found.cause == "task-too-large"
    assert '"distributed.p2p.storage.disk": True' in found.advice[0]
