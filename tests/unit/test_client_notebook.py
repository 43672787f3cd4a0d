"""What a notebook shows: cards of a cluster, charts with axes, in HTML that is safe."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import dask.array as da
import fake_store
import pytest
from fake_parts import incident, last_seconds
from fake_store import HOSTILE
from test_client import Client, answered, served

import dask_memdash
from dask_memdash import MemDash, terms
from dask_memdash.client import connection as module
from dask_memdash.client.cards import Shown, cards
from dask_memdash.client.connection import Connection
from dask_memdash.client.explanation import Explanation
from dask_memdash.client.failure_explanation import FailureExplanation
from dask_memdash.client.svg_chart import (
    HEIGHT,
    WIDTH,
    Chart,
    Level,
    Series,
    Stripe,
    geometry,
    number_ticks,
    size_step,
)
from dask_memdash.plugins.scheduler.notebook import summary
from dask_memdash.text import format_bytes

MiB = 2**20


class Query(Client):
    """A client of a store, whose questions may have arguments."""

    def __init__(self, store):
        super().__init__(served(store))
        self.asynchronous = False


def shown(store):
    return Connection(Query(store), tells=False)._repr_html_()


class Tags(HTMLParser):
    """The tags, attributes and text of a piece of HTML."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += f" {' '.join(data.split())}"


# -- cards ---------------------------------------------------------------------


def test_cards_say_how_much_of_what_who_holds_it_and_where_the_page_is():
    html = shown(fake_store.busy())
    text = " ".join(Tags(html).text.split())
    for said in (
        "4 workers tcp://s:1 Open the page",
        "2.87 GiB of 4 GiB, 72 %",
        "executing 0.83 GiB",
        "storage 1.38 GiB execution 0.83 GiB overhead 0.66 GiB spilled 400 MiB",
        "fullest workers worker-2 808 MiB, 79 % worker-4 745 MiB, 73 %",
        "random_sample 768 MiB, 0 B",
        "No failures.",
    ):
        assert said in text
    assert 'href="http://proxy/me/8787/memdash"' in html
    live = "http://proxy/me/8787/individual-memdash-memory-over-time"
    assert f'<iframe src="{live}"' in html


def test_parts_add_up_as_shown_in_the_colours_of_the_glossary():
    html = shown(fake_store.busy())
    legend = html[html.index("flex-wrap: wrap; gap: 0 14px; margin-bottom: 8px") :]
    written = re.findall(r"(\d\.\d\d) GiB</span>", legend)
    assert sum(map(float, written)) == pytest.approx(2.87)
    colours = re.findall(r"border-radius: 2px; background: (#\w{6})", legend)
    breakdown = fake_store.busy().cluster()["breakdown"]
    assert colours == [p.colour for n, p in terms.PARTS.items() if breakdown[n]]


def test_an_open_failure_stands_first_with_what_to_change():
    html = shown(fake_store.failing(3))
    text = " ".join(Tags(html).text.split())
    assert text.index("Failure 3 , open since") < text.index("2.87 GiB of 4 GiB")
    assert "What to change: Make chunks smaller: x.rechunk((500, 500))." in text
    assert "2 failures before." in text
    assert '/memdash#failure-3"' in html


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (fake_store.empty, "No worker is connected."),
        (fake_store.degraded, "MemDash sees less than it should: "),
    ],
)
def test_states_without_figures_are_said(store, said):
    assert said in shown(store())


def test_workers_that_have_not_reported_are_not_called_none():
    store = fake_store.empty()
    store.n_workers = 2
    cluster = {**store.cluster(), "n_workers": 2}
    html = cards(Shown("tcp://s:1", cluster=cluster))
    assert "No memory is measured yet" in html


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "client.register_plugin(dask_memdash.MemDash()) registers it"),
        (OSError("comm closed"), "cannot be asked: comm closed"),
        (answered(500, "it failed"), "it failed"),
    ],
)
def test_what_cannot_be_asked_is_told_and_never_raised(answer, said):
    client = Query(fake_store.busy())
    client.answer = answer
    html = Connection(client, tells=False)._repr_html_()
    assert "Nothing can be shown." in html
    assert said in Tags(html).text


