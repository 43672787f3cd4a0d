"""How the probe sits on a worker, with a stand-in for the worker."""

import gc
import mmap
import os
import threading
from types import SimpleNamespace

import psutil
import pytest
from dask._task_spec import Task

from dask_memdash import config
from dask_memdash.flight import format as layout
from dask_memdash.flight import writer as writer_module
from dask_memdash.measure import shared_process as shared
from dask_memdash.measure import tally, tally_choice
from dask_memdash.measure.marked_threads import MarkedThreads
from dask_memdash.measure.rss import RssReader
from dask_memdash.model.event_readers import to_dict
from dask_memdash.model.packed_report import unpack
from dask_memdash.plugins.worker import known_unmanaged, report_pace
from dask_memdash.plugins.worker import notices as notices_module
from dask_memdash.plugins.worker import own_sampler as own_sampler_module
from dask_memdash.plugins.worker import probe as probe_module
from dask_memdash.plugins.worker.probe import WorkerProbe
from dask_memdash.system.proc import HighWater

MB = 1_000_000


class Loop:
    """An event loop on which nothing runs until the test says so."""

    def __init__(self):
        self.later = []

    def call_later(self, delay, callback):
        self.later.append(callback)

    def run(self):
        due, self.later = self.later, []
        for callback in due:
            callback()


async def run_function(comm, function):
    """Stand in for what answers `client.run`."""
    return {"status": "OK"}


@pytest.fixture
def worker(process_border, tmp_path):
    state = SimpleNamespace(
        nthreads=2,
        tasks={},
        actors={},
        executing=set(),
        transfer_incoming_count=0,
        transfer_incoming_bytes=0,
    )
    made = SimpleNamespace(
        contact_address="tcp://a:1",
        address="tcp://a:1",
        nanny=None,
        state=state,
        data={},
        local_directory=str(tmp_path),
        memory_manager=SimpleNamespace(
            memory_limit=400 * MB,
            memory_target_fraction=0.6,
            memory_spill_fraction=0.7,
            memory_pause_fraction=False,
        ),
        log_event=lambda topic, message: None,
        extensions={},
        handlers={"run": run_function},
        plugins={},
        active_threads={},
        active_threads_lock=threading.Lock(),
        active_keys=set(),
        transfer_outgoing_bytes=0,
        transfer_outgoing_count=0,
        status=SimpleNamespace(name="running"),
        loop=Loop(),
    )
    yield made
    left = made.extensions.get("memdash")
    if left is not None:  # of a test that failed: others must not fail for it
        left.teardown(made)
    assert process_border.texts() == ()


def probe_on(worker, **overrides):
    probe = WorkerProbe(config.load(overrides) if overrides else config.defaults())
    probe.setup(worker)
    return probe


def heartbeat_of(probe):
    """Return what a heartbeat tells, as plain data once the scheduler has read it."""
    return to_dict(unpack(probe.heartbeat(), 0.0, "tcp://a:1", 0))


def test_a_probe_leaves_the_worker_as_it_found_it(worker):
    before = {name: vars(worker)[name] for name in vars(worker)}
    threads = threading.active_count()
    probe = probe_on(worker)
    assert worker.handlers != {"run": run_function}
    assert isinstance(worker.active_threads, MarkedThreads)
    assert worker.extensions == {"memdash": probe}
    probe.teardown(worker)
    assert type(worker.active_threads) is dict
    assert vars(worker) == before
    assert worker.handlers == {"run": run_function}
    assert threading.active_count() == threads


def test_the_thread_dict_stays_until_no_task_would_miss_its_entry(worker):
    probe = probe_on(worker)
    worker.active_threads[7] = "sum-1"
    probe.teardown(worker)
    worker.loop.run()
    assert isinstance(worker.active_threads, MarkedThreads)
    assert worker.active_threads[7] == "sum-1"
    del worker.active_threads[7]
    worker.loop.run()
    assert type(worker.active_threads) is dict
    assert worker.loop.later == []


