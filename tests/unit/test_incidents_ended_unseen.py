"""Tasks that ended and whose worker died before it told what they left."""

import pytest
from cases import T0, case, expected, facts, parts, stored, suspect
from stories import MiB

from dask_memdash.analysis.incidents.diagnose import diagnose
from dask_memdash.analysis.incidents.growth_attribution import give_out

#: A process that grew from 100 MiB to 900 within a second, and its samples, in MiB.
ROSE = ((0.0, 100), (0.5, 100), (0.7, 300), (0.9, 600), (1.0, 900))


def died(running=("keep-6", 100), *rows, **known):
    """A worker of one thread that its tasks have filled since its last report."""
    return case(
        breakdown=parts(executing=800),
        suspects=(suspect(*running, seconds=0.1, grown=50 * MiB),),
        storage=rows,
        timeline=tuple((T0 + time, size * MiB) for time, size in ROSE),
        facts=facts(baseline=(100,), **known),
    )


def test_what_as_many_tasks_hold_that_ended_is_a_leak_of_theirs():
    known = died(("keep-8", 100), stored("keep", 0, count=7))
    assert give_out(known).ended == {"keep": 700 * MiB}
    told = diagnose(known)
    assert (told.cause, told.prefix) == ("leak", "keep")
    assert 0.5 <= told.confidence <= 0.75
    assert (
        "700 MiB belong to no stored output and to no running task, and came while 7 "
        "tasks of `keep` ran and ended, none of any other prefix."
    ) in told.text
    assert (
        "The evidence is thin: the worker died before it had told what these tasks "
        "left."
    ) in told.text
    assert "globals, caches" in told.advice[0]


def test_what_is_more_than_they_can_hold_is_nobodys():
    known = died(("keep-8", 20), stored("keep", 0, count=7))
    growth = give_out(known)
    assert (growth.ended, growth.untold) == ({}, 0)
    assert diagnose(known).cause == "unaccounted"


def test_where_tasks_of_several_prefixes_ended_it_is_not_known_whose_it_is():
    rows = (stored("keep", 0, count=7), stored("other", 0, count=3))
    known = died(("keep-8", 100), *rows)
    assert give_out(known).untold == 700 * MiB
    told = diagnose(known)
    assert (told.cause, told.confidence) == ("unknown", 0.0)
    assert "it grew by 700 MiB after its last report, while tasks ran" in told.text


def test_what_tasks_have_told_that_they_leave_stands():
    told = {"keep": expected(finished=3, peak=100)}
    known = died(("keep-8", 100), stored("keep", 0, count=7), expected=told)
    assert give_out(known).ended == {}
    assert diagnose(known).cause == "unaccounted"


@pytest.mark.parametrize(("at", "since"), [(0.5, 700), (0.9, 300), (1.0, 0)])
def test_what_was_there_at_the_last_report_is_not_theirs(at, since):
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("keep-8", 100, seconds=0.01, grown=0),),
        storage=(stored("keep", 0, count=7),),
        timeline=tuple((T0 - at + time, size * MiB) for time, size in ROSE),
        facts=facts(baseline=(100,)),
    )
    assert sum(give_out(known).ended.values()) == since * MiB


def test_what_came_while_the_only_thread_was_busy_is_no_ended_tasks():
    known = case(
        breakdown=parts(executing=800),
        suspects=(suspect("keep-8", 100, seconds=0.6, grown=800 * MiB),),
        storage=(stored("keep", 0, count=7),),
        timeline=tuple((T0 + time, size * MiB) for time, size in ROSE),
        facts=facts(baseline=(100,)),
    )
    assert give_out(known).ended == {}