def test_clients_that_are_closed_or_asynchronous_are_told_of():
    client = Query(fake_store.busy())
    client.status = "closed"
    assert "the client is closed" in Connection(client)._repr_html_()
    client.asynchronous = True
    assert "await its methods" in Connection(client)._repr_html_()


def test_a_scheduler_that_does_not_answer_is_not_waited_for_long(monkeypatch):
    import asyncio

    monkeypatch.setattr(module, "CARDS_TIMEOUT", 0.05)
    client = Query(fake_store.busy())

    async def never(path, arguments):
        await asyncio.sleep(3600)

    client.scheduler = SimpleNamespace(address="tcp://s:1", memdash_query=never)
    assert "has not answered" in Connection(client, tells=False)._repr_html_()


def test_what_stands_in_backticks_is_code_on_cards():
    store = fake_store.failing(1)
    failed = store.all_failures[0]
    failed["closed"] = None
    failed["diagnosis"]["advice"] = [
        "More memory: `--memory-limit 2GiB`. `<b>` needs it."
    ]
    html = shown(store)
    assert (
        "More memory: <code>--memory-limit 2GiB</code>. <code>&lt;b&gt;</code>" in html
    )
    assert "`" not in html


def test_cards_call_workers_and_what_is_no_tasks_as_the_page_does():
    store = fake_store.busy()
    store.all_workers[0]["name"] = "7"
    cluster = store.cluster()
    row = {**store.all_prefixes[0], "prefix": "baseline", "kind": "other"}
    html = cards(
        Shown("s", cluster=cluster, workers=store.all_workers[:1], prefixes=[row])
    )
    assert "worker 7" in html
    said = " ".join(Tags(html).text.split())
    assert f"baseline no task's {format_bytes(row['bytes'])}" in said


def test_hostile_names_are_text_on_cards():
    tags = Tags(shown(fake_store.hostile()))
    assert "img" not in tags.tags
    assert "script" not in tags.tags
    assert not [name for name, _ in tags.attributes if name.startswith("on")]


def test_cards_link_nowhere_but_to_the_web():
    cluster = fake_store.busy().cluster()
    html = cards(Shown("s", cluster=cluster, page="javascript:alert(1)"))
    assert "javascript" not in html
    assert "<iframe" not in html


def test_the_plugin_shows_the_same_and_without_a_cluster_says_how_to_register():
    assert "client.register_plugin(MemDash())" in MemDash()._repr_html_()
    assert "2.87 GiB of 4 GiB, 72 %" in summary(fake_store.busy())
    assert repr(MemDash()) == "<MemDash()>"
    assert repr(MemDash(run="nightly")) == "<MemDash(run='nightly')>"


# -- charts --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("top", "step"),
    [
        *((1, 1), (1000, 256), (700 * MiB, 256 * MiB), (900 * MiB, 256 * MiB)),
        *((2**30, 2**28), (5.5 * 2**30, 2 * 2**30), (100 * 2**30, 32 * 2**30)),
    ],
)
def test_steps_between_sizes_are_round_and_few(top, step):
    assert size_step(top) == step


@pytest.mark.parametrize(
    ("start", "end", "texts"),
    [
        (0, 1200, ["0", "500", "1,000"]),
        (0, 4, ["0", "1", "2", "3", "4"]),
        (-30, 0, ["−30", "−20", "−10", "0"]),
        (-0.8, 0, ["−0.8", "−0.6", "−0.4", "−0.2", "0.0"]),
        (0, 0, ["0"]),
    ],
)
def test_ticks_are_round_numbers(start, end, texts):
    assert [text for _, text in number_ticks(start, end)] == texts


def test_everything_of_a_chart_is_inside_it():
    line = Series("a", "#000000", [0, 50, 100], [0, 700 * MiB, 300 * MiB])
    limits = [Level("limit", 800 * MiB, "#c8372d"), Level("host", 2**40, "#888888")]
    made = geometry(Chart("t", "tasks", [line], limits))
    assert (
        made["lines"][0]["points"].split()[0] == f"{made['left']}.0,{made['bottom']}.0"
    )
    for point in made["lines"][0]["points"].split():
        x, y = map(float, point.split(","))
        assert made["left"] <= x <= made["right"] <= WIDTH
        assert 0 <= y <= made["bottom"] <= HEIGHT
    assert [text for _, text in made["rows"]] == [
        *("0 B", "256 MiB", "512 MiB", "768 MiB", "1 GiB")
    ]
    assert len(made["levels"]) == 1  # one so far above would press the line flat
    assert [name for *_, name in made["legend"]] == [
        *("a", "limit 800 MiB", "host 1 TiB")
    ]