def test_a_probe_that_goes_late_leaves_its_successors_thread_dict_alone(worker):
    first = probe_on(worker)
    marks = worker.active_threads
    marks[7] = "sum-1"
    first.teardown(worker)
    second = probe_on(worker)
    assert dict(worker.active_threads) == {7: "sum-1"}
    del marks[7]
    worker.loop.run()
    assert worker.active_threads is second._threads.marked
    second.teardown(worker)
    assert type(worker.active_threads) is dict


def test_a_heartbeat_says_everything_at_once(worker):
    worker.data["sum-1"] = b""
    worker.state.tasks["sum-1"] = SimpleNamespace(
        nbytes=5 * MB, prefix="sum", run_spec=None, state="memory"
    )
    probe = probe_on(worker)
    message = heartbeat_of(probe)
    assert message["pid"] == os.getpid()
    assert message["rows"] == {"sum": [1, 5 * MB, 0, 0]}
    assert message["reading"]["managed_claimed"] == 5 * MB
    assert message["thresholds"] == {
        "target": 240 * MB,
        "spill": 280 * MB,
        "pause": None,
        "terminate": None,
    }
    assert message["cost"]["held_back"] == 0
    assert message["cost"]["cpu"] is None, "not known before some seconds have passed"
    assert message["cost"]["bytes"] > 4096, "the flight recorder at least"
    assert heartbeat_of(probe)["rows"] is None, "nothing has changed"
    probe.teardown(worker)


def test_tasks_are_weighed_soon_after_they_arrived_and_the_recorder_knows(worker):
    spec = Task("score-1", len, b"x" * 5 * MB)
    early = Task("early-1", len, b"x" * 2 * MB)
    worker.state.tasks["early-1"] = SimpleNamespace(run_spec=early, state="ready")
    probe = probe_on(worker)
    other = Task("early-2", len, b"x" * MB)
    worker.state.tasks["score-1"] = SimpleNamespace(run_spec=spec, state="ready")
    worker.state.tasks["early-2"] = SimpleNamespace(run_spec=other, state="ready")
    probe.transition("early-2", "released", "waiting")
    assert probe._unmanaged.bytes == pytest.approx(2 * MB, rel=0.01), "not yet"
    probe.transition("score-1", "released", "waiting")
    assert probe._unmanaged.bytes == pytest.approx(7 * MB, rel=0.01), "the first, now"
    worker.loop.run()
    assert layout.read_reading(probe._recorder.buffer)["graph"] == pytest.approx(
        8 * MB, rel=0.01
    )
    message = heartbeat_of(probe)
    assert message["graph"]["score"]["tasks"] == 1
    assert message["graph"]["early"]["tasks"] == 2
    assert message["reading"]["graph"] == pytest.approx(8 * MB, rel=0.01)
    for key in ("score-1", "early-2"):
        del worker.state.tasks[key]
        probe.transition(key, "released", "forgotten")
    probe._unmanaged._weigh()
    assert layout.read_reading(probe._recorder.buffer)["graph"] == pytest.approx(
        2 * MB, rel=0.01
    )
    probe.teardown(worker)
    probe._unmanaged._weigh()  # what was still to come


def test_a_call_of_an_actors_method_counts_for_the_actor(worker):
    worker.state.actors["Counter-1"] = SimpleNamespace(data=b"x" * MB)
    probe = probe_on(worker)
    worker.active_threads[threading.get_ident()] = "Counter.add"
    (running,) = heartbeat_of(probe)["executing"]
    assert (running["key"], running["prefix"]) == ("Counter.add", "Counter")
    assert running["rss_at_begin"] > 10 * MB
    assert heartbeat_of(probe)["reading"]["actors"] == pytest.approx(MB, rel=0.01)
    del worker.active_threads[threading.get_ident()]
    probe.teardown(worker)


# -- what cannot be measured ---------------------------------------------------


