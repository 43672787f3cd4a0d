"""What of a worker's baseline has a name: globals, plugins, `client.run`."""

import asyncio
import functools
import sys
import sysconfig
import types
from types import SimpleNamespace

import numpy as np
import pytest

from dask_memdash.boundary import Boundary
from dask_memdash.model.event_parts import NamedMemory
from dask_memdash.plugins.worker import named_memory, run_calls
from dask_memdash.plugins.worker.module_globals import ModuleGlobals
from dask_memdash.plugins.worker.named_memory import NamedMemoryWatch
from dask_memdash.plugins.worker.run_calls import Instant, RunCalls

MB = 1_000_000


class Clock:
    """Each look at it takes a tenth of a millisecond; a test lets it jump."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        self.now += 0.0001
        return self.now


def block(megabytes):
    return np.ones(megabytes * MB, "u1")


def module(name, file="/home/user/project/app.py", **variables):
    made = types.ModuleType(name)
    made.__file__ = file
    vars(made).update(variables)
    return made


def largest(*modules, outputs=tuple, called=()):
    """What is found in whole passes over the variables, in MB."""
    looks = ModuleGlobals({one.__name__: one for one in modules}, outputs)
    for function in called:
        looks.called(function)
    clock = Clock()
    for _ in range(20):
        looks.look(clock)
        clock.now += 10
    return {name: round(size / MB) for name, size in looks.largest.items()}


def of_module(home, function):
    function.__module__ = home
    return function


# -- variables of modules ------------------------------------------------------


def test_variables_of_the_users_modules_are_found_by_size():
    app = module("app", CACHE={"a": block(30), "b": block(20)}, small=b"x")
    assert largest(app) == {"app.CACHE": 50}


def test_modules_of_the_installation_are_left_out_unless_tasks_call_them():
    place = sysconfig.get_path("purelib") + "/library/core.py"
    library = module("library.core", place, TABLE=block(5))
    hosts = module("distributed.of_mine", TABLE=block(5))
    assert largest(library, hosts) == {}
    score = of_module("library.core", lambda x: x)
    partial = functools.partial(score, 1)
    assert largest(library, hosts, called=[partial]) == {"library.core.TABLE": 5}
    host = of_module("distributed.of_mine", lambda x: x)
    stdlib = of_module("json.decoder", lambda x: x)
    assert largest(library, hosts, called=[host, stdlib, 7]) == {}


def test_a_value_that_two_modules_have_counts_once():
    table = block(5)
    one, other = module("one", TABLE=table), module("other", TABLE=table)
    assert largest(one, other) == {"one.TABLE": 5}


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("most", [None, 128])
def test_what_lru_cache_keeps_is_found(most, calls):
    @functools.lru_cache(most)
    def load(i):
        return block(4)

    load.__module__ = "app"
    for i in range(calls):
        load(i)
    assert largest(module("app", load=load)) == {"app.load": 4 * calls}


def test_an_empty_cache_and_code_hold_nothing():
    empty = functools.lru_cache(lambda i: i)
    assert largest(module("app", empty=empty, f=len, np=np, kind=dict)) == {}


def test_tables_of_the_modules_own_classes_count():
    kind = type("Model", (), {"__module__": "app", "weights": {"a": block(6)}})
    other = type("Other", (), {"__module__": "lib", "weights": {"a": block(6)}})
    assert largest(module("app", Model=kind, Other=other)) == {"app.Model": 6}


def test_what_storage_holds_is_storage():
    kept, own = block(30), block(3)
    app = module("app", CACHE=[kept, own])
    assert largest(app, outputs=lambda: iter([kept])) == {"app.CACHE": 3}
    assert largest(module("app", CACHE=kept), outputs=lambda: [kept]) == {}


def test_no_code_of_the_users_objects_runs():
    class Proxy:
        @property
        def __class__(self):
            raise AssertionError("asked")

        def __getattr__(self, name):
            raise AssertionError(name)

    proxy = Proxy()
    object.__setattr__(proxy, "inside", block(7))
    assert largest(module("app", PROXY=proxy)) == {"app.PROXY": 7}


def test_a_look_ends_in_time_and_goes_on_where_it_stopped():
    app = module("app", **{f"v{i:03}": [i] for i in range(300)}, z=block(2))
    looks, clock = ModuleGlobals({"app": app}), Clock()
    times = 0
    while not looks.largest:
        begun = clock.now
        looks.look(clock)
        assert clock.now - begun < 0.006
        clock.now += 10
        times += 1
    assert times > 3
    assert looks.largest.keys() == {"app.z"}


def test_nothing_is_looked_at_again_before_a_hundred_times_as_long_has_passed():
    app = module("app", **{f"v{i:03}": [i] for i in range(300)})
    looks, clock = ModuleGlobals({"app": app}), Clock()
    looks.look(clock)
    begun = clock.now
    for _ in range(100):
        looks.look(clock)  # each asks for the time, and no more
    assert clock.now - begun == pytest.approx(0.01)


def test_a_variable_that_goes_is_held_by_nobody():
    app = module("app", CACHE=block(3), **{f"v{i:03}": [i] for i in range(300)})
    looks, clock = ModuleGlobals({"app": app}), Clock()
    before = sys.getrefcount(app.CACHE)
    looks.look(clock)
    after = sys.getrefcount(app.CACHE)
    assert after == before


# -- client.run ----------------------------------------------------------------


class Process:
    """What nothing explains of a process, as a test has it."""

    def __init__(self):
        self.own, self.quiet, self.begun = 100 * MB, True, 0

    def __call__(self, variables=False):
        return Instant(self.own, self.quiet, self.begun)


@pytest.fixture
def process():
    return Process()


def calls_of(process, grow=0, result=None, begun=0):
    """Watch a worker whose `run` grows the process."""

    async def run(comm, function=b""):
        process.own += grow
        process.begun += begun
        return {"status": "OK", "result": SimpleNamespace(data=result)}

    worker = SimpleNamespace(handlers={"run": run, "echo": len})
    return worker, run, RunCalls(worker, process)


def run(worker, **kwargs):
    return asyncio.run(worker.handlers["run"]("comm", **kwargs))


def test_what_a_call_leaves_behind_is_told(process):
    worker, _, calls = calls_of(process, 60 * MB)
    assert run(worker)["status"] == "OK"
    assert (calls.bytes, calls.unmeasured) == (60 * MB, 0)
    process.own += 3 * MB
    calls.settle()
    assert calls.bytes == 60 * MB, "what grows later is not the call's"


def test_what_a_call_returns_is_not_left_behind(process):
    worker, _, calls = calls_of(process, 60 * MB, block(60))
    run(worker)
    assert calls.bytes < MB
    calls.settle()  # it may be on its way still
    assert calls.bytes < MB


def test_what_goes_after_a_call_is_taken_off(process):
    worker, _, calls = calls_of(process, 60 * MB)
    run(worker)
    process.own -= 20 * MB
    calls.settle()
    assert calls.bytes == 40 * MB
    process.own += 20 * MB
    calls.settle()
    assert calls.bytes == 40 * MB


def test_the_message_that_asked_goes_and_is_not_taken_for_a_gain(process):
    worker, _, calls = calls_of(process, 60 * MB)
    process.own += 60 * MB  # the pickled array, as it arrived
    run(worker, function=bytes(60 * MB))
    process.own -= 60 * MB
    calls.settle()
    assert calls.bytes == 60 * MB


def test_what_a_later_call_lets_go_is_taken_off(process):
    worker, _, calls = calls_of(process, 60 * MB)
    run(worker)
    other, _, _ = calls_of(process, -50 * MB)
    calls.settle()
    assert calls.bytes == 60 * MB
    handler = calls._wrap(other.handlers["run"])
    asyncio.run(handler("comm"))
    assert calls.bytes == 10 * MB


@pytest.mark.parametrize("what", ["busy", "began", "unknown"])
def test_a_call_beside_tasks_is_counted_and_not_measured(process, what):
    worker, _, calls = calls_of(process, 60 * MB, begun=what == "began")
    process.quiet = what != "busy"
    if what == "unknown":
        process.own = None
        worker.handlers["run"] = calls._wrap(lambda comm: None)
    run(worker)
    assert (calls.bytes, calls.unmeasured) == (0, 1)


def test_calls_at_the_same_time_are_not_measured(process):
    worker, _, calls = calls_of(process, 60 * MB)

    async def both():
        inner = worker.handlers["run"]

        async def outer(comm):
            return await inner(comm)

        await calls._wrap(outer)("comm")

    asyncio.run(both())
    assert (calls.bytes, calls.unmeasured) == (0, 2)


def test_after_the_next_task_began_a_call_is_not_looked_at_again(process):
    worker, _, calls = calls_of(process, 60 * MB)
    run(worker)
    process.begun, process.own = 1, 0
    calls.settle()
    process.begun = 0
    calls.settle()
    assert calls.bytes == 60 * MB


def test_errors_of_the_function_pass_and_ours_do_not(process, monkeypatch):
    border = Boundary()
    monkeypatch.setattr(run_calls, "boundary", border)

    async def fails(comm):
        raise ZeroDivisionError

    def broken(variables):
        raise RuntimeError("no look")

    worker = SimpleNamespace(handlers={"run": fails})
    RunCalls(worker, broken)
    with pytest.raises(ZeroDivisionError):
        run(worker)
    assert len(border.texts()) == 2


def test_a_wrapper_that_somebody_else_has_wrapped_only_passes_on(process):
    worker, plain, calls = calls_of(process, 60 * MB)
    ours = worker.handlers["run"]
    worker.handlers["run"] = theirs = functools.partial(ours)
    calls.close()
    assert worker.handlers["run"] is theirs
    run(worker)
    assert calls.bytes == 0
    worker.handlers["run"] = ours
    calls.close()
    assert worker.handlers == {"run": plain, "echo": len}


# -- together ------------------------------------------------------------------


class Model:
    def __init__(self, megabytes):
        self.weights = block(megabytes)


def worker_with(**plugins):
    return SimpleNamespace(plugins=plugins, data={}, handlers={"run": len})


@pytest.fixture
def watch(monkeypatch):
    def made(worker):
        monkeypatch.setattr(
            named_memory, "ModuleGlobals", lambda outputs: ModuleGlobals({}, outputs)
        )
        return NamedMemoryWatch(worker)

    return made


def passes(watch, clock):
    """Look until a pass over everything is over; what was told."""
    told = []
    for _ in range(10):
        told += [watch.look(clock)]
        clock.now += 10
    return [one for one in told if one is not None]


def test_plugins_are_named_as_their_authors_do_and_ours_are_left_out(watch):
    plugins = {"Model-3f2a": Model(5), "named": Model(2), "memdash-worker": Model(9)}
    looks, clock = watch(worker_with(**plugins, tiny=Model(0))), Clock()
    (told,) = passes(looks, clock)
    sizes = {(one.group, one.name): round(one.size / MB) for one in told}
    assert sizes == {("plugin", "Model"): 5, ("plugin", "named"): 2}
    assert passes(looks, clock) == [], "nothing has changed"


def test_a_plugin_that_is_gone_is_told_of_once(watch):
    worker, clock = worker_with(model=Model(5)), Clock()
    looks = watch(worker)
    assert passes(looks, clock)
    worker.plugins.clear()
    assert passes(looks, clock) == [()]


def test_one_look_is_into_one_plugin(watch, monkeypatch):
    looked = []

    def look_into(roots, **options):
        looked.append(roots)
        return SimpleNamespace(bytes=0)

    monkeypatch.setattr(named_memory, "deep_size", look_into)
    watch(worker_with(a=Model(1), b=Model(1), c=Model(1))).look(Clock())
    assert len(looked) == 1


def test_outputs_in_ram_are_known_whatever_holds_them(watch):
    worker, value = worker_with(), block(1)
    looks = watch(worker)
    for data in (
        {"x-1": value},
        SimpleNamespace(fast={"x-1": value}),
        SimpleNamespace(fast=SimpleNamespace(d={"x-1": value})),
    ):
        worker.data = data
        assert [id(one) for one in looks._outputs()] == [id(value)]
    worker.data = SimpleNamespace()
    assert list(looks._outputs()) == []


def test_a_worker_without_such_handlers_or_plugins_is_told_of_and_watched(
    watch, monkeypatch
):
    border = Boundary()
    monkeypatch.setattr(named_memory, "boundary", border)
    looks = watch(SimpleNamespace(data={}))
    assert passes(looks, Clock()) == []
    looks.close()
    (text,) = border.texts()
    assert "what client.run leaves behind" in text
    assert "no handlers of client.run" in text or "no handler of client.run" in text


def test_calls_are_told_with_those_that_were_not_measured(watch):
    looks, clock = watch(worker_with()), Clock()
    looks._calls.bytes, looks._calls.unmeasured = 20 * MB, 1
    assert passes(looks, clock) == [(NamedMemory("client.run", "", 20 * MB, 1),)]


def test_what_a_call_puts_into_a_variable_is_the_variables(monkeypatch, process):
    """It counts once; what the call left elsewhere, and what tasks add, stays apart."""
    app = module("app", TABLE=[block(10)])

    async def run(comm):
        app.TABLE.append(block(40))
        process.own += 45 * MB
        return {}

    async def clear(comm):
        app.TABLE.clear()
        process.own -= 80 * MB
        return {}

    worker, clock = worker_with(), Clock()
    worker.handlers["run"] = run
    made = {"app": app}
    monkeypatch.setattr(
        named_memory, "ModuleGlobals", lambda outputs: ModuleGlobals(made, outputs)
    )
    known = SimpleNamespace(
        read_parts=lambda: SimpleNamespace(anon=process.own, shmem=0),
        stored=lambda: 0,
        named=lambda: 0,
        is_quiet=lambda: True,
    )
    monkeypatch.setattr(named_memory, "process", known)
    monkeypatch.setattr(named_memory, "allocator_free", lambda: 0)
    monkeypatch.setattr(named_memory.time, "perf_counter", clock)
    looks = NamedMemoryWatch(worker)
    app.TABLE.append(block(30))  # a task's, since the last look
    asyncio.run(worker.handlers["run"]("comm"))
    told = {one.group: round(one.size / MB) for one in passes(looks, clock)[-1]}
    assert told == {"global": 80, "client.run": 5}
    clock.now += 100
    asyncio.run(looks._calls._wrap(clear)("comm"))
    told = {one.group: round(one.size / MB) for one in passes(looks, clock)[-1]}
    assert told == {"client.run": 5}


def test_variables_that_take_long_are_not_compared(process):
    app = module("app", **{f"v{i:03}": [i] for i in range(300)})
    looks, clock = ModuleGlobals({"app": app}), Clock()
    assert looks.total(clock) is None
    assert looks.total(clock) is None, "and not at once again"
    begun = clock.now
    clock.now += 100
    small = ModuleGlobals({"app": module("app", TABLE=block(2))})
    assert small.total(clock) == pytest.approx(2 * MB, rel=0.01)
    assert small.total(clock) is None
    assert small.total(clock, second=True) == pytest.approx(2 * MB, rel=0.01)
    assert clock.now - begun < 101
