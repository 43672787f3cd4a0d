"""The scheduler's looks at its own process, at a real process and a made-up one."""

import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dask_memdash.plugins.scheduler import own_memory
from dask_memdash.plugins.scheduler.own_memory import OwnMemory

MB = 1_000_000


@pytest.fixture
def looks():
    """Looks at this process, and what they have told so far."""
    told = []
    scheduler = SimpleNamespace(
        address="tcp://s:1", tasks={}, clients={}, handlers={}, stream_handlers={}
    )
    made = OwnMemory(scheduler, told.append)
    yield made, told
    made.close()


def test_a_look_is_taken_every_two_seconds(looks):
    own, told = looks
    for now in (0.0, 0.5, 1.5, 2.1, 3.0, 4.2):
        own._soon = float("inf")
        own.step(now)
    assert [seen.time for seen in told] == [0.0, 2.1, 4.2]


def test_one_that_grows_quickly_is_looked_at_at_once(looks):
    own, told = looks
    own.step(0.0)
    own._soon = 1.0
    own.step(0.5)
    assert len(told) == 2
    assert told[0].rss < own._soon < told[0].rss + told[0].available


def test_the_rlimit_that_has_least_left_counts(looks, monkeypatch):
    own, told = looks
    cap = SimpleNamespace
    caps = [
        cap(effect="declared", bytes=10 * MB, used=9 * MB),
        cap(effect="fails", bytes=900 * MB, used=200 * MB),
        cap(effect="fails", bytes=800 * MB, used=400 * MB),
        cap(effect="fails", bytes=1 * MB, used=None),
    ]
    monkeypatch.setattr(own_memory, "rlimits", lambda *about: caps)
    own.step(0.0)
    assert (told[0].rlimit, told[0].rlimit_used) == (800 * MB, 400 * MB)


def test_a_real_process_under_ulimit_sees_its_address_space():
    """Its limit is set while it runs: another process may do that to a scheduler."""
    program = """
import resource
from types import SimpleNamespace
from dask_memdash.plugins.scheduler.own_memory import OwnMemory
told = []
names = ("tasks", "clients", "handlers", "stream_handlers")
scheduler = SimpleNamespace(address="", **{name: {} for name in names})
own = OwnMemory(scheduler, told.append)
own.step(0.0)
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, resource.RLIM_INFINITY))
own.step(3.0)
kept = bytearray(2**20 * 300)
own.step(6.0)
print(told[1].rlimit, told[2].rlimit_used - told[1].rlimit_used, told[0].rlimit)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert said[0] == str(8 * 2**30)
    assert 300 * 2**20 <= int(said[1]) < 310 * 2**20
    before = resource.getrlimit(resource.RLIMIT_AS)[0]
    assert before != resource.RLIM_INFINITY or said[2] == "None"
