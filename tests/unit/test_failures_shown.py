"""Failures in the user's hands: page, DataFrame, explanation and command line."""

import http.server
import json
import threading
from contextlib import contextmanager

import fake_parts
import fake_store
import pytest
from click.testing import CliRunner
from stories import MiB

from dask_memdash.cli import failures as command
from dask_memdash.cli.main import main
from dask_memdash.client.dataframes import frame
from dask_memdash.client.explanation import Explanation
from dask_memdash.client.failure_explanation import FailureExplanation
from dask_memdash.counterfactual.alternatives import Alternatives
from dask_memdash.counterfactual.answer import Answer
from dask_memdash.counterfactual.change import Change
from dask_memdash.errors import MemDashError
from dask_memdash.links import page_link
from dask_memdash.views import would_have_lived
from dask_memdash.views.base import Context
from dask_memdash.views.browser_state import Shown
from dask_memdash.views.incidents_tab import IncidentsView


def view_of(store, chosen=""):
    view = IncidentsView(store, Context("memdash.css", Shown("incidents", chosen)))
    view.update()
    return view


# -- the page ------------------------------------------------------------------


def test_each_failure_is_one_row_above_the_incidents():
    view = view_of(fake_store.failing(3))
    rows = view.failures.source.data
    assert rows["_link"] == ["failure-3", "failure-2", "failure-1"]
    assert rows["deaths"] == [3, 3, 3]
    assert rows["cause"] == ["one task needs too much"] * 3
    assert rows["closed"][0] is None
    assert len(view.table.source.data["what"]) == 6


def test_a_failure_opens_with_its_story_and_links_to_its_incidents():
    view = view_of(fake_store.failing(3), "failure-2")
    text = view.failure.pane.object
    assert "Failure 2: task given up (KilledWorker)" in text
    assert "90 stored outputs (764 MiB) had to be computed again" in text
    assert "Make chunks smaller" in text
    assert 'href="#incident-3"' in text
    assert 'href="#graph-graph-4"' in text
    assert view.story.pane.object.strip() == ""


def test_failures_of_one_kind_are_told_apart_by_whose_they_are():
    store = fake_store.failing(3)
    names = ["resample", "<b>" + "x" * 60, None]
    for failure, name in zip(store.failures(), names, strict=True):
        failure["responsible"] = {**failure["responsible"], "prefix": name}
    view = view_of(store, "failure-3")
    assert view.failures.source.data["what"] == [
        "resample: task given up (KilledWorker)",
        f"<b>{'x' * 17}…{'x' * 19}: task given up (KilledWorker)",
        "task given up (KilledWorker)",
    ]
    heading = "Failure 3: <code>resample</code>, task given up (KilledWorker)"
    assert heading in view.failure.pane.object
    assert "<b>" not in view_of(store, "failure-2").failure.pane.object


def test_the_largest_task_of_an_incident_leads_to_its_prefix():
    view = view_of(fake_store.failing(3), "failure-2")
    assert 'href="#prefix-rechunk-split"' in view.failure_more.pane.object


def test_a_failure_that_is_not_known_is_said_to_be_unknown():
    view = view_of(fake_store.failing(1), "failure-<b>9")
    assert "is not known" in view.failure.pane.object
    assert "<b>" not in view.failure.pane.object


def test_an_incident_opens_as_before():
    view = view_of(fake_store.failing(1), "2")
    assert "Incident 2" in view.story.pane.object
    assert 'href="#failure-1"' in view.story.pane.object
    assert view.failure.pane.object.strip() == ""


def test_hostile_names_are_text_in_a_failures_story():
    view = view_of(fake_store.hostile(), "failure-1")
    assert "&lt;img" in view.failure.pane.object
    assert "<img" not in view.failure.pane.object


ANSWER = Answer(
    *(Change(limit=2.0), "lived", 200 * MiB, 260 * MiB, 600 * MiB, 570 * MiB),
    "the fullest worker would have had 200 MiB to 260 MiB (largest: `<b>load`).",
)
LIVED = Alternatives("1", (ANSWER,), taken="This takes something.")


def test_a_failures_story_says_once_with_what_it_would_have_lived(monkeypatch):
    asked = []

    def answer(store, failure, points):
        asked.append(failure)
        return LIVED

    monkeypatch.setattr(would_have_lived, "alternatives", answer)
    store = fake_store.failing(2)
    view = view_of(store, "failure-1")
    text = view.failure.pane.object
    assert "<h4>Would it have lived?</h4>" in text
    assert "Yes, with 2 times the limit: the fullest worker would have had" in text
    assert "<code>&lt;b&gt;load</code>" in text
    assert "This takes something." in text
    for _ in range(3):
        store.change()
        view.update()
    assert asked == ["1"]  # it is over
    store.all_failures[1]["incidents"].append("5")
    store.change()
    view.update()
    assert asked == ["1", "1"]


def test_of_a_failure_that_goes_on_it_is_said_anew_every_few_seconds(monkeypatch):
    asked = []
    monkeypatch.setattr(
        would_have_lived, "alternatives", lambda *given: asked.append(given) or LIVED
    )
    store = fake_store.failing(1)
    said = would_have_lived.WouldHaveLived(store)
    (failed,) = store.all_failures
    failed["closed"] = None
    assert said.lines(failed) == said.lines(failed) == LIVED.lines
    assert len(asked) == 1
    said._due = 0.0
    said.lines(failed)
    assert len(asked) == 2
    assert said.lines(None) == []