def notices(probe):
    return " | ".join(heartbeat_of(probe)["notices"])


def test_a_worker_that_measures_everything_says_nothing_of_it(worker):
    probe = probe_on(worker)
    if not shared.process.high_water or tally.load() is None:
        probe.teardown(worker)
        pytest.skip("something cannot be measured on this machine")
    assert "not measured" not in notices(probe)
    assert heartbeat_of(probe)["method"] == "exact"
    probe.teardown(worker)


def test_a_kernel_without_clear_refs_is_told_of_plainly(worker, monkeypatch, tmp_path):
    monkeypatch.setattr(shared, "HighWater", lambda: HighWater(str(tmp_path)))
    monkeypatch.setattr(notices_module.sys, "platform", "linux")
    probe = probe_on(worker, tally=False)
    assert (
        "the kernel does not let the high-water mark of the RSS be set back "
        "(clear_refs); what native libraries use in a task that runs alone is not "
        "measured" in notices(probe)
    )
    assert heartbeat_of(probe)["method"] == "estimated"
    probe.teardown(worker)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_system_without_proc_is_told_of_plainly(
    worker, monkeypatch, tmp_path, platform
):
    """Everything of the kernel's is looked for in an empty tree."""
    monkeypatch.setattr(shared, "HighWater", lambda: HighWater(str(tmp_path)))
    monkeypatch.setattr(shared, "RssReader", lambda pid: RssReader(pid, str(tmp_path)))
    monkeypatch.setattr(shared, "allocator_free", lambda: None)
    monkeypatch.setattr(shared, "arrow_pool", lambda: None)  # others may import it
    monkeypatch.setattr(notices_module.sys, "platform", platform)
    probe = probe_on(worker, tally=False)
    said = notices(probe)
    assert "has no /proc: the RSS is read through psutil" in said
    assert "never touched" in said
    assert "what the kernel killed are not measured" in said
    assert "clear_refs" not in said, "one plain statement, not two"
    message = heartbeat_of(probe)
    assert message["method"] == "estimated"
    expected = psutil.Process().memory_info().rss
    assert message["reading"]["rss"] == pytest.approx(expected, rel=0.05)
    assert message["reading"]["free"] is None, "not known is not 0"
    # …and tasks are measured all the same
    worker.active_threads[threading.get_ident()] = "sum-1"
    del worker.active_threads[threading.get_ident()]
    done = heartbeat_of(probe)["finished"]["sum"]
    assert (done["count"], done["method"]) == (1, "estimated")
    probe.teardown(worker)


def finish(worker, key):
    worker.active_threads[threading.get_ident()] = key
    del worker.active_threads[threading.get_ident()]


def test_one_of_very_many_workers_tells_finished_tasks_together(worker, monkeypatch):
    monkeypatch.setattr(report_pace, "REPORT_EVERY", 0.0)
    probe = probe_on(worker)
    worker.periodic_callbacks = {"heartbeat": SimpleNamespace(callback_time=6000)}
    finish(worker, "sum-1")
    assert heartbeat_of(probe)["finished"]["sum"]["count"] == 1, "the first at once"
    for number in (2, 3):
        finish(worker, f"sum-{number}")
        assert heartbeat_of(probe)["finished"] == {}
    monkeypatch.setattr(report_pace, "ALL_EVERY", 0.0)
    finish(worker, "sum-4")
    assert heartbeat_of(probe)["finished"] == {}, "not with two heartbeats in a row"
    monkeypatch.setattr(report_pace, "ALL_INTERVALS", 0.0)
    assert heartbeat_of(probe)["finished"]["sum"]["count"] == 3
    probe.teardown(worker)


