"""Would it have lived?  Arithmetic on evidence that is written out."""

import json
from dataclasses import replace

import pytest
import stories
from click.testing import CliRunner
from recorded_runs import write_run

import dask_memdash
from dask_memdash.cli.main import main
from dask_memdash.counterfactual.answer import answer
from dask_memdash.counterfactual.change import Change, ChangeError
from dask_memdash.counterfactual.evidence import (
    Evidence,
    Order,
    Seen,
    TaskSizes,
    gather,
)
from dask_memdash.counterfactual.interval import NOTHING, Interval, total
from dask_memdash.errors import UnknownFailureError

MB = 1_000_000

#: One worker of 300 MB with two threads, 70 MB its own, that ran eight tasks of 50 MB.
SEEN = Seen(
    "0",
    process=170 * MB,
    executing=100 * MB,
    each=40 * MB,
    managed=0,
    stored=0,
    own_least=70 * MB,
    own_most=70 * MB,
    retained=0,
    transfer=0,
)
TASKS = TaskSizes(
    "load", 8, 50 * MB, 50 * MB, 50 * MB, None, error=0, method="exact", root=True
)
LIVED = Evidence(
    workers=1,
    threads=2,
    limit=300 * MB,
    pause=0.8,
    terminate=0.95,
    target=0.6,
    spilling=True,
    seen=(SEEN,),
    tasks=(TASKS,),
    order=Order(8, 8, 0, 0, 0, 0, need=50 * MB),
)
DIED = replace(
    LIVED,
    seen=(replace(SEEN, process=300 * MB, executing=230 * MB),),
    tasks=(
        replace(TASKS, finished=0, p50=None, p95=None, most=None, at_least=115 * MB),
    ),
    order=Order(8, 0, 0, 0, None, None, need=None),
    deaths=("too-many-at-once",),
    suspects=(115 * MB, 115 * MB),
)


def ask(evidence, **change):
    return answer(evidence, Change(**change))


def verdict(evidence, **change):
    return ask(evidence, **change).verdict


# -- what is asked ---------------------------------------------------------------------


def test_a_change_is_said_in_words():
    assert Change().in_words() == "with nothing changed"
    assert Change(limit=2.0).in_words() == "with 2 times the limit"
    assert Change(threads=1, chunks=0.5, workers=-1, spilling=False).in_words() == (
        "with 1 thread per worker, chunks 0.5 times as large, 1 worker fewer and "
        "spilling off"
    )


@pytest.mark.parametrize(
    "change", [{"limit": 0}, {"limit": float("nan")}, {"chunks": -1}, {"threads": 0}]
)
def test_a_change_that_makes_no_sense_is_refused(change):
    with pytest.raises(ChangeError, match=next(iter(change))):
        Change(**change)


def test_intervals_add_up_and_stay_open_at_the_top():
    assert Interval(1, 2) + Interval(10, 20) == Interval(11, 22)
    assert Interval(1, None) + Interval(10, 20) == Interval(11, None)
    assert Interval(5, 9).at_most(7) == Interval(5, 7)
    assert Interval(8, None).at_most(7) == Interval(7, 7)
    assert total([]) == NOTHING


# -- a run that lived ------------------------------------------------------------------


def test_the_interval_is_of_what_the_fullest_worker_would_have_had():
    found = ask(LIVED)
    # What was seen, less what two runs differ by; 70 and two of 50 MB, with what counts
    # miss of a task and of a worker's own.
    assert found.low == round(170 * MB * 0.97)
    assert 170 * MB < found.high < 182 * MB
    assert (found.verdict, found.limit, found.line) == ("lived", 300 * MB, 285 * MB)


def test_a_smaller_limit_ends_it_where_the_whole_interval_is_above():
    assert verdict(LIVED, limit=2.0) == "lived"
    assert verdict(LIVED, limit=0.5) == "died"  # 150 MB, 142 MB to the end
    assert verdict(LIVED, limit=0.62) == "unknown"  # the end is at 177 MB


