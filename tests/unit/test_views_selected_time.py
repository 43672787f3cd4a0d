"""The moment that a page shows: one notion for living and for recorded clusters."""

import json

import pytest
import stories
from bokeh.document import Document
from recorded_runs import record_story
from stories import NOW, MiB

from dask_memdash.boundary import Boundary
from dask_memdash.runs.reading import RunReader
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.views import browser_state
from dask_memdash.views.browser_state import moment_of
from dask_memdash.views.layout import SECTIONS, OpenPage
from dask_memdash.views.record_page import OpenRecord
from dask_memdash.views.selected_time import SelectedStore, over_time
from dask_memdash.views.shared import SharedStore


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    record_story(path, stories.after_incident.__wrapped__)
    reader = RunReader(path)
    yield RecordedStore(reader)
    reader.close()


def opened(store, kind=OpenPage):
    boundary = Boundary()
    page = kind(Document(), SharedStore(store), "", boundary.guarded, whole=False)
    for _ in page.pieces():
        pass
    return page, boundary


def tell(page, **shown):
    page.state.value = json.dumps({"tab": "overview", **shown})


def total(page):
    return page.views["summary"].about.pane.object


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.5", (12.5, 12.5)),
        ("12.5..20", (12.5, 20.0)),
        ("20..12.5", (12.5, 20.0)),
        ("", None),
        (None, None),
        ("now", None),
        ("nan", None),
        ("inf..3", None),
        ("-1", None),
        ("1e300", None),
        ("3..", (3.0, 3.0)),
    ],
)
def test_address_names_an_instant_or_a_span(text, expected):
    assert moment_of(text) == expected


@pytest.mark.parametrize(
    "at", [None, "5", [1], [1, 2, 3], [1, "2"], [float("nan"), 1], {}, [True, None]]
)
def test_whatever_a_browser_tells_is_a_moment_or_now(at):
    assert browser_state.read(json.dumps({"at": at})).at is None


def test_cards_tell_of_the_moment_and_charts_of_now():
    page, boundary = opened(stories.busy())
    before, chart = total(page), page.views["history"].chart.source.data["time"]
    tell(page, at=[NOW - 60, NOW - 60])
    assert total(page) != before
    assert page.views["history"].chart.source.data["time"] == chart
    assert page.context.axis.chosen == (NOW - 60, NOW - 60)
    tell(page)
    assert total(page) == before
    assert page.context.axis.chosen is None
    assert boundary.texts() == ()


def test_moment_is_marked_in_charts_that_are_made_later():
    page, _ = opened(stories.busy())
    tell(page, at=[NOW - 60, NOW - 30])
    tell(page, tab="workers", at=[NOW - 60, NOW - 30])
    boxes = [box for _, box in page.context.axis._marks]
    assert len(boxes) > 2
    assert {(box.left, box.right, box.visible) for box in boxes} == {
        ((NOW - 60) * 1000, (NOW - 30) * 1000, True)
    }


def test_zoom_goes_to_the_span():
    page, _ = opened(stories.busy())
    tell(page, at=[NOW - 60, NOW - 30])
    tell(page, at=[NOW - 60, NOW - 30], zoom=1)
    assert (page.context.axis.start, page.context.axis.end) == (NOW - 60, NOW - 30)


def test_what_is_not_kept_is_said():
    page, _ = opened(stories.busy())
    tell(page, at=[NOW - 60, NOW - 60])
    facts = dict(zip(page.facts.data["name"], page.facts.data["text"], strict=True))
    assert facts["missing"] == "Prefixes are not kept of that moment."
    tell(page)
    facts = dict(zip(page.facts.data["name"], page.facts.data["text"], strict=True))
    assert facts["missing"] == ""


@pytest.mark.parametrize("kind", ["living", "record"])
def test_every_tab_can_be_shown_at_any_moment(kind, record):
    living = kind == "living"
    store = stories.after_incident() if living else record
    page, boundary = opened(store, OpenPage if living else OpenRecord)
    for start, end in ((NOW - 300, NOW - 300), (NOW - 70, NOW - 5), (NOW, NOW)):
        for tab in browser_state.TABS:
            chosen = stories.address(3) if tab == "workers" else ""
            tell(page, tab=tab, at=[start, end], chosen=chosen)
    assert page.views.keys() == SECTIONS.keys()
    assert boundary.texts() == ()


def test_version_stands_while_a_moment_is_shown_and_answers_are_kept():
    store = SelectedStore(SharedStore(stories.busy()))
    now = store.workers()
    store.choose((NOW - 60, NOW - 60))
    assert store.version == 0
    assert store.workers() is store.workers()
    assert store.workers() != now
    assert over_time(store).workers() == now
    assert store.remember("x", lambda: 1) == 1
    assert store.remember("x", lambda: 2) == 1
    store.choose(None)
    assert store.workers() == now
    assert store.remember("x", lambda: 3) == 3


def test_record_tells_of_an_instant_and_of_the_most_of_a_span(record):
    def processes(store):
        return {w["name"]: w["breakdown"]["process"] // MiB for w in store.workers()}

    instant = record.then(NOW - 15, NOW - 15)
    assert processes(instant) == {"worker-3": 471}
    span = record.then(NOW - 30, NOW - 15)
    assert processes(span) == {"worker-3": 471, "worker-4": 990}
    assert (
        span.cluster()["breakdown"]["process"]
        >= (instant.cluster()["breakdown"]["process"])
    )
    for worker in span.workers():
        breakdown = worker["breakdown"]
        parts = ("managed", "transfer", "actors", "executing", "retained", "graph")
        assert (
            sum(breakdown[part] for part in (*parts, "baseline"))
            == (breakdown["process"])
        )
