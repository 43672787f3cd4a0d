"""The boundary: what fails inside stays inside, is remembered and logged."""

import asyncio
import inspect
import logging
import time
from types import SimpleNamespace

import pytest

from dask_memdash import boundary as module
from dask_memdash import config
from dask_memdash.boundary import LOG_INTERVAL, MAX_FAULTS, Boundary, guard_entry_points
from dask_memdash.plugins.nanny.probe import NannyProbe
from dask_memdash.plugins.scheduler.plugin import MemDash
from dask_memdash.plugins.worker.probe import WorkerProbe
from dask_memdash.self_cost import CostMeter


@pytest.fixture
def boundary():
    return Boundary(clock=lambda: 1000.0)


@pytest.fixture
def clock(monkeypatch):
    """Let the test say what time it is for the log."""
    made = SimpleNamespace(now=5.0, time=lambda: 1000.0)
    made.monotonic = lambda: made.now
    monkeypatch.setattr(module, "time", made)
    return made


def failing(error):
    def function(*args, **kwargs):
        raise error

    return function


def failing_async(error):
    async def function(*args, **kwargs):
        raise error

    return function


def test_a_fault_is_told_of_while_it_is_recent(boundary, clock):
    boundary.note("a hook", "it broke")
    assert len(boundary.recent()) == 1
    clock.now += module.TOLD_FOR + 1
    assert boundary.recent() == ()
    assert len(boundary.texts()) == 1, "it is remembered"
    boundary.note("a hook", "again")
    assert "2 times" in boundary.recent()[0]


def test_what_works_is_handed_through(boundary):
    guarded = boundary.guarded(lambda a, *, b: (a, b), "adding")
    assert guarded(1, b=2) == (1, 2)
    assert boundary.texts() == ()


async def test_what_works_is_handed_through_from_coroutines(boundary):
    async def function(a, *, b):
        await asyncio.sleep(0)
        return a, b

    guarded = boundary.guarded(function, "adding")
    assert inspect.iscoroutinefunction(guarded)
    assert await guarded(1, b=2) == (1, 2)


def test_a_failure_becomes_the_default_and_is_remembered(boundary):
    guarded = boundary.guarded(failing(ValueError("no")), "adding", 5)
    assert guarded(1, b=2) == 5
    assert boundary.texts() == ("MemDash failed in adding once: ValueError: no",)
    guarded()
    assert boundary.texts() == ("MemDash failed in adding 2 times: ValueError: no",)


async def test_a_coroutines_failure_becomes_the_default_too(boundary):
    guarded = boundary.guarded(failing_async(ValueError("no")), "adding", 5)
    assert await guarded(1) == 5
    assert boundary.texts() == ("MemDash failed in adding once: ValueError: no",)


def test_without_a_default_a_failure_gives_none(boundary):
    assert boundary.guarded(failing(ValueError()), "adding")() is None


def test_a_default_may_be_made_when_it_is_needed(boundary):
    guarded = boundary.guarded(failing(ValueError("no")), "adding", boundary.texts)
    assert guarded() == ("MemDash failed in adding once: ValueError: no",)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_process_passes(boundary, error):
    with pytest.raises(error):
        boundary.guarded(failing(error()), "adding")()
    assert boundary.texts() == ()


async def test_a_cancellation_passes(boundary):
    with pytest.raises(asyncio.CancelledError):
        await boundary.guarded(failing_async(asyncio.CancelledError()), "adding")()
    task = asyncio.create_task(boundary.guarded(asyncio.Event().wait, "waiting")())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert boundary.texts() == ()


def test_an_error_that_cannot_be_printed_stays_inside(boundary, caplog):
    class UnprintableError(Exception):
        def __str__(self):
            raise RuntimeError("no")

    assert boundary.guarded(failing(UnprintableError()), "adding", 5)() == 5
    (text,) = boundary.texts()
    assert "UnprintableError" in text


def test_the_wrapper_looks_like_what_it_wraps(boundary):
    def function():
        """Explain."""

    guarded = boundary.guarded(function, "adding")
    assert (guarded.__name__, guarded.__doc__) == ("function", "Explain.")
    assert guarded.__wrapped__ is function


def test_the_same_failure_is_logged_once_a_minute(boundary, clock, caplog):
    caplog.set_level(logging.WARNING, "dask_memdash")
    for seconds in (0, 1, LOG_INTERVAL - 2, 1, 1, LOG_INTERVAL):
        clock.now += seconds
        boundary.note("adding", ValueError("no"))
    assert [first_line(record) for record in caplog.records] == [
        "MemDash failed in adding once: ValueError: no",
        "MemDash failed in adding 4 times: ValueError: no",
        "MemDash failed in adding 6 times: ValueError: no",
    ]
    assert caplog.records[0].getMessage().splitlines()[-1] == "ValueError: no"