def test_bands_stand_upon_each_other_and_are_named_at_the_edge():
    line = Series("all", "#000000", [-2, -1, 0], [4 * MiB, 4 * MiB, 8 * MiB])
    bands = [
        Stripe("a-1", "a", "#e8871e", " ", [0, MiB, 5 * MiB]),
        Stripe("rest", "rest", "#7b8794", "dot", [4 * MiB, 3 * MiB, 3 * MiB]),
        Stripe("trifle", "trifle", "#2f74c0", " ", [0, 0, 1]),
        Stripe("not known", "not known", "", " ", [0, 0, 0]),
    ]
    made = geometry(Chart("t", "s", [line], stripes=bands, mark="death"))
    lower, upper = (
        [tuple(map(float, point.split(","))) for point in stripe["points"].split()]
        for stripe in made["stripes"]
    )
    assert lower[:3] == upper[:2:-1]  # the one ends where the other begins
    assert lower[-1] == (made["left"], made["bottom"])
    assert max(x for x, _ in upper) == made["right"]
    assert made["hatches"] == [("dot", "#7b8794")]
    assert [text for _, text in made["names"]] == ["a 5 MiB", "rest 3 MiB"]
    assert [name for _, _, name, _ in made["swatches"]] == ["a-1", "rest", "trifle"]


def test_an_explanation_draws_whose_the_memory_was_over_time():
    html = Explanation(incident(4, last_seconds=last_seconds()))._repr_html_()
    assert html.count("<polygon") == 3
    assert ">death</text>" in html
    assert "a-1 <span" in html
    assert ">a 300 MiB</text>" in html


def test_a_chart_of_nothing_is_one_still():
    made = geometry(Chart("t", "tasks", [Series("a", "#000000", [], [])]))
    assert made["rows"][0][1] == "0 B"


def test_the_order_is_drawn_with_axes_title_and_legend():
    x = da.ones((100, 100), chunks=(10, 100))
    html = dask_memdash.order(x + 1, threads=2, capacity="1 MB")._repr_html_()
    assert "Storage that this order needs" in html
    assert ">finished tasks</text>" in html
    assert html.count("<polyline") == 2
    for name in (
        "one task at a time",
        "2 tasks at a time",
        "the workers have 0.95 MiB",
    ):
        assert name in html
    assert re.search(r'text-anchor="end">\d+(\.\d+)? kiB</text>', html)


def test_an_explanation_draws_the_workers_memory_before_its_death():
    nothing = {**last_seconds(), "time": []}
    html = Explanation(incident(4, last_seconds=nothing))._repr_html_()
    assert "Memory of worker-4 before the incident" in html
    assert ">seconds</text>" in html
    assert html.count("<polyline") == 1
    assert "<polygon" not in html
    assert "limit 1 GiB" in html


def test_an_explanation_without_samples_draws_nothing():
    empty = {"time": [], "process": [], "clock_offset": 0.0}
    nothing = {**last_seconds(), "time": []}
    known = incident(4, timeline=empty, last_seconds=nothing)
    assert "<svg" not in Explanation(known)._repr_html_()


def test_a_failure_is_html_with_a_title_advice_and_a_link():
    (failure,) = fake_store.failing(1).failures()
    html = FailureExplanation(failure, "http://h/memdash#failure-1")._repr_html_()
    tags = Tags(html)
    assert {"section", "h4", "ul", "li", "a"} <= set(tags.tags)
    assert "What to change" in tags.text
    assert "Make chunks smaller: x.rechunk((500, 500))." in tags.text
    hostile = {**failure, "text": HOSTILE}
    assert "<img" not in FailureExplanation(hostile)._repr_html_()
