"""Processes that tasks start: killed by the kernel, ended by themselves, too large."""

import math

import pytest
from builders import MiB
from cases import case, facts, parts, suspect, task

from dask_memdash.analysis.incidents.diagnose import diagnose
from dask_memdash.analysis.incidents.rules.children import children
from dask_memdash.model.event_parts import ChildRow


def row(key="sum-1", peak=600, rss=None, killed=0, processes=1, command="ffmpeg"):
    """Make the processes of one task; sizes in MiB."""
    now = peak if rss is None else rss
    prefix = key.partition("-")[0]
    sizes = {"rss": now * MiB, "peak": peak * MiB}
    return ChildRow(prefix, key, command, processes, 3, **sizes, killed=killed)


def with_children(*rows, kind="oom-killed", **more):
    """Make a case of a worker of 300 MiB whose tasks started processes."""
    values = {
        "breakdown": parts(executing=200),
        "suspects": (suspect("sum-1", 200),),
        "facts": facts(children=tuple(rows)),
        **more,
    }
    return case(kind, **values)


def killed_child(*rows, key="sum-1"):
    """Make the incident of a process that was killed; the worker lives on."""
    return with_children(*rows, kind="memory-error", stage="child", tasks=(task(key),))


# -- one that the kernel killed --------------------------------------------------------


def test_a_child_that_was_killed_is_told_with_its_task_program_and_size():
    said = diagnose(killed_child(row(killed=1, processes=0, rss=0)))
    assert (said.cause, said.prefix, said.key) == ("overcommitted", "sum", "sum-1")
    assert 0.5 < said.confidence < 1
    assert (
        "3 processes that task sum-1 started (ffmpeg) had 600 MiB. The kernel counts "
        "them with the worker, and Dask's limit does not."
    ) in said.text
    (advice,) = said.advice
    assert "lower memory_limit by 600 MiB for each task" in advice


def test_the_child_of_the_task_that_lost_it_is_told_whatever_others_have():
    rows = (row(killed=1), row("inc-7", peak=900), row("inc-8", peak=950, killed=1))
    (finding,) = children(killed_child(*rows))
    assert (finding.key, finding.prefix) == ("sum-1", "sum")
    assert "had 600 MiB" in finding.text


def test_of_one_tasks_rows_the_killed_one_is_told():
    rows = (row(peak=900, command="sort"), row(killed=1))
    (finding,) = children(killed_child(*rows))
    assert "(ffmpeg) had 600 MiB" in finding.text


def test_where_the_key_is_not_known_the_prefix_will_do():
    (finding,) = children(killed_child(row("sum-2", killed=1)))
    assert (finding.key, finding.prefix) == ("sum-2", "sum")


@pytest.mark.parametrize(
    "rows", [(), (row("inc-7", peak=900, killed=1),), (row(peak=0, killed=1),)]
)
def test_a_killed_child_that_nobody_measured_has_no_cause(rows):
    said = diagnose(killed_child(*rows))
    assert (said.cause, said.prefix, said.findings) == ("unknown", None, ())
    assert said.text == (
        "The cause is not known: nobody saw how much memory the process had that was "
        "killed."
    )


def test_a_task_that_raised_a_memory_error_itself_is_not_put_down_to_its_children():
    assert list(children(with_children(row(), kind="memory-error"))) == []


# -- beside a worker that the kernel killed --------------------------------------------


def test_children_are_weighed_against_what_the_worker_took_itself():
    (finding,) = children(with_children(row(peak=600)))
    assert finding.weight == pytest.approx(600 / 800)  # the worker's own: 200
    assert (finding.cause, finding.prefix) == ("overcommitted", "sum")


def test_the_largest_of_several_is_told_and_all_of_them_weigh():
    (finding,) = children(with_children(row(peak=100), row("inc-7", peak=200)))
    assert finding.key == "inc-7"
    assert finding.weight == pytest.approx(300 / 500)


def test_what_a_child_has_now_counts_not_what_it_had_at_most():
    (finding,) = children(with_children(row(peak=900, rss=50)))
    assert finding.weight == pytest.approx(50 / 250)


def test_a_child_that_ended_by_itself_before_has_no_part_in_it():
    assert list(children(with_children(row(peak=900, rss=0, processes=0)))) == []


def test_a_child_that_fell_with_its_worker_counts_with_what_it_had_at_most():
    fell = row(peak=600, rss=0, processes=0, killed=1)
    (finding,) = children(with_children(fell))
    assert finding.weight == pytest.approx(600 / 800)


def test_a_trifle_beside_a_large_worker_is_not_told():
    small = with_children(row(peak=20), breakdown=parts(executing=800))
    assert list(children(small)) == []


@pytest.mark.parametrize("kind", ["terminated", "exited", "crashed", "lost", "killed"])
def test_children_are_beside_the_limit_of_a_worker_that_others_ended(kind):
    """The nanny looks at the worker's own process alone."""
    known = with_children(row(peak=5_000), kind=kind)
    assert list(children(known)) == []
    assert diagnose(known).cause != "overcommitted"


def test_a_worker_that_is_near_the_kernels_limit_is_told_what_its_children_have():
    (finding,) = children(with_children(row(), kind="kernel-near"))
    assert "had 600 MiB" in finding.text


# -- evidence that cannot be -----------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        row(key="", command=""),
        row(key="x" * 10_000, command="a\nb" * 500),
        row(peak=2**40),
        row(killed=10**9, processes=0),
        row(peak=0),
        row(peak=1, rss=500),
    ],
)
@pytest.mark.parametrize("kind", ["oom-killed", "memory-error", "kernel-near"])
def test_evidence_that_cannot_be_makes_no_diagnosis_that_cannot_be(bad, kind):
    stage = "child" if kind == "memory-error" else ""
    known = with_children(bad, kind=kind, stage=stage, tasks=(task(),), detail="near")
    for finding in children(known):
        assert 0 <= finding.weight <= 1
        assert math.isfinite(finding.weight)
        assert len(finding.text) < 1_000
    assert 0 <= diagnose(known).confidence <= 1


def test_processes_of_which_neither_task_nor_program_is_known_are_told_as_such():
    (finding,) = children(with_children(row(key="", command="")))
    assert finding.text.startswith(
        "3 processes that a task started (unknown program) had 600 MiB."
    )
    assert (finding.prefix, finding.key) == (None, None)


def test_where_nothing_is_known_of_the_worker_its_children_are_told_all_the_same():
    (finding,) = children(with_children(row(), breakdown=None))
    assert 0 < finding.weight <= 1