def test_one_of_very_many_workers_reports_when_there_is_news(worker, monkeypatch):
    rss = [100 * MB]
    monkeypatch.setattr(shared.process, "read_rss", lambda: rss[0])
    monkeypatch.setattr(report_pace, "REPORT_EVERY", 1e9)
    probe = probe_on(worker)
    worker.periodic_callbacks = {"heartbeat": SimpleNamespace(callback_time=6000)}
    worker.memory_manager.memory_limit = 400 * MB
    first = heartbeat_of(probe)["reading"]["rss"]
    rss[0] = first + 19 * MB
    finish(worker, "sum-1")
    assert probe.heartbeat() == {"protocol": 2}, "less than a twentieth of its limit"
    rss[0] = first + 21 * MB
    told = heartbeat_of(probe)
    assert told["finished"] == {}
    rss[0] = told["reading"]["rss"]
    assert probe.heartbeat() == {"protocol": 2}
    monkeypatch.setattr(report_pace, "REPORT_EVERY", 0.0)
    assert "packed" in probe.heartbeat(), "it is time"
    monkeypatch.setattr(report_pace, "ALL_EVERY", 0.0)
    monkeypatch.setattr(report_pace, "ALL_INTERVALS", 0.0)
    count = heartbeat_of(probe)["finished"]["sum"]["count"]
    assert count == 1, "nothing is lost by waiting"
    probe.teardown(worker)


def test_of_very_many_workers_what_changes_slowly_is_told_with_what_has_finished(
    worker, monkeypatch
):
    monkeypatch.setattr(report_pace, "REPORT_EVERY", 0.0)
    probe = probe_on(worker)
    asked = []
    report = probe._limits.report
    monkeypatch.setattr(
        probe._limits, "report", lambda *, may_wait: asked.append(may_wait) or report()
    )
    worker.periodic_callbacks = {"heartbeat": SimpleNamespace(callback_time=6000)}
    first, second = probe.heartbeat(), probe.heartbeat()
    assert (
        first.keys()
        > second.keys()
        == {"protocol", "pid", "names", "packed"} | (second.keys() & {"notices"})
    )
    assert asked == [False, True]
    monkeypatch.setattr(report_pace, "ALL_EVERY", 0.0)
    monkeypatch.setattr(report_pace, "ALL_INTERVALS", 0.0)
    probe.heartbeat()
    assert asked == [False, True, False]
    probe.teardown(worker)


def test_a_report_that_waits_is_in_the_flight_recorder(worker, monkeypatch):
    probe = probe_on(worker)
    worker.periodic_callbacks = {"heartbeat": SimpleNamespace(callback_time=6000)}
    worker.memory_manager.memory_limit = 10**18
    written = []
    write = lambda reading, rest: written.append(reading)  # noqa: E731
    monkeypatch.setattr(probe._figures, "write", write)
    assert "packed" in probe.heartbeat()
    assert probe.heartbeat() == {"protocol": 2}
    assert len(written) == 2
    probe.teardown(worker)


@pytest.mark.parametrize("why", ["few workers", "a guard"])
def test_finished_tasks_are_told_at_once_of_few_workers_and_with_a_guard(worker, why):
    probe = probe_on(worker)
    many = SimpleNamespace(callback_time=500 if why == "few workers" else 6000)
    worker.periodic_callbacks = {"heartbeat": many}
    if why == "a guard":
        silent = {"heartbeat": dict, "notices": tuple}
        probe._guard = SimpleNamespace(**silent)
    for number in (1, 2):
        finish(worker, f"sum-{number}")
        assert heartbeat_of(probe)["finished"]["sum"]["count"] == 1
    probe._guard = None
    probe.teardown(worker)


def test_without_the_tally_the_loss_is_told_once_to_whoever_registers(
    worker, monkeypatch
):
    told = []
    worker.log_event = lambda topic, message: told.append((topic, message))
    monkeypatch.setattr(tally_choice.native_tally, "load", lambda: None)
    monkeypatch.setattr(tally_choice, "load", lambda: None)
    monkeypatch.setattr(tally_choice, "why_not", lambda: "the tally was not built")
    probe = probe_on(worker)
    text = (
        "the tally was not built; in-execution memory is estimated from the RSS instead"
    )
    assert text in notices(probe)
    assert told == [("memdash", {"action": "lacks", "text": text})]
    probe.teardown(worker)


