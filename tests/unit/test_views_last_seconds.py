"""A worker's last seconds as charts, and an incident as text."""

import fake_parts
import fake_store
import pytest
from fake_parts import HOSTILE
from stories import MiB

from dask_memdash.analysis.incidents.last_seconds import MOST, Scene, look, scene
from dask_memdash.views.issue_text import failure_text, incident_text
from dask_memdash.views.last_seconds import LastSeconds
from dask_memdash.views.last_seconds_columns import (
    ROOM,
    bar,
    lanes,
    layers,
    names,
    tints,
)
from dask_memdash.views.last_seconds_columns import told as in_words


def suspect(key, size, seconds=5.0):
    return {
        "key": key,
        "prefix": key.split("-")[0],
        "bytes": size,
        "seconds": seconds,
        "method": "exact",
        "largest_block": None,
    }


def incident(suspects, executing=300):
    parts = [400, 10, 0, executing, 20, 0, 70]
    return {
        "id": "7",
        "time": 1000.0,
        "limit": 1024 * MiB,
        "breakdown": fake_parts.breakdown(*(part * MiB for part in parts)),
        "suspects": suspects,
        "timeline": {"time": [990.0, 999.9], "process": [100 * MiB, 800 * MiB]},
    }


def over_time(made):
    return {**made, "last_seconds": fake_parts.last_seconds()}


def told(made):
    columns = bar(scene(made).bands)
    tops = zip(columns["what"], columns["bottom"], columns["top"], strict=True)
    return [(what, round((top - bottom) / MiB)) for what, bottom, top in tops]


def test_the_bar_is_the_process_with_each_task_apart_and_what_none_counted():
    made = incident([suspect("a-1", 200 * MiB), suspect("b-1", 60 * MiB)])
    assert told(made) == [
        ("a-1", 200),
        ("b-1", 60),
        ("executing, and counted for no task", 40),
        ("managed", 400),
        ("in transfer", 10),
        ("retained", 20),
        ("baseline", 70),
    ]
    columns = bar(scene(made).bands)
    assert columns["top"][-1] == made["breakdown"]["process"]
    assert columns["link"][:3] == ["prefix-a", "prefix-b", ""]


def test_tasks_are_never_more_than_was_executing():
    made = incident([suspect("a-1", 400 * MiB), suspect("b-1", 200 * MiB)])
    assert told(made)[:2] == [("a-1", 200), ("b-1", 100)]
    assert bar(scene(made).bands)["top"][-1] == made["breakdown"]["process"]


def test_tasks_beyond_the_largest_are_summed_and_unknown_ones_have_no_size():
    many = [suspect(f"a-{i}", 10 * MiB) for i in range(MOST + 3)]
    rows = told(incident([*many, suspect("b-1", None)]))
    assert ("4 more tasks", 30) in rows
    assert len(tints(many)) == MOST + 3
    assert tints(many)[MOST:] == [("", " ")] * 3


def test_without_a_breakdown_there_is_no_bar():
    assert told({**incident([]), "breakdown": None}) == []
    assert told({**incident([]), "breakdown": fake_parts.no_breakdown()}) == []


def test_bands_lie_upon_each_other_up_to_the_process():
    bands = scene(over_time(incident([suspect("a-1", 300 * MiB)]))).bands
    assert [band.what for band in bands] == ["a-1", "managed", "baseline"]
    columns = layers(bands, 3)
    assert columns["edge0"] == [0, 0, 0]
    assert columns["edge1"] == [0, 200 * MiB, 300 * MiB]
    assert columns["edge2"] == [400 * MiB, 600 * MiB, 700 * MiB]
    assert columns["edge3"] == columns[f"edge{ROOM}"]
    assert columns["edge3"] == [500 * MiB, 700 * MiB, 800 * MiB]
    assert in_words(bands, 3) == [
        "managed 400 MiB, baseline 100 MiB",
        "managed 400 MiB, a 200 MiB, baseline 100 MiB",
        "managed 400 MiB, a 300 MiB, baseline 100 MiB",
    ]


def test_bands_are_named_beside_the_bar_the_largest_first_where_there_is_room():
    bands = scene(over_time(incident([suspect("a-1", 300 * MiB)]))).bands
    assert names(bands, 900.0 * MiB, 230) == {
        150 * MiB: "a 300 MiB",
        500 * MiB: "managed 400 MiB",
        750 * MiB: "baseline 100 MiB",
    }
    # all of them within 15 pixels: the largest alone
    assert names(bands, 20_000.0 * MiB, 230) == {}
    assert names(bands, 9_000.0 * MiB, 230) == {500 * MiB: "managed 400 MiB"}


