"""Which incident an exception belongs to, and what is said where there is none."""

import asyncio
import errno
import time

import pytest
from builders import A, B, MiB, added, died, executing, info, killed, removed, reported
from distributed import KilledWorker
from test_client import Client, served
from test_model_worker_errors import feed

from dask_memdash.client import connection
from dask_memdash.client.connection import Connection
from dask_memdash.client.which_incident import Lookup
from dask_memdash.errors import TaskTooLarge, UnexplainedError
from dask_memdash.model.events import MemoryErrorRaised
from dask_memdash.store.live import LiveStore
from dask_memdash.text import plain

T = 1_760_000_000.0
ASKED = "Unable to allocate 29.1 TiB for an array with shape (4000000000000,) and data"
REFUSED = (
    "Task {} has 1.46 GiB worth of input dependencies, but worker tcp://10.0.0.1:1 "
    "has memory_limit set to 0.98 GiB."
)


class ArrowMemoryError(MemoryError):
    """As pyarrow has it."""


@pytest.fixture
def memdash(model, monkeypatch):
    monkeypatch.setattr(connection, "WAIT", 0.2)
    feed(model, added(A, 1), added(B, 2), reported(A, 1))
    return Connection(Client(served(LiveStore(model))))


def raised(model, key, text, address=A, stage="running", at=T + 5):
    feed(model, MemoryErrorRaised(at, address, info(key), text, stage))


def marked(error, key, address=A):
    error.memdash_task = (key, address)
    return error


def test_a_marked_error_is_its_tasks_incident(model, memdash):
    raised(model, "load-1", f"MemoryError: {ASKED}")
    raised(model, "sum-1", f"MemoryError: {ASKED}")
    raised(model, "load-1", f"MemoryError: {ASKED}", B)
    for key, address, number in (
        *(("load-1", A, "1"), ("sum-1", A, "2"), ("load-1", B, "3")),
    ):
        error = marked(MemoryError("words that differ"), key, address)
        assert memdash.explain(error).id == number
        outer = marked(ValueError("outer"), key, address)
        outer.__cause__ = MemoryError()
        assert memdash.explain(outer).id == number
        assert memdash.explain(ExceptionGroup("two", [KeyError(), error])).id == number


def test_tasks_that_an_incident_only_counts_are_in_it_too(model, memdash):
    for n in range(30):
        raised(model, f"load-{n}", "MemoryError", at=T + 5 + n / 10)
    assert memdash.explain(marked(MemoryError(), "load-29")).id == "1"
    assert memdash.explain(marked(MemoryError(), "('load-77', 3)")).id == "1"
    with pytest.raises(UnexplainedError):
        memdash.explain(marked(MemoryError(), "sum-29"), timeout=0)


def test_an_unmarked_error_is_found_by_its_words(model, memdash):
    raised(model, "load-1", f"MemoryError: {ASKED}")
    raised(model, "sum-1", "ArrowMemoryError: realloc of size 8589934592 failed")
    raised(model, "read-1", "OSError: [Errno 12] Cannot allocate memory")
    assert memdash.explain(MemoryError(ASKED)).id == "1"
    arrow = ArrowMemoryError("realloc of size 8589934592 failed")
    assert memdash.explain(arrow).id == "2"
    assert memdash.explain(OSError(errno.ENOMEM, "Cannot allocate memory")).id == "3"


def test_words_that_any_error_may_have_find_nothing(model, memdash):
    raised(model, "load-1", "MemoryError")
    with pytest.raises(UnexplainedError, match="raised outside of a task"):
        memdash.explain(MemoryError())


@pytest.mark.parametrize("key", ["load-1", "a has b-1"])
def test_the_schedulers_own_error_is_found_by_the_key_it_names(model, memdash, key):
    raised(model, key, "MemoryError: " + REFUSED.format(repr(key)), stage="refused")
    assert memdash.explain(MemoryError(REFUSED.format(repr(key)))).id == "1"
    with pytest.raises(UnexplainedError):
        memdash.explain(MemoryError(REFUSED.format("'sum-1'")))


def test_the_schedulers_mark_goes_first(model, memdash):
    raised(model, "load-1", "MemoryError")
    raised(model, "sum-1", "MemoryError")
    error = MemoryError()
    error.memdash_incident = ("S-1", "1")
    assert memdash.explain(error).id == "1"
    error.memdash_incident = "nonsense"
    with pytest.raises(UnexplainedError):
        memdash.explain(error)


def test_an_incident_on_its_way_is_waited_for(model):
    feed(model, added(A, 1))
    answer = served(LiveStore(model))
    asked = []

    def late(path):
        asked.append(path)
        if len(asked) == 3:
            raised(model, "load-1", "MemoryError")
        return answer(path)

    error = marked(MemoryError(), "load-1")
    assert Connection(Client(late)).explain(error, timeout=20).id == "1"


@pytest.mark.slow
def test_a_killed_worker_without_a_mark_waits_for_an_incident_that_is_late(
    model, monkeypatch
):
    serve = served(LiveStore(model))
    feed(model, added(A, 1), reported(A, 1))
    looks = []

    def late(path):
        looks.append(path)
        if len(looks) == 2:
            feed(model, killed("sum-1"))
        return serve(path)

    error = KilledWorker("sum-1", None, 3)
    assert Connection(Client(late)).explain(error, timeout=20).kind == "killed-worker"


