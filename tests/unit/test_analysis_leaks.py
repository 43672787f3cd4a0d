"""What tasks leave behind: leaks, and outputs that do not weigh what Dask believes."""

import pytest
from builders import A, B, MiB, added, finished, removed, reported
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.analysis.leaks import Audit, audit
from dask_memdash.model.event_parts import Weighed
from dask_memdash.model.prefixes import PrefixState


def state(count, believed, left, *, stored=0, because=""):
    """Make a prefix of so many weighed tasks, in MiB per task."""
    return PrefixState(
        count=stored,
        weighed=Weighed(count, count * believed * MiB, count * left * MiB, because),
    )


def of(prefix, growth=0):
    return audit({"sum": prefix}, growth * MiB)["sum"]


def test_outputs_that_weigh_what_dask_believes_are_left_in_peace():
    assert of(state(10, believed=50, left=50, stored=10)) == Audit(
        count=10,
        believed=50 * MiB,
        measured=50 * MiB,
        ratio=1.0,
        flag="",
        because="",
        leaked=0,
        leaked_total=0,
    )


def test_outputs_that_weigh_more_than_twice_as_much_are_too_light():
    found = of(state(10, believed=10, left=50, stored=10), growth=400)
    assert (found.flag, found.measured, found.ratio) == ("too-light", 50 * MiB, 0.2)
    assert found.leaked == 0, "the excess goes with the outputs, which are held"


def test_just_twice_as_much_is_not_flagged():
    assert of(state(10, believed=25, left=50, stored=10)).flag == ""
    assert of(state(10, believed=24, left=50, stored=10)).flag == "too-light"
    assert of(state(10, believed=50, left=25, stored=10)).flag == ""
    assert of(state(10, believed=51, left=25, stored=10)).flag == "too-heavy"


def test_outputs_that_left_hardly_anything_are_too_heavy_and_said_why():
    found = of(state(10, 50, 1, stored=10, because="views of other arrays"))
    assert (found.flag, found.because) == ("too-heavy", "views of other arrays")
    assert (found.measured, found.ratio) == (1 * MiB, 50.0)


def test_outputs_that_left_nothing_have_no_ratio():
    found = of(state(10, 50, 0, stored=10, because="memory maps"))
    assert (found.measured, found.ratio, found.flag) == (0, None, "too-heavy")
    assert of(state(10, 50, -20, stored=10)).measured == 0


def test_the_reason_is_given_only_where_something_is_flagged():
    assert of(state(10, 50, 50, because="memory maps")).because == ""


def test_small_outputs_are_never_flagged():
    small = PrefixState(weighed=Weighed(10, 10 * 100, 10 * 60_000))
    assert of(small).flag == ""


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_tasks_say_nothing(count):
    assert audit({"sum": state(count, 10, 50)}, 500 * MiB) == {}


# -- leaks ---------------------------------------------------------------------


def test_a_task_that_puts_something_aside_leaks():
    """40 MiB per task more than its output, and the process grows by all of it."""
    found = of(state(10, believed=10, left=50), growth=400)
    assert (found.leaked, found.leaked_total) == (40 * MiB, 400 * MiB)
    assert (found.measured, found.flag) == (10 * MiB, ""), "its outputs are honest"


def test_a_leak_is_no_larger_than_what_the_process_has_grown_by():
    found = of(state(10, believed=10, left=50), growth=100)
    assert (found.leaked, found.leaked_total) == (10 * MiB, 100 * MiB)


def test_without_growth_there_is_no_leak_but_heavy_outputs_that_have_gone():
    found = of(state(10, believed=10, left=50), growth=0)
    assert found.leaked_total == 0
    assert (found.flag, found.measured) == ("too-light", 50 * MiB)


def test_heavy_outputs_that_are_held_explain_growth_before_leaks_do():
    # 4 of 10 outputs are held: 160 of the 400 MiB are theirs
    found = of(state(10, believed=10, left=50, stored=4), growth=400)
    assert found.leaked_total == 240 * MiB
    assert of(state(10, believed=10, left=50, stored=4), growth=160).leaked_total == 0


def test_several_leaks_share_what_is_not_explained():
    found = audit(
        {
            "much": state(10, believed=0, left=30),
            "little": state(10, believed=0, left=10),
            "honest": state(10, believed=50, left=50, stored=10),
        },
        200 * MiB,
    )
    assert found["much"].leaked_total == 150 * MiB
    assert found["little"].leaked_total == 50 * MiB
    assert found["honest"].leaked_total == 0


def test_a_trifle_per_task_is_no_leak():
    crumbs = PrefixState(weighed=Weighed(1000, 0, 1000 * 60_000))
    assert of(crumbs, growth=500).leaked_total == 0


def test_two_parts_in_a_hundred_of_large_outputs_are_no_leak():
    assert of(state(10, believed=1000, left=1015), growth=500).leaked_total == 0
    assert of(state(10, believed=1000, left=1030), growth=500).leaked_total == 300 * MiB


def test_a_process_that_has_shrunk_leaks_nothing():
    assert of(state(10, believed=10, left=50), growth=-300).leaked_total == 0


prefixes = st.dictionaries(
    st.text(max_size=3),
    st.builds(
        PrefixState,
        count=st.integers(0, 10**6),
        weighed=st.builds(
            Weighed,
            st.integers(0, 10**6),
            st.integers(0, 2**60),
            st.integers(-(2**60), 2**60),
        ),
    ),
    max_size=5,
)


@given(prefixes, st.integers(-(2**60), 2**60))
def test_no_more_leaks_than_the_processes_have_grown_by(known, growth):
    audits = audit(known, growth)
    assert set(audits) == {n for n, s in known.items() if s.weighed.count >= 3}
    assert sum(a.leaked_total for a in audits.values()) <= max(0, growth)
    for found in audits.values():
        assert min(found.leaked, found.leaked_total, found.measured) >= 0
        assert (found.ratio is None) == (found.measured == 0)


# -- growth from idle to idle, and sums over workers -----------------------------


def weighed(count, believed, left, because=""):
    made = finished(*[MiB] * count)
    return {
        "sum": type(made)(
            count, "exact", made.peaks, made.errors, made.outputs,
            Weighed(count, believed, left, because),
        )
    }  # fmt: skip


def test_growth_is_from_the_first_idle_moment_to_the_last(model):
    for event in (
        added(A, 1),
        added(B, 2),
        reported(A, 1, reading={"base": None}),
        reported(A, 1, reading={"base": 100 * MiB}),
        reported(B, 2, reading={"base": 90 * MiB}),
        reported(A, 1, reading={"base": 260 * MiB}),
        reported(B, 2, reading={"base": 30 * MiB}),
    ):
        model.handle(event)
    assert model.processes.idle_growth() == 160 * MiB, "one that shrank is no help"
    model.handle(removed(A))
    assert model.processes.idle_growth() == 0


def test_workers_that_share_a_process_grow_but_once(model):
    for address in (A, B):
        model.handle(added(address, 1))
        model.handle(reported(address, 1, reading={"base": 100 * MiB}))
        model.handle(reported(address, 1, reading={"base": 150 * MiB}))
    assert model.processes.idle_growth() == 50 * MiB


def test_what_was_weighed_is_summed_over_workers_and_reports(model):
    for address, pid in ((A, 1), (B, 2)):
        model.handle(added(address, pid))
        model.handle(reported(address, pid, finished=weighed(3, 30, 60)))
        model.handle(reported(address, pid, finished=weighed(1, 10, -5, "memory maps")))
    assert model.prefixes.by_name["sum"].weighed == Weighed(8, 80, 110, "memory maps")
