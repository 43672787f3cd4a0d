"""Would it have lived?  Arithmetic on evidence that is written out."""

import json
from dataclasses import replace

import fake_store
import pytest
import stories
from click.testing import CliRunner
from recorded_runs import write_run
from schema_check import check
from stories import NOW

import dask_memdash
from dask_memdash.cli.main import main
from dask_memdash.counterfactual import alternatives as module
from dask_memdash.counterfactual import evidence as gathering
from dask_memdash.counterfactual.alternatives import alternatives, judge
from dask_memdash.counterfactual.answer import Answer, answer
from dask_memdash.counterfactual.change import Change, ChangeError
from dask_memdash.counterfactual.evidence import (
    LIVE_POINTS,
    Evidence,
    Order,
    Seen,
    TaskSizes,
    gather,
)
from dask_memdash.counterfactual.interval import NOTHING, Interval, total
from dask_memdash.errors import UnknownFailureError
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.store.live import LiveStore
from dask_memdash.web import api

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
#: The same, of which half the tasks had finished.
FINISHED = replace(
    DIED,
    tasks=(
        replace(TASKS, p50=115 * MB, p95=115 * MB, most=115 * MB, at_least=90 * MB),
    ),
    order=Order(8, 4, 0, 0, 0, 0, need=115 * MB),
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
    assert verdict(FINISHED, limit=2.0) == "lived"
    assert verdict(FINISHED, threads=1) == "lived"


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


#: A worker whose tasks hold 8 MB each and leave as much behind; while the last ones ran
#: all of it was taken for theirs.
LEFT = replace(
    DIED,
    threads=1,
    seen=(replace(SEEN, process=275 * MB, executing=200 * MB),),
    tasks=(replace(TASKS, finished=25, p50=8 * MB, p95=8 * MB, most=8 * MB),),
    order=Order(60, 25, 0, 0, 0, 0, need=8 * MB),
    deaths=("leak",),
    suspects=(8 * MB,),
)


@pytest.mark.parametrize("cause", ["leak", "sizeof"])
def test_what_is_in_no_tasks_count_grows_with_the_tasks(cause):
    left = replace(LEFT, deaths=(cause,))
    for limit in (1.0, 1.5, 2.0):  # 192 MB of 25 tasks are 460 of 60
        assert verdict(left, limit=limit) == "unknown"
    assert verdict(left, limit=3.0) == "lived"
    assert verdict(left, chunks=0.5) == "unknown"
    assert verdict(left, chunks=0.5, limit=3.0) == "unknown", "twice as many tasks"
    open_end = ask(replace(left, order=None), limit=3.0)
    assert "how many tasks were to come is open" in open_end.because


def test_memory_that_nobody_counted_has_no_bound():
    found = ask(replace(LEFT, deaths=("unaccounted",)), limit=10.0)
    assert (found.verdict, found.high) == ("unknown", None)
    assert "nobody counted" in found.because


def test_what_running_tasks_hold_is_no_growth():
    one = replace(LEFT, suspects=(195 * MB,))
    assert verdict(one, limit=1.5) == "lived"


def test_more_is_to_come_while_tasks_run():
    alone = replace(LIVED, order=None, spilling=False)
    assert verdict(alone) == "lived"
    assert "no order" in ask(replace(alone, running=True)).because


def test_sizes_of_another_computations_tasks_bound_nothing():
    other = replace(FINISHED, elsewhere=("load",))
    found = ask(other, threads=1)
    assert (found.verdict, found.high) == ("unknown", None)
    assert "`load` that finished may be those of another computation" in found.because


def test_tasks_that_finished_are_not_spoken_of_where_none_did():
    cut = replace(FINISHED.tasks[0], finished=0, most=None, at_least=2**30)
    found = ask(replace(FINISHED, tasks=(cut,), elsewhere=(cut.prefix,)), threads=1)
    assert found.verdict == "unknown"
    assert "that finished" not in found.because


def test_one_worker_more_is_not_judged_where_workers_came_and_went():
    three = replace(LIVED, workers=3, at_once=2)
    assert "came and went" in ask(three, workers=1).because
    assert verdict(three, limit=2.0) == "lived"
    assert verdict(replace(three, at_once=3), workers=1) == "lived"


# -- with what it would have lived -----------------------------------------------------


def test_one_change_within_what_there_was_and_one_that_takes_more_are_named():
    found = judge("1", FINISHED)
    assert [one.change for one in found.lived] == [Change(threads=1), Change(limit=1.5)]
    first, second, taken = found.lines
    assert first.startswith("Yes, with 1 thread per worker: the fullest worker would ")
    assert "Workers end at 428 MB" in second or "408 MiB" in second
    assert taken == module.TAKEN
    assert len(judge("1", replace(FINISHED, suspects=())).lines) == 2


def test_a_limit_that_the_machine_has_no_room_for_is_said_to_be():
    found = judge("1", FINISHED, room=1.2)
    more = "That is more than its machine has for its workers."
    assert [line.endswith(more) for line in found.lines] == [False, True, False]
    assert more not in " ".join(judge("1", FINISHED, room=1.5).lines)


def test_what_cannot_be_said_is_one_short_line_with_its_reason():
    assert judge("1", DIED).lines == [
        "Cannot say, because `load` was cut short, so that nobody knows what it would "
        "have come to."
    ]


def test_a_run_that_should_have_lived_as_it_was_is_not_believed():
    seen = replace(
        FINISHED,
        seen=(replace(SEEN, process=150 * MB, executing=60 * MB),),
        tasks=(replace(TASKS, most=40 * MB, at_least=30 * MB),),
        suspects=(30 * MB,),
    )
    assert verdict(seen) == "lived"
    assert judge("1", seen).lines == [f"Cannot say, because {module.UNSEEN}."]


def test_it_is_said_where_none_of_it_would_have_been_enough():
    own = replace(
        DIED, seen=(replace(SEEN, process=1300 * MB, own_least=1300 * MB),), stuck=True
    )
    assert judge("1", own).lines == [
        "No, not with any one of these: 1 thread per worker, chunks 0.25 times as "
        "large, 4 times the limit and 1 worker more."
    ]


def failing(cause="too-many-at-once", **values):
    store = fake_store.failing(1)
    (failed,) = store.all_failures
    failed["diagnosis"]["cause"] = cause
    failed.update(values)
    return store


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"cause": "crash"}, []),
        ({"cause": "unknown"}, []),
        ({"settled": False}, []),
        ({"deaths": 0, "kinds": {"spill-failed": 1}}, []),
        ({"kinds": {"memory-error": 1}}, [f"Cannot say, because {module.ASKED}."]),
        ({"cause": "overcommitted"}, [f"Cannot say, because {module.BELOW}."]),
    ],
)
def test_where_memory_was_not_the_question_nothing_is_said(values, lines):
    assert alternatives(failing(**values), "1").lines == lines


