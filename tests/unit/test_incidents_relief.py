"""Why nothing relieved the memory: the first reason that holds."""

import pytest
from builders import MiB
from cases import case, facts, held, host, order, parts, stored, storing, suspect, task

from dask_memdash.analysis.incidents.case import SpillFailure
from dask_memdash.analysis.incidents.relief import relief_of
from dask_memdash.model.event_parts import SpillRoom, TaskInputs, Thresholds
from dask_memdash.terms import CAUSES, NOT_MEMORY, RELIEFS

OFF = Thresholds(terminate=950 * MiB)


def full(**more):
    """A worker full of outputs that a client holds."""
    return storing("open", 840, held(pinned=840), **more)


def working(**more):
    """A worker full of one task's work."""
    return case(
        breakdown=parts(executing=840), suspects=(suspect("sum-1", 840),), **more
    )


def test_spilling_that_is_off_is_the_relief_of_outputs():
    relief = relief_of(full(facts={"thresholds": OFF}), "pinned")
    assert relief.name == "spilling-off"
    assert relief.text == ("Spilling is off, so 840 MiB of outputs stayed in memory.")
    assert "340 MiB of outputs would go to disk" in relief.advice[0]


def test_outputs_that_running_tasks_use_are_in_memory_and_cannot_be_spilled():
    inputs = TaskInputs(1, 400 * MiB, 0, 0)
    known = case(
        breakdown=parts(managed=400, executing=300),
        suspects=(suspect("sum-1", 300, inputs=inputs),),
    )
    told = relief_of(known, "task-too-large")
    assert told.name == "nothing-to-spill"
    assert told.text == (
        "Spilling cannot help: tasks were using 400 MiB of the 400 MiB of outputs in "
        "memory."
    )


def test_spilling_that_is_off_does_not_matter_where_nothing_is_stored():
    relief = relief_of(working(facts=facts(thresholds=OFF)), "task-too-large")
    assert relief.name == "nothing-to-spill"
    assert relief.text == "Spilling cannot help: no stored output was in memory."


def test_the_kernel_comes_before_spilling():
    known = full(facts={"thresholds": OFF, "host": host(500)})
    known = case(
        "oom-killed",
        breakdown=known.breakdown,
        storage=known.storage,
        facts=known.facts,
    )
    relief = relief_of(known, "pinned")
    assert relief.name == "limit-above-memory"
    assert "`--memory-limit 475MiB`" in relief.advice[0]


def test_the_kernel_is_not_to_blame_where_it_allows_what_the_limit_says():
    known = case(
        "oom-killed",
        breakdown=parts(executing=900),
        suspects=(suspect("sum-1", 900),),
        facts=facts(host=host(2000)),
    )
    assert relief_of(known, "task-too-large").name == "nothing-to-spill"


@pytest.mark.parametrize(
    ("reason", "name", "text", "advice"),
    [
        ("max-spill", "spill-full", "as much had been spilled as", '"1.3GiB"})`'),
        ("disk-full", "spill-full", "the disk was full", "1.22 GiB free"),
        ("disk-error", "spill-failing", "could not be written to", "--local-directory"),
        ("unpicklable", "spill-failing", "could not be pickled", "`lock` return"),
    ],
)
def test_failures_to_spill_say_what_stopped_it(reason, name, text, advice):
    known = full(spilled=200, spill_failures=(SpillFailure(reason, "lock", 3),))
    relief = relief_of(known, "pinned")
    assert relief.name == name
    assert text in relief.text
    assert "200 MiB had been spilled" in relief.text
    assert advice in relief.advice[0]


def test_room_on_disk_is_planned_for_the_outputs_that_are_still_to_come():
    """12 of 60 tasks stored 1.02 GiB, so that all will store five times as much."""
    failed = (SpillFailure("max-spill", "open", 3),)
    known = full(spilled=200, spill_failures=failed, facts={"order": order(300, 1000)})
    (advice,) = relief_of(known, "pinned").advice
    assert '"distributed.worker.memory.max-spill": "6.1GiB"' in advice
    assert "after 12 of 60 tasks; there will be at most about 5.08 GiB" in advice


def test_spilling_helps_no_task_that_was_refused_more_than_any_worker_has():
    known = case(
        "memory-error",
        detail="MemoryError: Unable to allocate 2 GiB for an array with shape (8,)",
        tasks=(task("sum-1"),),
        breakdown=parts(managed=500),
        storage=(stored("open", 500),),
    )
    assert relief_of(known, "task-too-large").name == "nothing-to-spill"


def test_a_failure_to_spill_is_an_incident_of_its_own_with_its_relief():
    known = case(
        "spill-failed",
        detail="disk-full: No space left on device",
        tasks=(task("open-1"),),
        breakdown=parts(managed=500),
        storage=(stored("open", 500),),
    )
    assert relief_of(known, "awaited").name == "spill-full"


@pytest.mark.parametrize(
    "room",
    [SpillRoom(max_spill=200 * MiB, disk_free=None), SpillRoom(None, disk_free=1000)],
)
def test_a_worker_that_can_spill_no_more_is_full_though_nothing_failed_yet(room):
    known = full(spilled=200, facts={"spill_room": room})
    assert relief_of(known, "pinned").name == "spill-full"


def test_outputs_that_are_in_use_cannot_be_freed():
    inputs = TaskInputs(count=10, size=800 * MiB, n_fetched=0, fetched=0)
    known = full(suspects=(suspect("sum-1", 5, inputs=inputs),))
    relief = relief_of(known, "awaited")
    assert relief.name == "nothing-to-spill"
    assert relief.text.startswith("800 MiB of them were in use")


def test_memory_that_rises_while_outputs_could_be_spilled_is_too_fast():
    known = full(timeline=((100.0, 300 * MiB), (101.5, 940 * MiB)))
    relief = relief_of(known, "pinned")
    assert relief.name == "too-fast"
    assert relief.text.endswith("memory rose too fast: by 640 MiB in 1.5 s.")


@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_a_memory_cause_of_a_death_always_has_a_relief_and_no_other_has(cause):
    for known in (full(), working(), case(), case(breakdown=None)):
        relief = relief_of(known, cause)
        if cause in NOT_MEMORY:
            assert relief is None
        else:
            assert relief.name in RELIEFS
