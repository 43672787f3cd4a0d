"""`dask memdash watch`: a line for each failure that opens, changes and is over."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime

import fake_store
import pytest
from click.testing import CliRunner

from dask_memdash.cli import watch as command
from dask_memdash.cli.main import main
from dask_memdash.cli.watch import Watch, as_json, as_line, follow
from dask_memdash.errors import NotRegisteredError, SchedulerGoneError


class Told:
    """What a watch has said, and the time that it reads."""

    def __init__(self):
        self.lines = []
        self.time = 0.0
        self.watch = Watch(self.say, lambda: self.time)

    def say(self, what, text, failure):
        assert text.isprintable()
        self.lines.append((what, text))

    @property
    def news(self):
        lines, self.lines = self.lines, []
        return lines


@pytest.fixture
def told():
    return Told()


def one(**changed):
    (failure,) = fake_store.failing(1).failures()
    return {**deepcopy(failure), **changed}


def test_a_failure_is_told_when_it_opens_and_when_it_is_over(told):
    told.watch.begin("tcp://s:1", [])
    assert told.news == [("watching", "watching tcp://s:1")]
    failure = one()
    told.watch.look([failure])
    told.watch.look([failure])
    ((what, text),) = told.news
    assert what == "opened"
    assert text.startswith("failure-1 opened: 3 deaths of 2 workers (terminated 2, ")
    assert "Cause: one task needs too much." in text
    assert text.endswith("What to change: Make chunks smaller: x.rechunk((500, 500)).")
    told.watch.look([{**failure, "closed": failure["opened"] + 99}])
    told.watch.look([{**failure, "closed": failure["opened"] + 99}])
    ((what, text),) = told.news
    assert what == "closed"
    assert text.startswith("failure-1 over after 1 min 39 s: 3 deaths of 2 workers")
    assert "90 stored outputs" in text


def test_failures_of_before_are_counted_and_open_ones_told(told):
    failures = fake_store.failing(3).failures()
    told.watch.begin("tcp://s:1", failures)
    (_, first), (what, second) = told.news
    assert first == "watching tcp://s:1; 2 failures before"
    assert what == "opened"
    assert second.startswith("failure-3 open since ")


def test_a_failure_waits_for_its_evidence_but_not_for_ever(told):
    told.watch.begin("s", [])
    told.lines.clear()
    failure = one(settled=False)
    told.watch.look([failure])
    assert told.news == []
    told.time = command.PATIENCE
    told.watch.look([failure])
    assert [what for what, _ in told.news] == ["opened"]


def test_a_cause_that_is_corrected_is_told(told):
    told.watch.begin("s", [])
    told.watch.look([one(diagnosis={**one()["diagnosis"], "cause": "unknown"})])
    told.lines.clear()
    told.watch.look([one()])
    ((what, text),) = told.news
    assert what == "changed"
    assert "failure-1 goes on" in text
    assert "Cause: one task needs too much." in text


def test_hostile_names_do_nothing_to_a_terminal(told):
    told.watch.begin("evil\x1b[2J", [])
    told.watch.look([one(text="evil\x1b[31m\nline")])
    assert len(told.news) == 2  # all printable: see `say`


# -- a scheduler that goes -----------------------------------------------------


class Source:
    """A scheduler that gives one answer after another, then is interrupted."""

    def __init__(self, *answers, address="tcp://s:1", identity="S-1"):
        self.address, self.identity = address, identity
        self.answers = list(answers)
        self.closed = False

    def ask(self, path, **arguments):
        assert path == "failures"
        if not self.answers:
            raise KeyboardInterrupt
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.closed = True


GONE = SchedulerGoneError("tcp://s:1", "it went")


def watched(told, *sources):
    """Follow one source after another; those that are errors cannot be opened."""
    coming = list(sources)

    def opener(address):
        source = coming.pop(0)
        if isinstance(source, Exception):
            raise source
        return source

    with pytest.raises(KeyboardInterrupt):
        follow(told.watch, "tcp://s:1", 1.0, opener, sleep=lambda seconds: None)
    assert coming == []
    return [text for _, text in told.news]


def test_a_restart_of_the_scheduler_is_said_once_and_survived(told):
    first = Source([one()], GONE)
    second = Source([], [one(opened=one()["opened"] + 60)], identity="S-2")
    lines = watched(told, first, GONE, NotRegisteredError("tcp://s:1"), second)
    assert lines[2] == (
        "the scheduler at tcp://s:1 cannot be asked: it went; trying again until it "
        "answers"
    )
    assert lines[3] == (
        "tcp://s:1 answers again; it is another scheduler, which knows nothing of "
        "failure-1"
    )
    assert lines[4].startswith("failure-1 opened: ")  # the new one's own first
    assert len(lines) == 5
    assert first.closed
    assert second.closed


def test_a_scheduler_that_was_only_away_is_said_to_be_the_same(told):
    lines = watched(told, Source([one()], GONE), Source([one()]))
    assert lines[-1] == "tcp://s:1 answers again; it is the same scheduler"


def test_another_scheduler_is_said_to_be_one_when_nothing_was_open(told):
    lines = watched(told, Source([], GONE), Source([], identity="S-2"))
    assert lines[-1].endswith(
        "another scheduler, which knows nothing of what was before"
    )


def test_who_cannot_tell_which_scheduler_it_is_does_not_say(told):
    lines = watched(told, Source([], GONE, identity=""), Source([], identity=""))
    assert lines[-1] == "tcp://s:1 answers again"


# -- the command ---------------------------------------------------------------


def test_lines_are_for_people_and_json_for_programs():
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert as_line("lost", "gone", None, now) == "2026-01-02 03:04:05  gone"
    written = as_json("opened", "it opened", one(), now)
    assert "\n" not in written
    assert json.loads(written) == {
        "time": now.timestamp(),
        "event": "opened",
        "text": "it opened",
        "failure": one(),
    }


def test_ctrl_c_ends_it_with_its_status(monkeypatch):
    source = Source([one()])
    monkeypatch.setattr(command, "open_source", lambda address: source)
    monkeypatch.setattr(follow, "__defaults__", (1.0, lambda a: source, lambda s: None))
    answer = CliRunner().invoke(main, ["watch", "tcp://s:1"])
    assert answer.exit_code == 130
    assert "failure-1 open since" in answer.output
    assert "Traceback" not in answer.output
    assert source.closed


def test_a_scheduler_that_is_not_there_at_the_start_is_an_error():
    answer = CliRunner().invoke(main, ["watch", "http://127.0.0.1:9"])
    assert answer.exit_code == 3
    assert "cannot be asked" in answer.output
