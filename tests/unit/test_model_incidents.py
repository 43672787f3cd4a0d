"""The log of incidents: at which of them a key ran, at a cost that does not grow."""

import sys

import pytest
from builders import died, executing

from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.incidents import (
    Exit,
    IncidentLog,
    WorkerRef,
    exit_of,
    kind_of_death,
    rank_suspects,
    with_attempts,
)

WORKER = WorkerRef("tcp://10.0.0.1:1", "0", "10.0.0.1", 17)


def death(log, *keys, kind="killed"):
    incident = log.add(
        kind, 0.0, WORKER, limit=None, breakdown=None, evidence="scheduler"
    )
    tell(log, incident, *keys)
    return incident


def tell(log, incident, *keys):
    tasks = tuple(executing(key) for key in keys)
    suspects = rank_suspects(tasks, {}, None, GraphIndex())
    incident.suspects = with_attempts(suspects, log, incident.id)


def steps(work):
    """Return how many steps of bytecode some work takes, whatever the clock says."""
    taken = 0

    def count(frame, event, _):
        nonlocal taken
        frame.f_trace_opcodes = True
        taken += event == "opcode"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return taken


def test_a_suspect_names_the_earlier_deaths_at_which_its_task_ran():
    log = IncidentLog(100)
    death(log, "a", "b")
    death(log, "b")
    death(log, "a", kind="kernel-near")
    last = death(log, "a", "b")
    attempts = {suspect.key: suspect.attempts for suspect in last.suspects}
    assert attempts == {"a": ("1",), "b": ("1", "2")}


def test_what_is_learnt_late_of_a_death_counts_from_then_on():
    log = IncidentLog(100)
    first, second = death(log, "a"), death(log)
    tell(log, first, "b")
    tell(log, second, "a", "b")
    attempts = {suspect.key: suspect.attempts for suspect in second.suspects}
    assert attempts == {"a": (), "b": ("1",)}


def test_deaths_that_are_forgotten_or_taken_back_are_not_named():
    log = IncidentLog(3)
    for _ in range(4):
        death(log, "a")
    log.withdraw("3")
    assert log.executing_at("a", "9") == ("2", "4")


def test_the_last_twenty_deaths_are_named():
    log = IncidentLog(100)
    for _ in range(30):
        death(log, "a")
    assert log.executing_at("a", "31") == tuple(str(n) for n in range(11, 31))


@pytest.mark.slow
def test_a_log_full_of_suspects_does_not_slow_the_next_death_down():
    log = IncidentLog(1_000)
    for n in range(500):
        death(log, *(f"k-{n}-{i}" for i in range(200)))
    full = [steps(lambda: death(log, "a")) for _ in range(100)]
    new = IncidentLog(1_000)
    empty = [steps(lambda: death(new, "a")) for _ in range(100)]
    assert 0 < max(full) <= 2 * max(empty)
    for _ in range(1_000):
        death(log)
    assert (log._at, {key for keys in log._keys.values() for key in keys}) == (
        {},
        set(),
    )


@pytest.mark.parametrize("signal", [-(2**40), 0, 65])
def test_a_signal_that_is_none_names_no_crash(signal):
    ended = exit_of(died(signal=signal, code=None))
    assert (ended, kind_of_death(ended)) == (Exit(None, None, "unknown"), "lost")


def test_a_status_that_is_none_names_no_exit():
    ended = exit_of(died(signal=None, code=2**70))
    assert (ended, kind_of_death(ended)) == (Exit(None, None, "unknown"), "lost")