def test_a_limit_above_the_memory_is_no_limit_to_multiply():
    store = failing()
    store.all_failures[0]["diagnosis"]["relief"] = "limit-above-memory"
    assert alternatives(store, "1").because == module.BELOW


def test_a_living_cluster_is_asked_with_fewer_points_of_its_history():
    live = stories.after_incident()
    whole, thinned = gather(live), gather(live, points=LIVE_POINTS)
    assert thinned.seen == whole.seen
    assert gather(live, points=1).workers == whole.workers


def test_of_a_failure_its_own_graph_counts_and_other_computations_are_known():
    live = stories.after_incident()
    failure = live.failures()[-1]
    assert gather(live, failure["id"]).elsewhere == ()
    model = ClusterModel()
    stories.tell(model, stories.joins(1, NOW - 300))
    for graph, began in (("graph-0", NOW - 200), ("graph-1", NOW - 100)):
        stories.tell(model, replace(stories.GRAPH, graph=graph, time=began))
    stories.tell(model, stories.reports(1, NOW - 60, rows=None))
    stories.falls(model, 1, NOW - 50, last_straw=True, signal=15, by="nanny")
    store = LiveStore(model)
    (failed,) = store.failures()
    assert gather(store, failed["id"]).elsewhere == ("rechunk-split",)
    assert gather(store).elsewhere == ()


def test_more_workers_than_are_looked_at_are_not_judged(monkeypatch):
    monkeypatch.setattr(gathering, "MOST_WORKERS", 3)
    assert gather(stories.busy()).unknown == "there were more than 3 workers"
    monkeypatch.setattr(gathering, "MOST_WORKERS", 4)
    assert gather(stories.busy()).unknown == ""
    monkeypatch.setattr(gathering, "MOST_PREFIXES", 1)
    assert "kinds of tasks" in gather(stories.busy()).unknown


def test_an_answer_survives_being_sent():
    for said in (ask(LIVED, limit=2.0), ask(DIED, spilling=False, threads=1)):
        assert Answer.of_dict(json.loads(json.dumps(said.to_dict()))) == said


def test_the_api_answers_of_a_change_and_refuses_what_makes_no_sense():
    live = stories.after_incident()
    said = answer(gather(live, points=LIVE_POINTS), Change(limit=3.0, workers=-1))
    status, body = api.ask(live, "what-if", {"limit": "3", "workers": "-1"})
    assert (status, json.loads(body)) == (200, said.to_dict())
    for wrong in (
        {"limit": "0"},
        {"threads": "0"},
        {"spilling": "maybe"},
        {"workers": "1.5"},
        {"chunks": "nan"},
        {"memory": "2"},
    ):
        assert api.ask(live, "what-if", wrong)[0] == 400, wrong
    assert api.ask(live, "what-if", {"failure": "99"})[0] == 404
    assert api.ask(live, "what-if/99", {})[0] == 404
    failure = live.failures()[0]["id"]
    check(f"what-if/{failure}", json.loads(api.ask(live, f"what-if/{failure}", {})[1]))
    check("what-if", json.loads(body))


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
