"""An explanation as text and as HTML: complete, honest, and safe to show."""

from html.parser import HTMLParser

import pytest
from fake_parts import HOSTILE, breakdown, given_up, incident
from stories import NOW, MiB

from dask_memdash.client.explanation import Explanation

PAGE = "http://h:8787/memdash#incident-4"

KNOWN = {
    "cause": "task-too-large",
    "confidence": 0.93,
    "responsible": {"prefix": "load", "key": "load-7"},
    "text": "Worker 0 died of load-7.",
    "advice": ["Use blocks of at most 120 MB.", "Or one thread per worker."],
}
UNSURE = {
    "cause": "unknown",
    "confidence": 0.0,
    "responsible": {"prefix": None, "key": None},
    "text": "The nanny terminated the worker at 97 % of its limit.",
    "advice": [],
}
FINDINGS = [
    {
        "cause": "task-too-large",
        "weight": 0.9,
        "text": "load-7 held 412 MiB of 584 MiB",
        "responsible": {"prefix": "load", "key": "load-7"},
    }
]
COST = {
    "keys_lost": 90,
    "bytes_lost": 764 * MiB,
    "seconds_recomputed": 12.34,
    "seconds_away": 2.5,
}


def suspect(**values):
    return {**incident(1)["suspects"][0], **values}


def test_the_line_of_the_largest_block_is_told_where_one_is_known():
    block = {"bytes": 240 * MiB, "file": "app/model.py", "text": "app/model.py:42 in f"}
    known = [suspect(largest_block=block), suspect(largest_block=None)]
    text = str(Explanation(incident(4, suspects=known), page=PAGE))
    assert "largest block" in text
    assert "240 MiB at app/model.py:42 in f" in text
    for older in ({"largest_block": None}, {}):
        text = str(Explanation(incident(4, suspects=[suspect(**older)]), page=PAGE))
        assert "largest block" not in text


def test_a_death_is_told_whole():
    death = incident(
        4,
        diagnosis=KNOWN,
        findings=FINDINGS,
        cost=COST,
        suspects=[
            suspect(
                key="load-7",
                attempts=[{"incident": "1", "kind": "terminated"}],
                expected={"p50": 1, "p95": 300 * MiB, "max": 2, "method": "exact"},
            )
        ],
        storage=[
            {
                "prefix": "random_sample",
                "managed": 700 * MiB,
                "spilled": 0,
                "count": 1234,
                "because": [
                    {"why": "awaited", "prefix": "sum", "bytes": 600 * MiB},
                    {"why": "pinned", "prefix": None, "bytes": 100 * MiB},
                ],
            }
        ],
    )
    assert str(Explanation(death, page=PAGE)) == (
        """\
Incident 4: terminated by its nanny, 2025-10-09 08:53:00 UTC
Worker 0 died of load-7.

Cause: one task needs too much (task-too-large, confidence 93 %); responsible: \
load, task load-7

Tasks that were running
  task    memory   peak     share of limit  usual peak (95 %)  ran for  place in order\
  also ran at
  load-7  200 MiB  240 MiB  20 %            300 MiB            12 s     37 of 1,210    \
 incident 1 (terminated by its nanny)

Outputs that the worker stored
  prefix         in memory  spilled  outputs  needed for
  random_sample  700 MiB    0 B      1,234    needed by later tasks (sum): 600 MiB, \
held by a client: 100 MiB

Findings
  - one task needs too much (90 %): load-7 held 412 MiB of 584 MiB

What to change
  - Use blocks of at most 120 MB.
  - Or one thread per worker.

Not to blame: assigned to the worker, but not running
  - ('sum', 1)
  - ('sum', 2)

Memory: 0.97 GiB = managed 0.68 GiB + executing 0.20 GiB + baseline 0.09 GiB (limit \
1 GiB)
Cost: 90 stored outputs of 764 MiB lost, 12 s of work to repeat, a worker was back \
after 2.5 s
Known from: the worker's flight recorder
Page: http://h:8787/memdash#incident-4"""
    )


def test_a_killed_worker_shows_its_deaths_and_the_cause_that_is_most_certain():
    unsure = {**KNOWN, "cause": "leak", "confidence": 0.4}
    deaths = [
        incident(1, diagnosis=KNOWN, findings=FINDINGS),
        incident(2, "oom-killed", diagnosis=unsure, suspects=[]),
    ]
    told = Explanation(given_up(5, ["1", "2"], diagnosis=UNSURE), deaths)
    assert (told.id, told.kind) == ("5", "killed-worker")
    assert (told.cause, told.confidence) == ("task-too-large", 0.93)
    assert told.advice == ["Use blocks of at most 120 MB.", "Or one thread per worker."]
    text = str(told)
    assert "At death 1: Worker 0 died of load-7." in text
    assert "Tasks that were running at death 1" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "terminated", "by", "its", "nanny", "worker-1", "0.97"] in [
        x[:7] for x in lines
    ]
    assert ["killed", "by", "the", "kernel"] in [x[1:5] for x in lines]
    assert "Cost: 180 stored outputs of 1.49 GiB lost" in text


def test_a_killed_workers_own_cause_goes_before_those_of_its_deaths():
    own = {**KNOWN, "cause": "run-ahead", "confidence": 0.5}
    given = {**given_up(5, ["1"]), "diagnosis": own}
    told = Explanation(given, [incident(1, diagnosis=KNOWN)])
    assert (told.cause, told.confidence) == ("run-ahead", 0.5)
    assert "Tasks that were running at death 1" in str(told)