def test_more_threads_need_more_and_fewer_need_less():
    four = ask(LIVED, threads=4)
    # 100 MB for two, and 40 MB at least for each of two more; four of 50 MB at most.
    assert four.low == round(250 * MB * 0.97)
    assert 270 * MB < four.high < 285 * MB
    assert verdict(LIVED, threads=8) == "died"
    assert ask(LIVED, threads=1).high < 130 * MB


def test_no_more_tasks_run_at_once_than_there_are():
    two = replace(LIVED, tasks=(replace(TASKS, finished=2),))
    assert verdict(two, threads=64) == "lived"


def test_chunks_scale_what_has_no_inputs_and_may_scale_the_rest():
    assert verdict(LIVED, chunks=3.0) == "died"  # two of 150 MB
    half = ask(LIVED, chunks=0.5)
    assert half.high < 130 * MB
    unknown = replace(LIVED, tasks=(replace(TASKS, root=False),))
    assert ask(unknown, chunks=0.5).high > 170 * MB  # it may take as much as before


def test_what_was_seen_and_no_task_accounts_for_is_added():
    more = replace(LIVED, seen=(replace(SEEN, process=270 * MB, executing=200 * MB),))
    assert ask(more).high > 270 * MB
    assert verdict(more, limit=0.97) == "unknown"


# -- what is stored --------------------------------------------------------------------

#: The same worker, without spilling, that kept 120 MB.
KEPT = replace(
    LIVED,
    spilling=False,
    stored=120 * MB,
    seen=(
        replace(
            SEEN, process=200 * MB, executing=10 * MB, managed=120 * MB, stored=120 * MB
        ),
    ),
    tasks=(replace(TASKS, p50=5 * MB, p95=5 * MB, most=5 * MB),),
    order=Order(8, 8, 120 * MB, 120 * MB, 120 * MB, 0, need=5 * MB),
)


def test_stored_outputs_above_the_pause_threshold_stop_it_for_good():
    assert verdict(KEPT, limit=2.0) == "lived"
    found = ask(KEPT, limit=0.7)  # 70 and 120 MB; paused at 168 MB
    assert found.verdict == "died"
    assert "would have started no further task" in found.reason


def test_with_spilling_stored_outputs_go_to_disk():
    assert verdict(KEPT, limit=0.7, spilling=True) != "died"


def test_another_worker_takes_its_part_of_what_is_stored():
    assert ask(KEPT, workers=1).high < ask(KEPT).high
    assert ask(KEPT, workers=-1).verdict == "unknown"


def test_what_a_run_that_stopped_would_have_stored_comes_from_its_order():
    stopped = replace(
        KEPT, stuck=True, order=Order(24, 8, 360 * MB, 360 * MB, 120 * MB, 0, 5 * MB)
    )
    assert verdict(stopped) == "died"
    assert verdict(stopped, limit=2.0) == "unknown"  # paused at 480 MB
    assert verdict(stopped, limit=3.0) == "lived"
    assert ask(replace(stopped, order=None), limit=3.0).reason.startswith(
        "no order was recorded"
    )


# -- a run that died -------------------------------------------------------------------


def test_what_a_task_that_died_would_have_come_to_is_not_known():
    found = ask(DIED, limit=3.0)
    assert (found.verdict, found.high) == ("unknown", None)
    assert "`load` was cut short" in found.reason
    assert verdict(DIED, limit=0.9) == "died"
    assert verdict(DIED, threads=1) == "unknown"
    assert verdict(DIED, threads=1, limit=0.5) == "died"  # 70 and 115 MB of 142 MB


def test_it_is_known_where_others_of_them_finished():
    finished = replace(
        DIED,
        tasks=(
            replace(TASKS, p50=115 * MB, p95=115 * MB, most=115 * MB, at_least=90 * MB),
        ),
        order=Order(8, 4, 0, 0, 0, 0, need=115 * MB),
    )
    assert verdict(finished, limit=2.0) == "lived"
    assert verdict(finished, threads=1) == "lived"


