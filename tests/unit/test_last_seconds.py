"""A worker's last seconds: noted, told, checked, shared out, and what is drawn."""

from dataclasses import replace

import pytest

from dask_memdash.analysis.incidents.last_seconds import (
    MOST,
    SHORTEST,
    Scene,
    look,
    scene,
    seconds_shown,
)
from dask_memdash.flight.format import RUNNING, Slot
from dask_memdash.measure import moments as module
from dask_memdash.measure.moments import LARGEST, Moments, thin
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.last_seconds import (
    MOST_ROWS,
    MOST_SAMPLES,
    LastSeconds,
    TaskSeconds,
    is_small,
    later,
    named,
    pack,
    sound,
    stacked,
    unpack,
)
from dask_memdash.system.proc import RssParts

T = 1_760_000_000.0
MiB = 2**20


def task(key, now, index=0, begin=T, **more):
    known = {
        "peak": now,
        "error": 0,
        "state": RUNNING,
        "measured": True,
        "thread": 1,
        "rss": 0,
        "digest": "",
    }
    return Slot(index=index, now=now, begin=begin, key=key, **{**known, **more})


def reading(managed=0, base=100, **more):
    return {"managed_claimed": managed, "base": base, **more}


@pytest.fixture
def moments():
    return Moments(lambda key: key.partition("-")[0], 60.0, 2400)


def note(moments, at, rss, *tasks, known=(), parts=None, resident=True):
    readings = [reading()] if known == () else known
    moments.note(T + at, rss, parts, readings, tasks, resident=resident)


def rows(last):
    return {row.key or f"{row.prefix}*": (row.first, row.bytes) for row in last.tasks}


# -- noted and told --------------------------------------------------------------------


def test_without_samples_there_is_nothing_to_tell(moments):
    assert moments.told() is None


def test_tasks_of_the_end_are_told_one_by_one_and_those_before_by_prefix(moments):
    note(moments, 0, 500, task("a-1", 100), task("b-1", 50, 1))
    note(moments, 1, 700, task("a-2", 120), task("b-1", 150, 1))
    note(moments, 2, 900, task("c-1", 90, 2), task("b-1", 350, 1))
    last = moments.told()
    assert last.process == (500, 700, 900)
    assert rows(last) == {
        "b-1": (0, (50, 150, 350)),
        "c-1": (2, (90,)),
        "a*": (0, (100, 120)),
    }
    assert [row.tasks for row in last.tasks] == [1, 1, 2]
    assert last.others == (0, 0, 0)


def test_a_slot_that_is_used_again_is_another_task(moments):
    note(moments, 0, 500, task("a-1", 100, begin=T))
    note(moments, 1, 500, task("a-1", 70, begin=T + 0.5))
    assert rows(moments.told()) == {"a-1": (1, (70,)), "a*": (0, (100,))}


def test_the_largest_are_told_apart_and_the_rest_is_one_sum(moments):
    many = [task(f"a-{n}", 10 + n, n) for n in range(LARGEST + 3)]
    note(moments, 0, 900, *many)
    note(moments, 1, 900, *many[:2])
    last = moments.told()
    assert (last.others, last.n_others) == ((33, 0), (3, 0))
    # the two that remain were not among the largest before: they are in the sum
    assert rows(last)["a-1"] == (1, (11,))
    assert rows(last)["a*"] == (0, (sum(10 + n for n in range(3, LARGEST + 3)),))


def test_a_task_that_is_for_a_while_not_among_the_largest_is_not_said_to_hold_nothing(
    moments,
):
    others = [task(f"a-{n}", 100, n + 1) for n in range(LARGEST)]
    note(moments, 0, 900, task("b-1", 20))
    note(moments, 1, 900, task("b-1", 20), *others)
    note(moments, 2, 900, task("b-1", 30))
    assert rows(moments.told())["b-1"] == (0, (20, None, 30))


def test_unmeasured_tasks_and_those_that_hold_nothing_are_none_of_it(moments):
    note(moments, 0, 500, task("a-1", 100, measured=False), task("b-1", 0, 1))
    assert moments.told().tasks == ()


def test_parts_sum_to_the_process_and_are_unknown_where_the_reading_is_torn(moments):
    note(moments, 0, 700, task("a-1", 300), known=[reading(managed=200)])
    note(moments, 1, 800, task("a-1", 400), known=[None])
    note(moments, 2, 800, task("a-1", 400), known=[reading(), reading()])
    last = moments.told()
    assert {name: sizes[0] for name, sizes in last.parts.items()} == {
        "managed": 200,
        "executing": 400,
        "baseline": 100,
    }
    assert [sizes[1:] for sizes in last.parts.values()] == [(None, None)] * 3


def test_what_is_being_spilled_is_not_taken_off_what_tasks_are_known_to_hold(moments):
    claimed = [reading(managed=400)]
    note(moments, 0, 700, task("a-1", 500), known=claimed)
    note(moments, 1, 700, task("a-1", 500), known=claimed, resident=False)
    last = moments.told()
    assert last.parts["managed"] == (100, 400)
    assert last.parts["executing"] == (500, 200)