def test_nothing_of_an_error_that_is_logged_reaches_a_terminal_as_it_is(
    boundary, caplog
):
    def fail():
        raise KeyError("\x1b[2J\u202e\x00\n" + "x" * 10**6)

    boundary.guarded(fail, "the \x1b[31m entry")()
    (record,) = caplog.records
    lines = record.getMessage().splitlines()
    assert all(line.isprintable() and len(line) <= 200 for line in lines)
    assert any("in fail" in line for line in lines)
    (text,) = boundary.texts()
    assert len(text) < 600


def test_every_entry_point_is_logged_for_itself(boundary, clock, caplog):
    boundary.note("adding", ValueError("no"))
    boundary.note("mending", "in words")
    assert [first_line(record) for record in caplog.records] == [
        "MemDash failed in adding once: ValueError: no",
        "MemDash failed in mending once: in words",
    ]
    assert len(caplog.records[1].getMessage().splitlines()) == 1


def first_line(record):
    return record.getMessage().splitlines()[0]


def test_faults_are_bounded_and_the_oldest_goes_first(boundary):
    for n in range(MAX_FAULTS + 7):
        boundary.note(f"place {n}", "x" * 2000)
    texts = boundary.texts()
    assert len(texts) == MAX_FAULTS
    assert texts[0].startswith("MemDash failed in place 7 once: xxx")
    assert max(map(len, texts)) < 600


def test_faults_can_be_forgotten(boundary):
    boundary.note("adding", "no")
    boundary.clear()
    assert boundary.texts() == ()


# -- classes -------------------------------------------------------------------


def test_what_every_task_calls_is_guarded_and_metered_at_once(boundary):
    cost = CostMeter()
    calls = []

    def work(key):
        calls.append(key)
        end = time.thread_time() + 0.002
        while time.thread_time() < end:
            pass
        if key % 2:
            raise ValueError(key)
        return key

    guarded = boundary.metered(work, "working", cost)
    assert [guarded(key) for key in range(4)] == [0, None, 2, None]
    assert calls == [0, 1, 2, 3]
    assert boundary.texts() == ("MemDash failed in working 2 times: ValueError: 3",)
    assert cost.seconds >= 0.008


def test_cheap_calls_that_fail_are_held_back_where_they_are_not_timed(boundary):
    guarded = boundary.metered(failing(ValueError("no")), "adding", CostMeter())
    assert [guarded() for _ in range(100)] == [None] * 100
    (text,) = boundary.texts()
    assert text == "MemDash failed in adding 100 times: ValueError: no"


def test_public_methods_of_a_class_are_guarded_and_no_others(process_border):
    @guard_entry_points
    class Plugin:
        ON_FAILURE = {"numbers": lambda: [1], "number": 7}  # noqa: RUF012
        attribute = 5

        def number(self):
            raise ValueError("no")

        def numbers(self):
            raise ValueError("no")

        def nothing(self):
            raise ValueError("no")

        async def later(self):
            raise ValueError("no")

        def _private(self):
            raise ValueError("no")

        @property
        def text(self):
            return "text"

    plugin = Plugin()
    assert (plugin.number(), plugin.numbers(), plugin.nothing()) == (7, [1], None)
    assert asyncio.run(plugin.later()) is None
    assert (plugin.attribute, plugin.text) == (5, "text")
    with pytest.raises(ValueError, match="no"):
        plugin._private()
    assert process_border.texts()[0] == (
        "MemDash failed in Plugin.number once: ValueError: no"
    )


#: What guards itself, as it is called for every transition; see the tests below.
BARE = {WorkerProbe: {"transition"}, NannyProbe: set(), MemDash: {"transition"}}


@pytest.mark.parametrize("cls", [WorkerProbe, NannyProbe, MemDash])
def test_every_entry_point_of_a_plugin_is_guarded_and_nothing_else(cls):
    functions = {
        name: member for name, member in vars(cls).items() if inspect.isfunction(member)
    }
    guarded = {name for name, made in functions.items() if hasattr(made, "__wrapped__")}
    public = {name for name in functions if not name.startswith("_")}
    assert guarded == public - BARE[cls]
    assert {"setup", "teardown"} <= guarded or {"start", "add_worker"} <= guarded
    for name in guarded:
        member, inner = functions[name], functions[name].__wrapped__
        assert inspect.signature(member) == inspect.signature(inner)
        assert inspect.iscoroutinefunction(member) == inspect.iscoroutinefunction(inner)


def test_a_heartbeat_that_fails_says_that_it_failed(process_border):
    message = WorkerProbe(config.defaults()).heartbeat()
    assert message["protocol"] == 2
    assert message["notices"][0].startswith(
        "MemDash failed in WorkerProbe.heartbeat once: AttributeError"
    )
