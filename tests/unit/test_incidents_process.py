"""Rules on the process: buffers, leaks, the allocator, limits, ends without memory."""

import pytest
from builders import MiB
from cases import case, ended, expected, facts, held, host, parts, suspect, task

from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.rules.host_limits import limit_too_high
from dask_memdash.analysis.incidents.rules.outside import (
    crash,
    external,
    plausible,
    requested,
)
from dask_memdash.analysis.incidents.rules.process import leak, retained, transfer

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


def test_what_a_shuffles_tasks_have_handed_over_is_transfer_and_no_leak():
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("shuffle-transfer-1", 0, prefix="shuffle-transfer"),),
        facts=facts(expected={"shuffle-transfer": expected(20, left=800)}),
    )
    (finding,) = transfer(known)
    assert (finding.weight, finding.prefix) == (1.0, "shuffle-transfer")
    assert list(leak(known)) == []


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


def test_growth_that_nobody_is_known_to_have_left_is_thin():
    (finding,) = leak(
        case(breakdown=parts(baseline=700), facts=facts(baseline=(100, 300, 500)))
    )
    assert (finding.prefix, finding.thin) == (
        None,
        "which tasks left it behind was not counted",
    )
    assert round(finding.weight, 2) == 0.67, "400 of 600, without the largest step"


@pytest.mark.parametrize(("others", "prefix"), [({}, "sum"), ({"open": 3}, None)])
def test_growth_that_was_not_counted_is_the_only_prefixes_if_there_is_one(
    others, prefix
):
    ran = {name: expected(n) for name, n in {"sum": 9, **others}.items()}
    known = case(
        breakdown=parts(baseline=700),
        facts=facts(baseline=(100, 300, 500), expected=ran),
    )
    (finding,) = leak(known)
    assert (finding.prefix, finding.advice) == (prefix, ())


def test_a_baseline_that_grew_in_one_step_is_no_leak():
    """Modules that the first task imports."""
    known = case(breakdown=parts(baseline=400), facts=facts(baseline=(100, 400)))
    assert list(leak(known)) == []


def test_little_that_was_left_behind_does_not_explain_a_lot():
    known = case(
        breakdown=parts(executing=400),
        suspects=(suspect("sum-1", 100),),
        facts=facts(expected={"sum": expected(7, peak=90, left=1)}),
    )
    (finding,) = leak(known)
    assert finding.weight < 0.02
    assert give_out(known).running == 296 * MiB


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


def test_with_estimates_what_was_there_before_the_running_tasks_was_left_behind():
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("sum-1", 10, method="estimated"),),
    )
    assert give_out(known).nameless == 790 * MiB


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
    (finding,) = limit_too_high(killed_by_kernel(480, facts=facts(host=host(500))))
    assert finding.weight == 1.0
    assert finding.text == (
        "The worker's limit is 0.98 GiB, and its cgroup allows 500 MiB: at 480 MiB it "
        "was ended before Dask could spill, pause or terminate it."
    )
    assert finding.advice == (
        "Start workers with `--memory-limit` of 475 MiB at most, or give host or "
        "container more.",
    )


def test_a_kernels_kill_far_below_the_limit_speaks_for_itself():
    (finding,) = limit_too_high(killed_by_kernel(480))
    assert finding.weight == 0.85
    assert finding.thin == "what host and container allow is not known"


def test_a_kernels_kill_at_the_limit_is_not_the_limits_fault():
    assert list(limit_too_high(killed_by_kernel(1000))) == []


def test_a_limit_that_the_cgroup_allows_is_not_too_high():
    known = killed_by_kernel(1000, facts=facts(host=host(2000)))
    assert list(limit_too_high(known)) == []


def test_a_worker_that_its_nanny_terminated_reached_its_limit():
    known = case(breakdown=parts(executing=860), facts=facts(host=host(500)))
    assert list(limit_too_high(known)) == []


def test_a_kill_by_nobody_known_at_what_the_cgroup_allows_is_the_limits_fault():
    known = case("killed", breakdown=parts(executing=380), facts=facts(host=host(500)))
    assert [f.cause for f in limit_too_high(known)] == ["limit-too-high"]
    idle = case("killed", breakdown=parts(), facts=facts(host=host(500)))
    assert list(limit_too_high(idle)) == []


# -- not memory ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "exit_", "text"),
    [
        (
            "crashed",
            ended(signal=11),
            "A fault in native code ended the process while `sum` was running, not a "
            "shortage of memory: it used 900 MiB, 90 % of its limit.",
        ),
        (
            "exited",
            ended(code=3),
            "The process ended by itself while `sum` was running, not a shortage of "
            "memory: it used 900 MiB, 90 % of its limit.",
        ),
    ],
)
def test_a_fault_is_no_shortage_of_memory_however_much_was_used(kind, exit_, text):
    known = case(
        kind,
        exit=exit_,
        breakdown=parts(executing=800),
        suspects=(suspect("sum-1", 800),),
    )
    (finding,) = crash(known)
    assert (finding.weight, finding.key, finding.text) == (1.0, "sum-1", text)
    assert plausible(known) == 0.0


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


@pytest.mark.parametrize("kind", ["terminated", "oom-killed", "paused"])
def test_some_kinds_are_about_memory_alone(kind):
    known = case(kind)
    assert plausible(known) == 1.0
    assert [*crash(known), *external(known)] == []


def test_a_request_of_terabytes_is_a_mistake():
    known = case(
        "memory-error",
        detail="Unable to allocate 29.1 TiB for an array with shape (2000, 2000)",
        tasks=(task("absurd-1"),),
    )
    (finding,) = crash(known)
    assert (finding.weight, finding.prefix) == (1.0, "absurd")
    assert "asked for 29.1 TiB at once, 30,514 times the worker's limit" in (
        finding.text
    )
    assert plausible(known) == 0.0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("Unable to allocate 2 GiB for an array", 2 * 2**30),
        ("Unable to allocate 512 bytes for an array", 512),
        ("Unable to allocate 1.5 MiB for an array", 1_572_864),
        ("MemoryError()", None),
        ("", None),
        ("cannot allocate 1.2.3 GiB", None),
    ],
)
def test_the_size_of_a_request_is_read_from_its_error(text, size):
    assert requested(case("memory-error", detail=text)) == size


def test_a_memory_error_that_says_nothing_on_a_worker_with_room_is_thin():
    (finding,) = crash(case("memory-error", detail="MemoryError()", tasks=(task(),)))
    assert finding.thin == "the error does not say what was asked for"
    full = case("memory-error", detail="", breakdown=parts(executing=850))
    assert list(crash(full)) == []


def test_held_types_are_not_needed_for_what_is_no_lie():
    known = case(
        breakdown=parts(managed=700),
        facts=facts(held={"open": held(pinned=700)}, claimed={"open": 700}),
    )
    assert give_out(known).hidden == {}