def test_who_turns_the_tally_off_is_not_told(worker):
    probe = probe_on(worker, tally=False)
    assert "estimated from the RSS" not in notices(probe)
    probe.teardown(worker)


@pytest.mark.parametrize(
    ("threads", "high_water", "expected"),
    [(1, True, "hwm"), (2, True, "estimated"), (1, False, "estimated")],
)
def test_the_method_without_the_tally_is_the_best_that_there_can_be(
    worker, monkeypatch, threads, high_water, expected
):
    made = SimpleNamespace(available=high_water, close=lambda: None)
    monkeypatch.setattr(shared, "HighWater", lambda: made)
    worker.state.nthreads = threads
    probe = probe_on(worker, tally=False)
    assert heartbeat_of(probe)["method"] == expected
    probe.teardown(worker)


# -- what it costs -------------------------------------------------------------


def test_a_probe_that_costs_too_much_holds_back_and_says_so(worker):
    probe = probe_on(worker, budget=0.0001)
    starting = [None, 0.5, 0.4, 0.3, 0.2]
    rates = iter([*starting, None, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1])
    probe.cost.rate = lambda: next(rates, 0.1)
    assert [heartbeat_of(probe)["cost"]["held_back"] for _ in starting] == [0] * 5
    assert (heartbeat_of(probe)["cost"]["held_back"], probe.tasks.held_back) == (0, 0)
    assert (heartbeat_of(probe)["cost"]["held_back"], probe.tasks.held_back) == (1, 1)
    message = heartbeat_of(probe)
    assert message["cost"]["held_back"] == probe.tasks.held_back == 2
    told = [heartbeat_of(probe)["notices"] for _ in range(4)]
    assert not any("memdash.budget" in text for text in told[-2]), "it may pass"
    assert (
        "MemDash cost more of a core here than memdash.budget allows (0.01%), so it "
        "measures more coarsely until it costs less" in told[-1]
    )
    probe.teardown(worker)


# -- transitions ---------------------------------------------------------------


def test_following_a_task_never_raises_into_the_worker(worker, process_border):
    probe = probe_on(worker)
    probe.tasks = None
    probe.transition("sum-1", "executing", "memory")
    (text,) = process_border.texts()
    assert text.startswith("MemDash failed in following a task's state once: ")
    probe.teardown(worker)
    process_border.clear()


def test_only_transitions_that_matter_are_followed(worker):
    probe = probe_on(worker)
    followed = []
    probe._follow = lambda *args: followed.append(args)
    probe.transition("x", "released", "waiting")
    probe.transition("x", "waiting", "ready")
    probe.transition("x", "released", "fetch", stimulus_id="s")
    assert followed == []
    for start, finish in (
        ("ready", "executing"),
        ("executing", "memory"),
        ("flight", "memory"),
        ("memory", "released"),
        ("executing", "error"),
        ("long-running", "released"),
    ):
        probe.transition("x", start, finish, stimulus_id="s")
        assert followed.pop() == ("x", start, finish)
    probe.teardown(worker)
    probe.transition("x", "executing", "memory")
    assert followed == [], "nothing is followed after the end"


def run_here(worker, key, function):
    """Run a task in this thread as a worker does, and store its output."""
    ident = threading.get_ident()
    worker.state.tasks[key] = SimpleNamespace(nbytes=None, prefix=None, run_spec=None)
    worker.active_threads[ident] = key
    worker.data[key] = function()
    del worker.active_threads[ident]


