"""The Overview's first words, and its table of who holds the memory."""

import re

import fake_store
import pytest
from fake_parts import failure, prefix, worker
from stories import NOW, MiB

from dask_memdash.store.holders import MOST, holders
from dask_memdash.views.answers import AnswersView, facts
from dask_memdash.views.base import Context
from dask_memdash.views.holders import HoldersView, needs, rows, wanted
from dask_memdash.views.summary import SummaryView, families

CSS = "memdash.css"


def text_of(make, store, attribute):
    view = make(store, Context(CSS))
    view.update()
    return getattr(view, attribute).pane.object


def plain(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def failed(**more):
    diagnosis = {
        "cause": "task-too-large",
        "relief": None,
        "confidence": 0.9,
        "text": "Cause: one task needs too much. `fit` held 380 MiB. And more.",
        "advice": ['Make chunks smaller: `x = x.rechunk("8MiB")`. It helps.', "Wait."],
    }
    return failure(7, [], diagnosis=diagnosis, closed=None, **more)


def test_a_failure_says_what_why_who_and_what_to_change_with_a_line_to_copy():
    store = fake_store.busy()
    store.all_failures = [failed()]
    html = text_of(AnswersView, store, "about")
    said = plain(html)
    assert "What happened" in said
    assert "How it stands" not in said
    assert "3 deaths of 2 workers" in said
    assert "One task needs too much. fit held 380 MiB." in said
    assert "And more" not in said
    assert 'href="#failure-7"' in html
    assert 'href="#prefix-rechunk-split"' in html
    assert 'data-copy="x = x.rechunk(&#34;8MiB&#34;)"' in html
    assert "1 other way" in said


def test_a_failure_of_unknown_cause_promises_nothing():
    store = fake_store.busy()
    unknown = failed(responsible={"prefix": None, "key": None})
    unknown["diagnosis"] |= {"cause": "unknown", "advice": [], "text": "Not known."}
    store.all_failures = [unknown]
    said = plain(text_of(AnswersView, store, "about"))
    assert "Nothing shows which tasks it was." in said
    assert "Nothing, while the cause is not known." in said


def test_more_failures_than_have_room_are_counted():
    store = fake_store.busy()
    store.all_failures = [failed() for _ in range(5)]
    assert "2 more failures" in plain(text_of(AnswersView, store, "about"))


def test_in_peace_it_says_how_it_stands_and_names_earlier_failures():
    store = fake_store.busy()
    said = plain(text_of(AnswersView, store, "about"))
    assert "no failure so far" in said
    headroom, time, execution, storage = facts(store)
    assert headroom.figure == "11.2 MiB"
    assert headroom.text == (
        "1 % of 819 MiB is left on worker-2, the fullest, up to the line at which it "
        "is paused."
    )
    assert headroom.mood == "alarm"
    assert time.figure == "none in sight"
    assert (execution.figure, storage.figure) == ("sum", "random_sample")
    assert "in 4 running tasks" in execution.text
    assert storage.text.startswith("768 MiB in memory and 400 MiB on disk")
    store.all_failures = [failure(1, [], closed=NOW - 1000)]
    said = plain(text_of(AnswersView, store, "about"))
    assert "no failure in the last minutes, 1 earlier one" in said


def test_no_worker_of_a_shared_process_is_named_for_all_of_them():
    (headroom, *_) = facts(fake_store.shared_process())
    assert "on the process of 3 workers, the fullest" in headroom.text


@pytest.mark.parametrize(
    ("seconds", "mood", "figure"),
    [
        (60.0, "alarm", "about 1 min 00 s"),
        (300.0, "caution", "about 5 min 00 s"),
        (3000.0, "", "about 50 min 00 s"),
    ],
)
def test_time_to_the_limit_says_when_for_whom_and_what_grows(seconds, mood, figure):
    store = fake_store.busy()
    told = {"seconds": seconds, "soonest": 1.0, "latest": None, "line": "pause"}
    told |= {"bytes": 9, "rate": 2 * MiB, "grows": "storage", "confidence": 0.9}
    store.all_workers[0] = worker(1, name="0", time_to_limit=told)
    fact = facts(store)[1]
    assert (fact.figure, fact.mood) == (figure, mood)
    assert fact.text == ("Then worker 0 is paused, if its storage grows on by 2 MiB/s.")


def test_an_empty_cluster_says_that_nothing_is_known():
    said = plain(text_of(AnswersView, fake_store.empty(), "about"))
    assert said.count("No worker is connected.") == 2
    assert "no failure so far" not in said


# --- who holds it ---------------------------------------------------------------------


def figure(text):
    """Return the figure of a size as shown, in its unit's hundredths."""
    return (
        0
        if text.startswith(("<", "0 B")) or not text
        else round(float(text.split()[0]) * 100)
    )


@pytest.mark.parametrize("number", [2, 30])
def test_figures_of_the_rows_add_up_as_shown_to_those_of_the_cards(number):
    store = fake_store.busy()
    if number > MOST:
        whole = store.cluster()["breakdown"]
        store.all_prefixes = [
            prefix(f"p{n}", whole["managed"] // number) for n in range(number)
        ]
        left = whole["managed"] % number
        store.all_prefixes[0]["storage"]["managed"] += left
    cluster = store.cluster()
    written = rows(holders(store), cluster)
    cards = {f["name"]: f["total"] for f in families(cluster)}
    units = {text.split()[-1] for row in written for text in (row.stored,) if text}
    assert units <= {"GiB", "B"}
    assert sum(figure(row.stored) for row in written) == figure(cards["storage"])
    assert sum(figure(row.executing) for row in written) == figure(cards["execution"])
    html = text_of(HoldersView, store, "table")
    assert cards["storage"] in html
    assert cards["storage"] in text_of(SummaryView, store, "about")


def test_bars_have_one_scale_and_the_smaller_ones_together_none():
    store = fake_store.busy()
    store.all_prefixes = [prefix("a", 400 * MiB, 100 * MiB, spilled=0)]
    store.all_prefixes += [prefix(f"b{n}", 90 * MiB, spilled=0) for n in range(40)]
    written = {row.label: row.bars for row in rows(holders(store), store.cluster())}
    assert written["a"]["managed"] == pytest.approx(4 * written["a"]["executing"], 0.01)
    assert written["31 smaller ones"] == {}
    assert max(length for bars in written.values() for length in bars.values()) == 100


def test_a_prefix_that_killed_is_marked_and_says_what_it_needs_at_least():
    store = fake_store.failing(2)
    known = store.all_prefixes[1]
    assert known["prefix"] == "rechunk-split"
    known["execution"]["peak"] |= {"p95": None, "max": None, "at_least": 380 * MiB}
    said = plain(text_of(HoldersView, store, "table"))
    assert "rechunk-split ✕ 6 deaths one task: at least 380 MiB" in said
    assert said.index("rechunk-split") < said.index("random_sample"), "it comes first"


@pytest.mark.parametrize(
    ("pinned", "awaited", "waiters", "said"),
    [
        (0, 0, [], ""),
        (5, 3, ["sum"], "kept by a client"),
        (1, 3, ["sum"], "needed by sum"),
        (0, 3, ["sum", "mean", "std"], "needed by sum and 2 more"),
    ],
)
def test_a_row_says_who_wants_what_it_stores(pinned, awaited, waiters, said):
    storage = prefix("a", 9)["storage"]
    storage |= {"pinned": pinned, "awaited": awaited}
    storage["awaited_by"] = [{"prefix": name, "bytes": 1} for name in waiters]
    assert wanted(storage) == said


def test_what_deaths_taught_stands_until_a_task_was_seen_to_need_more():
    execution = prefix("a", 0)["execution"]
    execution["peak"] |= {"p95": 60 * MiB, "max": 90 * MiB, "at_least": 80 * MiB}
    assert needs(execution)[:2] == ("one task:", "60 MiB ± 6 MiB")
    execution["peak"]["at_least"] = 100 * MiB
    assert needs(execution)[:2] == ("one task: at least", "100 MiB")
    execution["peak"] = dict.fromkeys(execution["peak"])
    assert needs(execution) is None