def test_where_there_is_none_it_is_said_what_was_looked_at(model, memdash):
    raised(model, "load-1", "MemoryError")
    raised(model, "sum-1", "MemoryError")
    error = ValueError("x")
    error.__cause__ = KeyError("y")
    with pytest.raises(UnexplainedError) as told:
        memdash.explain(error)
    assert str(told.value) == (
        "no incident belongs to this error. It is no KilledWorker and does not say "
        "that memory ran out: read its own traceback first. Looked at 2 errors "
        "(ValueError and KeyError, nearest first), and at 2 incidents (2 "
        "memory-error). "
        "dask_memdash.connect().incidents() lists what MemDash has seen, and "
        "dask_memdash.explain(id) explains one of them."
    )


def test_what_an_error_without_an_incident_asked_for_is_said(memdash):
    with pytest.raises(UnexplainedError, match=r"It asked for 8 GiB\. Looked at one"):
        memdash.explain(ArrowMemoryError("malloc of size 8589934592 failed"))


def test_other_errors_say_why_there_is_none(memdash):
    with pytest.raises(UnexplainedError, match="memory of a graphics card"):
        memdash.explain(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(UnexplainedError, match="older than the oldest"):
        memdash.explain(KilledWorker("x-1", None, 3))
    with pytest.raises(TypeError, match="an incident or an exception, not float"):
        memdash.explain(1.5)


def test_waiting_for_what_never_comes_ends(memdash):
    began = time.monotonic()
    with pytest.raises(UnexplainedError):
        memdash.explain(marked(MemoryError(), "load-1"), timeout=0.3)
    assert time.monotonic() - began < 5


def test_the_explanation_shows_what_was_asked_for(model, memdash):
    text = (
        "MemoryError: Unable to allocate 256. TiB for an array with shape "
        "(35184372088832,) and data type float64"
    )
    raised(model, "load-1", text)
    told = str(memdash.explain(marked(MemoryError(), "load-1")))
    lines = told[told.index("What it asked for") :].splitlines()
    assert lines[:7] == [
        "What it asked for",
        "  - It asked for 256 TiB for an array of shape (35184372088832,) and dtype "
        "float64: 268,435",
        "    times the worker's limit of 0.98 GiB.",
        "  - Probably 35,184,372,088,832 elements are a product of two lengths: a "
        "merge whose keys repeat",
        "    on both sides, a cross join, or an index that was multiplied out.",
        "  - The error says: MemoryError: Unable to allocate 256. TiB for an array "
        "with shape",
        "    (35184372088832,) and data type float64",
    ]
    assert "What it asked for" in memdash.explain("1")._repr_html_()


# -- actors --------------------------------------------------------------------


def death(number, actors, settled=True):
    breakdown = {"actors": actors}
    return {
        "id": number,
        "kind": "terminated",
        "breakdown": breakdown,
        "settled": settled,
    }


LATER = RuntimeError("Worker holding Actor was lost.  Status: error")


def found_for_actor(looks, timeout=0.0, error=LATER):
    """Look for the death behind a lost actor; each look sees the next incidents."""
    left = list(looks)

    async def ask(path):
        return (left.pop(0) if len(left) > 1 else left[0]), {}

    lookup = Lookup(ask, "tcp://10.0.0.9:8786")
    return asyncio.run(lookup.incident_of(error, time.monotonic() + timeout))


def test_a_lost_actor_is_the_death_of_the_worker_that_held_one():
    deaths = [death("3", 0), death("2", 70 * MiB), death("1", None)]
    assert found_for_actor([deaths]) == "2"
    assert found_for_actor([[death("1", None)]]) == "1"


def test_a_call_that_was_under_way_when_the_worker_died_is_its_death_too():
    error = OSError("Unable to contact Actor's worker")
    deaths = [death("2", 70 * MiB), death("1", None)]
    assert found_for_actor([deaths], error=error) == "2"
    with pytest.raises(UnexplainedError, match="It is no KilledWorker"):
        found_for_actor([deaths], error=OSError("Timed out"))


def test_the_report_on_a_lost_actors_worker_is_waited_for():
    looks = [
        [],
        [death("1", None, settled=False), death("2", None)],
        [death("1", MiB), death("2", 0)],
    ]
    assert found_for_actor(looks, timeout=20) == "1"


def test_several_workers_that_may_have_held_a_lost_actor_are_named():
    with pytest.raises(UnexplainedError, match="may be one of these deaths: #2 and #1"):
        found_for_actor([[death("2", MiB), death("1", MiB)]])
    with pytest.raises(UnexplainedError, match="an actor's worker was lost"):
        found_for_actor([[]])


def too_large(key):
    return TaskTooLarge(
        f"task {plain(key, 200)!r} of 'load' needs at least 1.4 GiB. No worker has "
        "more than 381 MiB, and it has ended 2 workers while it ran alone there, so it "
        "is not run again. Make its chunks smaller, or give workers a larger limit"
    )


@pytest.mark.parametrize("key", ["load-1", "('load-it''s', 3)", 'a "b" c-1'])
def test_a_task_that_the_guard_refused_is_explained_by_a_death_under_it(
    model, memdash, key
):
    for address, pid in ((A, 1), (B, 2)):
        task = executing(key, bytes=300 * MiB)
        feed(model, died(address, pid, time=T + pid, by="nanny", executing=(task,)))
        feed(model, removed(address, time=T + pid))
    assert memdash.explain(too_large(key)).id == "2"
    outer = ValueError("outer")
    outer.__cause__ = too_large(key)
    assert memdash.explain(outer).id == "2"


def test_one_whose_deaths_are_not_known_any_more_says_so(memdash):
    with pytest.raises(UnexplainedError, match="The guard has refused this task"):
        memdash.explain(too_large("load-1"), timeout=0)