def test_pages_of_files_are_those_of_the_sample(moments):
    known = [reading(file=0, base_file=0)]
    parts = RssParts(anon=300, file=200, shmem=0)
    note(moments, 0, 500, task("a-1", 100), known=known, parts=parts)
    # 100 of the task, 200 of files that came, 100 of the idle process
    assert moments.told().parts["executing"] == (200,)


def test_a_minute_is_kept_and_less_where_the_clock_is_set_back(moments):
    for second in range(100):
        note(moments, second, 500)
    assert moments.told().time[0] == T + 39
    note(moments, 50, 500)
    assert moments.told().time == (T + 50,)


def test_of_many_samples_the_last_are_all_told_and_peaks_before_are_not_lost(moments):
    for n in range(1200):
        note(moments, n / 20, 5000 if n == 123 else 500)
    last = moments.told()
    assert len(last.time) <= module.MOST
    assert [round(20 * (t - T)) for t in last.time[-5:]] == [*range(1195, 1200)]
    assert 5000 in last.process


def test_thinning_keeps_few_as_they_are():
    few = [module.Moment(T, n, None, None, False, True, (), 0, 0) for n in range(9)]
    assert thin(few, 9) == few


def test_what_is_told_survives_the_way(moments):
    note(moments, 0, 500, task("ä-1", 100), task("b-1", 50, 1))
    note(moments, 1, 700, task("ä-1", 300), known=[None])
    last = moments.told()
    assert from_dict(LastSeconds, to_dict(last)) == last
    assert unpack(pack(last)) == last
    assert sound(last, T - 1, T + 9) == last
    assert is_small(to_dict(last))


# -- checked ---------------------------------------------------------------------------


def made(**more):
    known = {
        "time": (T, T + 1, T + 2),
        "process": (500, 600, 700),
        "parts": {"executing": (100, 200, None), "baseline": (400, 400, None)},
        "tasks": (TaskSeconds("a-1", "", "a", 1, T, 1, (150, 300)),),
        "others": (0, 100, 0),
        "n_others": (0, 2, 0),
    }
    return LastSeconds(**{**known, **more})


def row(**more):
    return (replace(made().tasks[0], **more),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": ()},
        {"process": (500, 600)},
        {"time": (T + 1, T, T + 2)},
        {"time": (float("nan"), T, T + 2)},
        {"process": (500, 600, -700)},
        {"process": (500, 600, 2**60)},
        {"others": (0, 100)},
        {"n_others": (0, -2, 0)},
        {"parts": {"executing": (100, 200, None), "baseline": (400, 401, None)}},
        {"parts": {"executing": (100, None, None), "baseline": (400, 400, None)}},
        {"parts": {"heap": (500, 600, 700)}},
        {"tasks": row(bytes=(150, -300))},
        {"tasks": row(first=2)},
        {"tasks": row(first=-1)},
        {"tasks": row(tasks=0)},
    ],
)
def test_what_contradicts_itself_is_refused(wrong):
    assert sound(made(), T - 1, T + 9) == made()
    assert sound(made(**wrong), T - 1, T + 9) is None


def test_samples_of_another_time_are_left_out():
    cut = sound(made(), T + 0.5, T + 1.5)
    assert (cut.time, cut.process, cut.others) == ((T + 1,), (600,), (100,))
    assert (cut.tasks[0].first, cut.tasks[0].bytes) == (0, (150,))
    only = sound(made(), T - 0.5, T + 0.5)
    assert (only.tasks[0].first, only.tasks[0].bytes) == (1, ())
    assert stacked(only).tasks == ((0,),)
    assert sound(made(), T + 5, T + 9) is None


def test_more_than_anybody_sends_is_not_read():
    small = to_dict(made())
    long = [0] * (MOST_SAMPLES + 1)
    assert is_small(small)
    assert is_small(None)
    assert is_small({"tasks": 7, "parts": "x"})  # for the reader to refuse
    assert not is_small({**small, "process": long})
    assert not is_small({**small, "parts": {"executing": long}})
    assert not is_small({**small, "parts": {str(n): [] for n in range(9)}})
    assert not is_small({**small, "tasks": small["tasks"] * (MOST_ROWS + 1)})
    assert not is_small({**small, "tasks": [{"bytes": long}]})


def test_another_clock_and_whole_names():
    moved = later(made(), 5.0)
    assert moved.time == (T + 5, T + 6, T + 7)
    assert moved.tasks[0].begin == T + 5
    cut = made(tasks=row(digest="ab"))
    assert named(cut, {"ab": "a-1-whole"}).tasks[0].key == "a-1-whole"
    assert named(made(), {"ab": "other"}).tasks[0].key == "a-1"


# -- shared out ------------------------------------------------------------------------