def test_without_a_cause_it_says_so():
    told = Explanation(incident(4, diagnosis=UNSURE))
    assert (told.cause, told.confidence, told.advice) == ("unknown", 0.0, [])
    assert "Cause: unknown. There is not enough evidence to name a cause." in str(told)
    assert "Page:" not in str(told)


def test_what_is_not_known_is_left_out():
    bare = incident(
        4,
        "lost",
        breakdown=breakdown(*[0] * 7),
        suspects=[suspect(bytes=None, peak=None, share=None, order_position=None)],
        storage=[],
        innocent={"count": 0, "keys": []},
        cost=dict.fromkeys(COST),
        evidence="scheduler",
        settled=False,
    )
    text = str(Explanation(bare))
    assert "None" not in text
    assert "Cost" not in text
    assert "holds" not in text  # a column without any value
    assert "the scheduler alone; the nanny's report has not arrived" in text


def test_long_lists_are_cut_and_say_so():
    suspects = [suspect(key=f"load-{n}") for n in range(30)]
    storage = [{**incident(1)["storage"][0], "prefix": f"p{n}"} for n in range(10)]
    innocent = {"count": 5000, "keys": [f"i-{n}" for n in range(20)]}
    death = incident(4, suspects=suspects, storage=storage, innocent=innocent)
    text = str(Explanation(death))
    assert "load-7" in text
    assert "load-8" not in text
    assert "… and 22 more" in text
    assert "… and 2 more" in text
    assert "and 4,992 others" in text


def test_a_corrected_clock_is_said():
    timeline = {"time": [NOW], "process": [5], "clock_offset": -3600.0}
    text = str(Explanation(incident(4, timeline=timeline)))
    assert "the worker's clock was 1 h 00 min off and is corrected for" in text


def test_keys_with_newlines_and_of_any_length_keep_the_tables_shape():
    text = str(Explanation(incident(4, suspects=[suspect(key="a\nb\tc" * 10**6)])))
    assert max(map(len, text.splitlines())) < 300
    assert "a b ca b c" in text


class Tags(HTMLParser):
    """The tags, attributes and text of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_in_a_notebook_it_is_html_with_the_same_content():
    death = incident(4, diagnosis=KNOWN, findings=FINDINGS, cost=COST)
    html = Tags(Explanation(death, page=PAGE)._repr_html_())
    for part in ("Incident 4: terminated", "(task-too-large, confidence 93 %)"):
        assert part in html.text
    for part in ("random_sample", "Use blocks of at most 120 MB.", "12 s of work"):
        assert part in html.text
    assert ("href", PAGE) in html.attributes
    assert {"section", "table", "th", "li"} <= html.tags


def test_what_is_stored_of_the_lost_is_no_cost():
    stored = {"keys_stored": 80, "bytes_stored": 700 * MiB}
    text = str(Explanation(incident(4, cost=COST | stored)))
    assert "764 MiB lost, 80 of 700 MiB stored and not computed again" in " ".join(
        text.split()
    )
    whole = {"keys_stored": 90, "bytes_stored": 764 * MiB, "seconds_recomputed": 0.0}
    text = " ".join(str(Explanation(incident(4, cost=COST | whole))).split())
    assert "764 MiB lost, all stored and not computed again, a worker" in text
    assert "of work to repeat" not in text


@pytest.mark.parametrize("kind", ["death", "killed-worker"])
def test_nothing_hostile_gets_out_of_the_html(kind):
    diagnosis = {**KNOWN, "text": HOSTILE, "advice": [HOSTILE], "cause": HOSTILE}
    diagnosis["responsible"] = {"prefix": HOSTILE, "key": HOSTILE}
    death = incident(
        4,
        diagnosis=diagnosis,
        findings=[{**FINDINGS[0], "text": HOSTILE, "cause": HOSTILE}],
        suspects=[suspect(key=HOSTILE, prefix=HOSTILE)],
        storage=[
            {
                "prefix": HOSTILE,
                "managed": 1,
                "spilled": 1,
                "count": 1,
                "because": [{"why": HOSTILE, "prefix": HOSTILE, "bytes": 1}],
            }
        ],
        innocent={"count": 1, "keys": [HOSTILE]},
        worker=dict.fromkeys(("address", "name", "host"), HOSTILE),
        evidence=HOSTILE,
    )
    told = Explanation(death, page=HOSTILE)
    if kind == "killed-worker":
        told = Explanation(
            {**given_up(5, ["4"]), "diagnosis": diagnosis}, [death], HOSTILE
        )
    html = Tags(told._repr_html_())
    assert "img" not in html.tags
    assert "script" not in html.tags
    assert not [name for name, _ in html.attributes if name.startswith("on")]
    assert "<img src=x" in html.text


def test_prose_is_broken_into_lines_and_addresses_are_not():
    advice = ["Make its chunks smaller, three times at least. " * 10]
    page = "http://host/" + "x" * 200
    death = incident(4, diagnosis={**KNOWN, "advice": advice}, suspects=[])
    told = Explanation(death, page=page)
    lines = str(told).splitlines()
    assert lines[-1] == f"Page: {page}"
    assert max(map(len, lines[:-1])) <= 100
    assert sum(line.startswith(("  - Make", "    ")) for line in lines) >= 5