def test_lanes_say_since_when_tasks_ran_within_what_is_shown():
    drawn = lanes([suspect("a-1", MiB, 3.0), suspect("b-1", MiB, 90.0)], -10.0)
    assert drawn["left"] == [-3.0, -10.0]
    assert drawn["right"] == [0.0, 0.0]
    assert drawn["ran"] == ["3.0 s", "1 min 30 s"]


def draw(charts, made):
    charts.draw(made, scene(made) if made else Scene())


def test_charts_are_shown_where_something_was_sampled():
    charts = LastSeconds(live=True)
    thresholds = {"pause": 800 * MiB, "terminate": None}
    made = {**incident([suspect("a-1", 200 * MiB)]), "thresholds": thresholds}
    draw(charts, made)
    assert charts.figure.visible
    assert charts.strips.visible
    assert charts.samples.data["time"] == [-10.0, pytest.approx(-0.1)]
    assert not any(area.visible for area in charts.drawn)
    assert charts.x_range.start == -10
    assert charts.x_range.end > 0
    assert charts.thresholds["pause"].location == 800 * MiB
    assert not charts.thresholds["terminate"].visible
    assert charts.limit.visible
    assert charts.names["limit"].text == "limit 1 GiB"
    draw(charts, {**made, "timeline": {"time": [], "process": []}})
    assert not charts.figure.visible
    draw(charts, None)
    assert not charts.strips.visible


def test_charts_show_tasks_over_time_in_the_colours_of_their_table():
    charts = LastSeconds(live=False)
    made = over_time(incident([suspect("a-1", 300 * MiB)]))
    draw(charts, made)
    assert [area.visible for area in charts.drawn[:4]] == [True, True, True, False]
    assert charts.drawn[0].glyph.fill_color == look(0)[0]
    assert charts.layers.data["time"] == [-10.0, pytest.approx(-0.1), 0.0]
    assert charts.edge.major_label_overrides[150 * MiB] == "a 300 MiB"
    draw(charts, incident([suspect("a-1", 200 * MiB)]))
    assert not any(area.visible for area in charts.drawn)


def test_lines_are_named_only_where_nothing_is_drawn_behind_their_name():
    charts = LastSeconds(live=False)
    lines = {"target": 450 * MiB, "spill": None, "pause": 900 * MiB}
    draw(charts, {**over_time(incident([])), "thresholds": lines})
    shown = {name for name, label in charts.names.items() if label.visible}
    assert shown == {"pause", "limit"}


# --- as text -------------------------------------------------------------------------


def test_incident_as_text_says_what_it_had_who_ran_and_where_it_allocated():
    known = fake_store.failing(1).all_incidents[-1]
    known["suspects"][0]["largest_block"] = {
        "bytes": 150 * MiB,
        "text": "app/model.py:42 in np.concatenate",
    }
    lines = incident_text(known).splitlines()
    assert lines[0].startswith("Incident 1: terminated by its nanny, ")
    assert (
        "  Worker: worker-1 at tcp://10.0.0.1:4000, process 1001 on 10.0.0.1" in lines
    )
    assert any(
        line.startswith("  Memory: 0.97 GiB of 1 GiB (managed ") for line in lines
    )
    (running,) = [line for line in lines if line.startswith("  Running: ")]
    assert running.endswith(
        "largest block 150 MiB at app/model.py:42 in np.concatenate"
    )


def test_failure_as_text_has_cause_relief_advice_and_its_incidents():
    store = fake_store.failing(1)
    (failure,) = store.all_failures
    text = failure_text(failure, [store.incident("1"), store.incident("2")])
    assert "Cause: one task needs too much (86 % confidence)" in text
    assert "Relief: memory rose too fast" in text
    assert "Responsible: rechunk-split" in text
    assert text.count("Incident ") == 2


def test_names_cannot_break_out_of_their_line():
    known = fake_store.hostile().all_incidents[-1]
    known["worker"]["name"] = "w\n# heading\x1b[31m"
    text = incident_text(known)
    assert "\n# heading" not in text
    assert "\x1b" not in text
    assert HOSTILE in text