@pytest.mark.skipif(tally.load() is None, reason=tally.why_not())
def test_outputs_that_weigh_less_than_believed_are_explained(worker):
    numpy = pytest.importorskip("numpy")
    whole = numpy.ones(4 * MB)
    probe = probe_on(worker)
    for n in range(2):  # the first of a prefix is not weighed
        run_here(worker, f"view-{n}", lambda: whole[1:])
        worker.state.tasks[f"view-{n}"] = SimpleNamespace(
            nbytes=32 * MB, prefix="view", run_spec=None
        )
        probe.transition(f"view-{n}", "executing", "memory")
    weighed = heartbeat_of(probe)["finished"]["view"]["weighed"]
    assert weighed["because"] == "views of other arrays"
    assert (weighed["count"], weighed["believed"]) == (1, 32 * MB)
    assert abs(weighed["left"]) < 2**16
    probe.teardown(worker)


# -- a setup that fails half way -------------------------------------------------------

#: What each step of the setup calls; any may fail, and nothing may remain.
STEPS = (
    (probe_module, "WorkerStorage"),
    (probe_module, "acquire_tally"),
    (probe_module, "tally_allowed"),
    (probe_module, "make_recorder"),
    (writer_module.mmap, "mmap"),
    (tally.Tally, "_count"),
    (writer_module.layout, "write_header"),
    (probe_module, "RecorderFigures"),
    (probe_module, "KnownUnmanaged"),
    (known_unmanaged.KnownUnmanaged, "arrived"),
    (probe_module, "PrefixRegression"),
    (probe_module, "choose_meter"),
    (probe_module, "RunningTasks"),
    (shared.SharedProcess, "join"),
    (shared, "RssReader"),
    (shared, "HighWater"),
    (shared, "CloseLook"),
    (notices_module, "of_the_system"),
    (probe_module, "ActiveThreads"),
    (probe_module.RunningTasks, "adopt"),
    (probe_module, "runs_elsewhere"),
    (own_sampler_module, "RecorderReader"),
    (own_sampler_module, "WorkerWatch"),
    (own_sampler_module, "OomWatch"),
    (own_sampler_module.sampler, "add"),
    (threading.Thread, "start"),
    (probe_module, "read_worker"),
    (probe_module.RecorderFigures, "write"),
)


class SpillBuffer(dict):
    def _handle_errors(self, key):
        """Stand for Dask's own, which the probe watches."""


def open_files():
    """Name what this process has open, but the listing itself."""
    gc.collect()  # a mapping's file goes with whoever held it last
    own = f"/proc/{os.getpid()}/fd"
    found = [os.readlink(name) for name in os.scandir(own) if os.path.lexists(name)]
    return sorted(name for name in found if name != own)


def remains(worker, directory):
    """What a probe could leave in this process and on its worker."""
    return {
        "worker": {
            **vars(worker),
            "active_threads": dict(worker.active_threads),
            "handlers": dict(worker.handlers),
            "loop": None,
        },
        "buffer": dict(vars(worker.data)),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "tally": tally.current(),
        "members": list(shared.process._members),
        "files": sorted(directory.rglob("*.flight")),
        "open": open_files(),
        "sampled": dict(own_sampler_module.sampler._ticks),
        "watch": own_sampler_module.own_sampler._watch,
    }