def test_each_sample_sums_to_the_process_and_tasks_are_never_more_than_executed():
    drawn = stacked(made())
    assert drawn.tasks == ((0, 120, 300),)  # 150 and 100 counted where 200 was there
    assert drawn.others == (0, 80, 0)
    assert drawn.uncounted == (100, 0, 0)
    assert drawn.unknown == (0, 0, 400)
    assert drawn.parts["baseline"] == (400, 400, 0)
    assert drawn.parts["graph"] == (0, 0, 0)
    for place, process in enumerate(drawn.process):
        columns = [*drawn.parts.values(), *drawn.tasks]
        columns += [drawn.others, drawn.uncounted, drawn.unknown]
        assert sum(column[place] or 0 for column in columns) == process


def test_a_task_in_the_sum_of_others_stays_unknown():
    drawn = stacked(made(tasks=row(first=0, bytes=(50, None, 300))))
    assert drawn.tasks == ((50, None, 300),)
    assert drawn.others[1] == 100


# -- drawn -----------------------------------------------------------------------------


def incident(**more):
    last = {
        "why_not": "",
        "time": [T - 2, T - 1, T],
        "process": [500, 600, 900],
        "tasks": [
            {"key": None, "prefix": "p", "count": 3, "begin": T, "bytes": [90, 0, 0]},
            {"key": "b-1", "prefix": "b", "count": 1, "begin": T, "bytes": [0, 50, 60]},
            {"key": "a-1", "prefix": "a", "count": 1, "begin": T, "bytes": [0, 1, 440]},
        ],
        "others": [0, 9, 0],
        "n_others": [0, 1, 0],
        "uncounted": [10, 40, 0],
        "unknown": [0, 0, 0],
        **{name: [0, 0, 0] for name in ("managed", "transfer", "actors", "graph")},
        "retained": [0, 100, 0],
        "baseline": [400, 400, 400],
    }
    suspects = [
        {"key": "b-1", "prefix": "b", "bytes": 60, "seconds": 1.5},
        {"key": "a-1", "prefix": "a", "bytes": 440, "seconds": 1.0},
    ]
    known = {"time": T + 3, "suspects": suspects, "last_seconds": last}
    return {**known, "timeline": {"time": [], "process": []}, **more}


def test_the_largest_task_lies_at_the_bottom_and_keeps_its_colour_of_the_table():
    drawn = scene(incident())
    assert [band.what for band in drawn.bands] == [
        "a-1",
        "b-1",
        "p: 3 tasks that ended",
        "other tasks",
        "executing, and counted for no task",
        "retained",
        "baseline",
    ]
    assert (drawn.bands[0].colour, drawn.bands[0].hatch) == look(1)
    assert (drawn.bands[1].colour, drawn.bands[1].hatch) == look(0)
    assert drawn.before == (-2.0, -1.0, 0.0)
    for place, process in enumerate(drawn.process):
        assert sum(band.sizes[place] for band in drawn.bands) == process
    assert [band.said for band in drawn.bands[:3]] == ["440 B", "60 B", "at most 90 B"]


def test_tasks_look_different_from_each_other():
    assert len({look(place) for place in range(MOST)}) == MOST
    assert look(MOST) == ("", " ")


def test_tasks_beyond_those_that_have_a_colour_are_summed():
    known = incident()
    known["last_seconds"]["tasks"] = [
        {
            "key": f"a-{n}",
            "prefix": "a",
            "count": 1,
            "begin": T,
            "bytes": [0, 0, 10 + n],
        }
        for n in range(MOST + 2)
    ]
    known["suspects"] = []
    (more,) = [b for b in scene(known).bands if b.what == "other tasks"]
    assert more.sizes == (0, 9, 10 + MOST + 11 + MOST)


def test_an_incident_without_samples_has_no_scene():
    nothing = {**incident()["last_seconds"], "time": []}
    assert scene(incident(last_seconds=nothing)) == Scene()
    older = incident()
    del older["last_seconds"]
    assert scene(older) == Scene()


def test_the_last_rise_is_shown_and_the_oldest_task_whole():
    before = [-60.0 + n for n in range(61)]
    flat = [100] * 50 + [100 + 50 * n for n in range(11)]
    # it is above a tenth of the rise from 9 s before the end on
    assert seconds_shown(before, flat, [3.0]) == pytest.approx(1.25 * 9)
    assert seconds_shown(before, flat, [30.0]) == pytest.approx(1.25 * 30)
    assert seconds_shown(before, flat, [300.0, None]) == 60.0
    assert seconds_shown([-0.5, 0.0], [5, 9], []) == SHORTEST
    steady = list(range(1000, 1061))
    assert seconds_shown(before, steady, []) == 60.0


def test_what_was_before_the_shown_seconds_is_cut_but_for_one_sample():
    known = incident()
    for name, column in known["last_seconds"].items():
        if isinstance(column, list) and name != "tasks":
            known["last_seconds"][name] = [column[0]] * 20 + column
    known["last_seconds"]["time"] = [T - 22 + n for n in range(23)]
    for one in known["last_seconds"]["tasks"]:
        one["bytes"] = [0] * 20 + one["bytes"]
    drawn = scene(known)
    assert drawn.seconds == SHORTEST
    assert drawn.before[:2] == (-4.0, -3.0)