def test_estimated_peaks_bound_nothing():
    guessed = replace(LIVED, tasks=(replace(TASKS, method="estimated"),))
    assert "only estimated" in ask(guessed, limit=4.0).reason
    unmeasured = replace(LIVED, tasks=(replace(TASKS, most=None),))
    assert "no peak" in ask(unmeasured, limit=4.0).reason
    wide = replace(LIVED, tasks=(replace(TASKS, error=200 * MB),))
    assert verdict(wide) == "unknown"


def test_a_crash_has_nothing_to_do_with_memory_and_a_kill_may_not_come_again():
    crashed = replace(DIED, deaths=("crash",))
    assert verdict(crashed, limit=4.0) == "died"
    assert verdict(replace(DIED, deaths=("external",)), limit=4.0) == "unknown"
    assert verdict(replace(DIED, deaths=("crash", "leak")), limit=4.0) == "unknown"


def test_a_leak_goes_with_the_tasks_as_far_as_is_known():
    leaky = replace(
        LIVED,
        seen=(replace(SEEN, process=240 * MB, own_most=220 * MB),),
        stuck=True,
        order=Order(40, 20, 0, 0, 0, 0, need=0),
    )
    found = ask(leaky, limit=2.0)
    assert found.low == round(240 * MB * 0.97)
    assert found.high > (70 + 300) * MB  # twice the tasks leave twice as much


# -- where nothing can be said ---------------------------------------------------------


def test_without_a_limit_or_a_report_nothing_is_said():
    assert "no memory limit" in ask(replace(LIVED, limit=None)).reason
    assert "workers differ" in ask(replace(LIVED, unknown="workers differ")).reason
    off = replace(LIVED, terminate=None, pause=None)
    assert verdict(off, limit=0.4) == "unknown"
    assert verdict(off, limit=2.0) == "lived"


# -- from a store ----------------------------------------------------------------------


def test_evidence_is_gathered_from_any_store():
    evidence = gather(stories.busy())
    assert (evidence.workers, evidence.unknown) == (4, "")
    assert evidence.threads == stories.busy().workers()[0]["nthreads"]
    assert not evidence.deaths
    assert {t.prefix for t in evidence.tasks} == {
        p["prefix"] for p in stories.busy().prefixes()
    }
    died = gather(stories.after_incident())
    assert died.deaths
    assert died.suspects == tuple(sorted(died.suspects, reverse=True))
    with pytest.raises(UnknownFailureError):
        gather(stories.busy(), "999")


def test_a_recorded_run_answers_as_the_living_store_did(tmp_path):
    live = stories.after_incident()
    path = write_run(tmp_path / "20260801-100000-abcdef", live)
    with dask_memdash.open_run(path) as run:
        for change in ({"limit": 0.5}, {"limit": 3.0}, {"threads": 1}):
            assert run.what_if(**change).verdict == ask(gather(live), **change).verdict
        failure = run.failures().index[0]
        assert run.what_if(f"failure-{failure}", limit=0.5).text.startswith(
            ("Would have died with 0.5 times the limit: ", "Cannot say with 0.5 times")
        )
        assert str(run.what_if(limit=3.0)) == run.what_if(limit=3.0).text


def test_the_command_says_it_and_exits_with_it(tmp_path):
    path = str(write_run(tmp_path / "20260801-100000-abcdef", stories.busy()))
    call = ["runs", "what-if", path, "--limit", "0.3x", "--json"]
    done = CliRunner().invoke(main, call)
    said = json.loads(done.output)
    assert done.exit_code == {"lived": 0, "died": 1, "unknown": 3}[said["verdict"]]
    assert said["limit"] == pytest.approx(
        0.3 * stories.busy().workers()[0]["limit"], abs=1
    )
    plain = CliRunner().invoke(main, call[:-1])
    assert plain.output.strip() == said["text"]
    wrong = CliRunner().invoke(main, ["runs", "what-if", path, "--limit", "twice"])
    assert wrong.exit_code == 2
    assert "write it like 2x" in wrong.output
    nothing = CliRunner().invoke(main, ["runs", "what-if", str(tmp_path / "no")])
    assert nothing.exit_code == 3