@pytest.fixture
def few_to_collect():
    """Make a collection of garbage look at what is new alone."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("few_to_collect")
@pytest.mark.parametrize("nanny", [None, "tcp://a:2"], ids=["alone", "nanny"])
@pytest.mark.parametrize("tallied", ["python", "off"])
def test_a_setup_that_fails_at_any_step_leaves_nothing(
    worker, nanny, tallied, monkeypatch, process_border, tmp_path
):
    worker.nanny, worker.data = nanny, SpillBuffer()
    worker.state.tasks["sum-1"] = SimpleNamespace(
        nbytes=0, prefix="sum", run_spec=None, state="ready", start_time=1.0
    )
    worker.active_threads[threading.get_ident()] = "sum-1"
    worker.active_keys.add("inc-1")
    told = []
    worker.log_event = lambda topic, message: told.append(message)
    settings = config.load({"recorder.directory": str(tmp_path), "tally": tallied})
    before, failed = remains(worker, tmp_path), set()
    for place, name in STEPS:
        told.clear()
        worker.loop = Loop()
        reached = []

        def fail(*args, reached=reached, **kwargs):
            reached.append(1)
            raise RuntimeError("no more")

        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            probe = WorkerProbe(settings)
            probe.setup(worker)
        where = f"{getattr(place, '__name__', place)}.{name}"
        if reached:
            probe.transition("sum-1", "ready", "executing")  # the host goes on calling
            (said,) = [m for m in told if m["action"] == "missing"]
            assert said["text"] == "MemDash cannot be set up (RuntimeError: no more)"
            assert process_border.texts(), where
            failed.add(name)
            assert worker.extensions == {}, where
        else:
            probe.teardown(worker)
        del probe  # with the mapping, which stays as long as anybody holds it
        del worker.active_threads[threading.get_ident()]  # the task ends
        worker.loop.run()
        assert type(worker.active_threads) is dict
        worker.active_threads[threading.get_ident()] = "sum-1"
        assert remains(worker, tmp_path) == before, where
        process_border.clear()
    expected = {name for _, name in STEPS}
    if nanny:
        expected -= {"RecorderReader", "WorkerWatch", "OomWatch", "add", "start"}
    expected -= {"mmap"} if tallied == "python" else {"_count"}
    assert failed == expected


def test_a_worker_is_measured_by_the_setup_after_one_that_failed(
    worker, monkeypatch, process_border
):
    with monkeypatch.context() as patch:
        patch.setattr(probe_module, "read_worker", None)
        probe_on(worker)
    assert worker.extensions == {}
    process_border.clear()
    probe = probe_on(worker)
    assert heartbeat_of(probe)["pid"] == os.getpid()
    probe.teardown(worker)


# -- what comes with a task ------------------------------------------------------------


def arrive(worker, probe, key):
    """Let a task arrive, and be about to begin."""
    worker.state.tasks[key] = SimpleNamespace(
        key=key, run_spec=None, annotations=None, dependencies=(), state="ready"
    )
    probe.transition(key, "released", "waiting")
    probe.transition(key, "ready", "executing")


def fresh(size):
    """Return memory that was nobody's before, whatever the allocator has free."""
    memory = mmap.mmap(-1, size)
    memory.write(b"." * size)
    return memory


def test_modules_that_come_with_a_prefix_are_of_the_baseline(worker):
    worker.executors = {"default": type("ThreadPoolExecutor", (), {})()}
    probe = probe_on(worker)
    in_recorder = lambda: layout.read_reading(probe._recorder.buffer)  # noqa: E731
    before = in_recorder()
    assert before["loaded"] == 0
    module = fresh(24 * MB)
    arrive(worker, probe, "sum-1")
    after = in_recorder()
    assert after["loaded"] > 20 * MB
    assert after["base"] - before["base"] > 20 * MB
    assert after["last_rest"] - before["last_rest"] > 20 * MB
    more = fresh(24 * MB)
    arrive(worker, probe, "sum-2")  # of which all modules are here
    arrive(worker, probe, "inc-1")  # while something may have run
    assert in_recorder()["loaded"] == after["loaded"]
    assert heartbeat_of(probe)["reading"]["loaded"] == after["loaded"]
    assert len(module) + len(more) == 48 * MB
    probe.teardown(worker)


def test_data_that_comes_with_a_task_is_no_module(worker):
    worker.executors = {"default": type("ThreadPoolExecutor", (), {})()}
    probe = probe_on(worker)
    data = b"x" * (24 * MB)
    key = "sum-1"
    worker.state.tasks[key] = SimpleNamespace(
        key=key,
        run_spec=Task(key, len, data),
        annotations=None,
        dependencies=(),
        state="ready",
    )
    probe.transition(key, "released", "waiting")
    probe.transition(key, "ready", "executing")
    reading = layout.read_reading(probe._recorder.buffer)
    assert reading["loaded"] < 2 * MB
    probe.teardown(worker)