def test_what_cannot_be_said_is_one_line_of_the_story_and_faults_are_none(monkeypatch):
    def broken(*given):
        raise ZeroDivisionError

    because = Alternatives("1", because="`load` was cut short")
    for answer, said in ((lambda *given: because, True), (broken, False)):
        monkeypatch.setattr(would_have_lived, "alternatives", answer)
        text = view_of(fake_store.failing(1), "failure-1").failure.pane.object
        assert ("Cannot say, because <code>load</code> was cut short." in text) is said
        assert "<h4>Would" not in text
        assert "Failure 1:" in text


def test_the_link_of_a_failure_opens_it():
    link = page_link("http://h:8787/status", "/memdash", failure_id="3")
    assert link == "http://h:8787/memdash#failure-3"


# -- Python --------------------------------------------------------------------


def test_failures_are_rows_by_id_newest_first():
    made = frame("failures", fake_store.failing(2).failures())
    assert list(made.index) == ["2", "1"]
    first = made.iloc[0]
    assert (first["count"], first.deaths, first.workers) == (2, 3, 2)
    assert (first.cause, first.relief, first.prefix) == (
        *("task-too-large", "too-fast"),
        "rechunk-split",
    )
    assert first.bytes_lost == 764 * 2**20
    assert list(frame("failures", []).columns) == list(made.columns)


def test_a_failure_prints_what_happened_why_and_what_to_change():
    explained = FailureExplanation(fake_parts.failure(3, ["7", "8"]), "http://page")
    assert (explained.id, explained.cause) == ("3", "task-too-large")
    assert str(explained).splitlines() == [
        "Failure 3: task given up (KilledWorker), 2025-10-09 08:52:30 UTC",
        "",
        "3 deaths of 2 workers (terminated 2, oom-killed 1) and Dask gave 1 task up "
        "(KilledWorker). 90",
        "stored outputs (764 MiB) had to be computed again, 4.5 s of work.",
        "",
        "Cause: one task needs too much. `rechunk-split` held at least 380 MiB, and an "
        "empty worker has",
        "410 MiB.",
        "",
        "What to change",
        "  - Make chunks smaller: x.rechunk((500, 500)).",
        "",
        "Incidents: 7, 8. explain(id) tells of each.",
        "",
        "http://page",
    ]


def test_with_what_it_would_have_lived_stands_after_the_advice():
    explained = FailureExplanation(fake_parts.failure(3, ["7"]), None, LIVED.lines)
    lines = str(explained).splitlines()
    at = lines.index("Would it have lived?")
    assert lines[at - 2] == "  - Make chunks smaller: x.rechunk((500, 500))."
    assert lines[at + 1].startswith("  - Yes, with 2 times the limit: the fullest ")
    assert lines[at + 3 : at + 5] == ["  - This takes something.", ""]
    incident = Explanation(fake_parts.incident(1), lived=LIVED.lines)
    assert "Would it have lived?\n  - Yes, with 2 times the limit" in str(incident)
    assert "<b>load" not in incident._repr_html_()
    assert "Would it" not in str(Explanation(fake_parts.incident(1)))


def test_a_failure_in_a_notebook_escapes_names():
    failure = fake_parts.failure(1, ["1"], text="<img src=x>")
    assert "<img" not in FailureExplanation(failure)._repr_html_()


# -- the command line ----------------------------------------------------------


@contextmanager
def serving(status, body):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == PATH else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PATH = "/memdash/api/failures"


def run(*arguments):
    return CliRunner().invoke(main, ["failures", *arguments])


def test_the_command_prints_a_plain_table():
    failures = fake_store.failing(2).failures()
    failures[1]["responsible"]["prefix"] = "evil\x1b[31m\n" + "x" * 500
    with serving(200, json.dumps(failures)) as address:
        answer = run(f"http://{address}/status")
    assert answer.exit_code == 0
    head, first, second = answer.output.splitlines()
    assert head.split() == [
        *("failure", "began", "over", "kind", "cause", "responsible"),
        *("deaths", "lost"),
    ]
    assert first.startswith("failure-2")
    assert " open " in first
    assert first.endswith("rechunk-split" + first.partition("rechunk-split")[2])
    assert second.isprintable()
    assert len(second) < 200


def test_the_command_says_what_of_the_lost_is_stored_where_any_is():
    failures = fake_store.failing(2).failures()
    failures[0]["cost"]["bytes_stored"] = 700 * 2**20
    head, first, second = command.as_text(failures).splitlines()
    assert head.split()[-4:] == ["lost", "of", "it", "stored"]
    assert first.split()[-4:] == ["764", "MiB", "700", "MiB"]
    assert second.split()[-4:] == ["764", "MiB", "0", "B"]


def test_the_command_writes_json_as_the_api_has_it():
    failures = fake_store.failing(1).failures()
    with serving(200, json.dumps(failures)) as address:
        assert json.loads(run(address, "--json").output) == failures


def test_without_failures_the_command_says_so():
    with serving(200, "[]") as address:
        assert run(address).output == "No failures.\n"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, "", "answers 404; is MemDash registered there?"),
        (200, "<html>", "does not answer with JSON"),
        (200, "{}", "does not answer with a list of failures"),
    ],
)
def test_an_answer_that_is_none_is_one_clear_line(status, body, says):
    with serving(status, body) as address:
        answer = run(address)
    assert answer.exit_code == 3
    assert says in answer.output
    assert "Traceback" not in answer.output


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "http://127.0.0.1:9", "ftp://127.0.0.1"]
)
def test_an_address_that_cannot_be_asked_is_an_error(address, monkeypatch):
    monkeypatch.setattr("dask_memdash.cli.sources.TIMEOUT", 0.5)
    with pytest.raises(MemDashError):
        command.ask(address)
