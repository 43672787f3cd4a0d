"""What is held, for how long, and what is said of it."""

from dask_memdash.guard.decision import DRAINS, FITS, NO_ROOM, PROGRESS, Decision
from dask_memdash.guard.holding import TOLD, Holding

WAITS = Decision(None, NO_ROOM, need=300, room=100)


def told(holding, now, mode="on"):
    return holding.figures(now, mode, fetch_limited=False)


def test_a_held_task_is_counted_once_and_its_time_until_it_starts():
    holding = Holding()
    holding.hold("a", "load", WAITS, 10.0)
    holding.hold("a", "load", Decision(None, NO_ROOM, 400, 0), 11.0)
    assert holding.oldest == "a"
    waiting = {"load": {"tasks": 1, "seconds": 2.5, "need": 400}}
    figures = told(holding, 12.5)
    assert (figures["held"], figures["seconds"]) == (1, 2.5)
    assert figures["waiting"] == waiting
    holding.start("a", FITS, 13.0)
    figures = told(holding, 99.0)
    assert (figures["held"], figures["seconds"], figures["waiting"]) == (1, 3.0, {})
    assert holding.oldest is None


def test_why_tasks_started_is_counted():
    holding = Holding()
    for reason in (FITS, PROGRESS, DRAINS, DRAINS):
        holding.start("a", reason, 1.0)
    assert (holding.opened, holding.drained) == (1, 2)


def test_passes_count_for_the_task_that_was_passed():
    holding = Holding()
    holding.hold("a", "load", WAITS, 1.0)
    holding.passed("a", 30)
    holding.passed("never held", 50)
    assert told(holding, 1.0)["passed"] == 2
    assert holding.may_be_passed(times=2, size=31)
    assert not holding.may_be_passed(times=1, size=31)
    assert not holding.may_be_passed(times=2, size=30)
    holding.start("a", FITS, 2.0)
    assert holding.may_be_passed(times=0, size=0)


def test_what_was_stolen_or_cancelled_waits_no_more():
    holding = Holding()
    holding.hold("a", "load", WAITS, 1.0)
    holding.hold("b", "load", WAITS, 1.0)
    holding.keep("b".__eq__, 4.0, dry=False)
    assert holding.oldest == "b"
    assert told(holding, 4.0)["seconds"] == 6.0


def test_nobody_has_waited_where_nothing_was_held_really():
    holding = Holding()
    holding.hold("a", "load", WAITS, 1.0)
    assert told(holding, 5.0, "dry-run")["seconds"] == 0
    holding.keep(lambda key: False, 9.0, dry=True)
    assert told(holding, 9.0, "dry-run") == {
        "mode": "dry-run",
        "held": 1,
        "seconds": 0.0,
        "opened": 0,
        "drained": 0,
        "passed": 0,
        "failed": 0,
        "fetch_limited": False,
        "waiting": {},
    }


def test_the_prefixes_that_waited_longest_are_told():
    holding = Holding()
    for number in range(TOLD + 5):
        holding.hold(number, f"p{number}", WAITS, float(number))
    assert next(iter(told(holding, 100.0)["waiting"])) == "p0"
    assert len(told(holding, 100.0)["waiting"]) == TOLD
