"""A nanny's report: who ended the worker, sent until it is acknowledged, once."""

import asyncio
import itertools
import os
import time
from types import SimpleNamespace

import pytest

from dask_memdash import config
from dask_memdash.flight.files import recorder_path
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.model.event_readers import from_dict
from dask_memdash.model.events import DeathReported
from dask_memdash.model.last_seconds import LastSeconds, sound
from dask_memdash.plugins.nanny import probe as module
from dask_memdash.plugins.nanny import reporting, watching
from dask_memdash.plugins.nanny.probe import NannyProbe
from dask_memdash.plugins.scheduler import translate

T = 1_760_000_000.0


class Loop:
    """Keeps what a nanny's loop is asked to call."""

    def __init__(self):
        self.asked = []

    def add_callback(self, function, *arguments):
        self.asked.append((function, arguments))


class Scheduler:
    """Answers as told, one answer after the other, and keeps what it was sent."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []

    async def memdash_report(self, message):
        self.sent.append(message)
        answer = self.answers.pop(0) if self.answers else {"ok": True}
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Counter:
    """The kernel's count of OOM kills, as a test sets it."""

    def __init__(self):
        self.count = 4

    def __call__(self, pid):
        return self.count


@pytest.fixture
def oom(monkeypatch):
    counter = Counter()
    watch = watching.OomWatch
    monkeypatch.setattr(watching, "OomWatch", lambda pid: watch(pid, counter))
    return counter


@pytest.fixture
def nanny(monkeypatch, oom):
    monkeypatch.setattr(module.sampler, "add", lambda *arguments: None)
    monkeypatch.setattr(module.sampler, "remove", lambda *arguments: None)
    process = SimpleNamespace(pid=2**22 + 7, exitcode=None)
    return SimpleNamespace(
        process=SimpleNamespace(
            process=process,
            worker_address="tcp://a:1",
            status=SimpleNamespace(name="running"),
        ),
        status=SimpleNamespace(name="running"),
        memory_manager=SimpleNamespace(
            _last_terminated_pid=-1,
            memory_limit=500_000_000,
            memory_terminate_fraction=0.95,
        ),
        address_safe="tcp://nanny:1",
        name="seven",
        scheduler=Scheduler(),
        loop=Loop(),
    )


@pytest.fixture
def probe(nanny):
    probe = NannyProbe(config.defaults())
    probe.setup(nanny)
    probe._look(T)
    return probe


def death(probe, nanny, status):
    """End the worker with a status as multiprocessing has it; give the report."""
    nanny.process.process.exitcode = status
    probe._look(T + 1)
    (message,) = probe._reports.waiting
    return message


def send(probe):
    """Run what sends reports, without waiting between attempts."""

    async def no_wait(seconds):
        pass

    async def run():
        await asyncio.wait_for(probe._reports.send(), 30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting.asyncio, "sleep", no_wait)
        asyncio.run(run())


# -- who did it ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "signal"),
    [
        (0, 0, None),
        (3, 3, None),
        (-9, None, 9),
        (-11, None, 11),
        (-15, None, 15),
        (255, None, None),
    ],
)
def test_the_exit_status_is_split_into_code_and_signal(
    probe, nanny, status, code, signal
):
    message = death(probe, nanny, status)
    assert (message["code"], message["signal"]) == (code, signal)
    assert message["by"] == "unknown"
    assert (message["address"], message["pid"]) == ("tcp://a:1", 2**22 + 7)


def test_a_worker_that_the_nanny_terminated_was_ended_by_it(probe, nanny, oom):
    nanny.memory_manager._last_terminated_pid = nanny.process.process.pid
    oom.count += 1
    assert death(probe, nanny, -15)["by"] == "nanny"


@pytest.fixture
def recorder(nanny, tmp_path, monkeypatch):
    """Return the recorder of a worker that was last seen with 70 MB."""
    nanny.process.process.pid = os.getpid()
    made = FlightRecorder(4, "tcp://b:1", str(tmp_path))
    path = recorder_path(os.getpid(), os.getpid(), str(tmp_path))
    made.path.rename(path)
    made.path = path
    monkeypatch.setattr(watching.WorkerWatch, "tick", lambda *arguments: None)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("limit", "fraction", "terminated", "rss"),
    [
        (500_000_000, 0.95, True, 475_000_000),
        (500_000_000, 0.95, False, 70_000_000),
        (50_000_000, 0.95, True, 70_000_000),
        (None, 0.95, True, 70_000_000),
        (500_000_000, False, True, 70_000_000),
    ],
)
def test_what_the_nanny_terminated_had_at_least_what_it_terminates_for(
    nanny, recorder, tmp_path, limit, fraction, terminated, rss
):
    recorder.write_reading({"time": T, "rss": 70_000_000})
    settings = config.load({"recorder.directory": str(tmp_path)})
    probe = NannyProbe(settings)
    probe.setup(nanny)
    probe._look(T)
    probe._watched.watch.samples.append((T, 70_000_000))
    manager = nanny.memory_manager
    manager.memory_limit, manager.memory_terminate_fraction = limit, fraction
    manager._last_terminated_pid = os.getpid() if terminated else -1
    message = death(probe, nanny, -15)
    assert message["reading"]["rss"] == rss
    assert message["address"] == "tcp://b:1", "the recorder's word, not the nanny's"


def test_a_death_tells_whose_the_memory_was_over_the_last_seconds(
    nanny, recorder, tmp_path
):
    reading = {"time": T, "rss": 70_000_000, "managed_claimed": 0, "base": 10_000_000}
    recorder.write_reading(reading)
    settings = config.load({"recorder.directory": str(tmp_path)})
    probe = NannyProbe(settings)
    probe.setup(nanny)
    probe._look(T)
    probe._watched.watch.samples.append((T, 70_000_000))
    message = death(probe, nanny, -9)
    told = from_dict(LastSeconds, message["last_seconds"])
    assert sound(told, T, T + 2) == told
    # the samples are the watch's; the death itself is the last of them
    assert (told.time[-1], told.process[-1]) == (T + 1, 70_000_000)
    assert told.parts["baseline"][-1] == 70_000_000


def test_a_kill_that_the_kernel_has_counted_was_its_own(probe, nanny, oom):
    oom.count += 1
    assert death(probe, nanny, -9)["by"] == "kernel"


def test_a_kernels_kill_stays_its_own_until_a_busy_loop_notices(
    probe, nanny, oom, monkeypatch
):
    oom.count += 1
    clock = itertools.count(time.monotonic(), 2)
    monkeypatch.setattr(reporting.time, "monotonic", lambda: next(clock))
    for _ in range(5):
        probe._look(T)  # the process is gone, its exit status not known yet
    assert death(probe, nanny, -9)["by"] == "kernel"


def test_a_kill_that_the_kernel_has_not_counted_is_not_its_own(probe, nanny, oom):
    assert death(probe, nanny, -9)["by"] == "unknown"


def test_another_signal_is_never_the_kernels_for_memory(probe, nanny, oom):
    oom.count += 1
    assert death(probe, nanny, -11)["by"] == "unknown"


def test_without_a_count_nobody_is_blamed(probe, nanny, oom):
    oom.count = None
    assert death(probe, nanny, -9)["by"] == "unknown"


@pytest.mark.parametrize(
    ("where", "status", "asked"),
    [
        ("nanny", "closing", True),
        ("nanny", "closing_gracefully", True),
        ("process", "stopping", True),
        ("process", "running", False),
    ],
)
def test_an_end_that_was_asked_for_says_so(probe, nanny, where, status, asked):
    place = nanny if where == "nanny" else nanny.process
    place.status = SimpleNamespace(name=status)
    probe._look(T + 0.5)
    assert death(probe, nanny, 0)["asked"] is asked


@pytest.mark.parametrize("status", ["closing", "closing_gracefully", "closed"])
def test_a_nanny_that_closes_as_its_worker_died_has_not_asked_for_it(
    probe, nanny, status
):
    nanny.status = SimpleNamespace(name=status)
    assert death(probe, nanny, -9)["asked"] is False


def test_a_process_without_a_recorder_is_reported_all_the_same(probe, nanny):
    message = death(probe, nanny, -9)
    event = translate.nanny_reported(SimpleNamespace(tasks={}), message, T + 2)
    assert isinstance(event, DeathReported)
    assert (event.recorded, event.executing, event.reading) == (False, (), None)


class Closed:
    """A process of multiprocessing that has been closed."""

    @property
    def exitcode(self):
        raise ValueError("process object is closed")


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        (SimpleNamespace(exitcode=-6), (None, 6)),
        (SimpleNamespace(exitcode=7), (7, None)),
        (SimpleNamespace(exitcode=None), (None, None)),
        (Closed(), (None, None)),
        (None, (None, None)),
    ],
)
def test_a_status_that_dask_could_not_read_is_asked_of_multiprocessing(
    nanny, child, expected
):
    nanny.process.process._process = child
    probe = NannyProbe(config.defaults())
    probe.setup(nanny)
    probe._look(T)
    nanny.process.process._process = None  # as Dask does at the end
    message = death(probe, nanny, 255)
    assert (message["code"], message["signal"]) == expected


# -- sending -------------------------------------------------------------------


def test_a_report_is_sent_until_it_is_acknowledged(probe, nanny):
    nanny.scheduler.answers = [OSError("gone"), None, {"ok": False}, TimeoutError()]
    message = death(probe, nanny, -9)
    send(probe)
    assert len(nanny.scheduler.sent) == 5
    for sent in nanny.scheduler.sent:
        assert {k: v for k, v in sent.items() if k != "sent"} == message
    assert not probe._reports


def test_a_report_is_not_sent_for_ever(probe, nanny, monkeypatch):
    death(probe, nanny, -9)
    nanny.scheduler.answers = [None] * 1000
    monkeypatch.setattr(reporting, "REPORT_LIFETIME", -1.0)
    send(probe)
    assert len(nanny.scheduler.sent) == 1
    assert not probe._reports


def test_a_nanny_that_closes_leaves_the_rest_to_its_teardown(probe, nanny):
    death(probe, nanny, -9)
    nanny.scheduler.answers = [None] * 1000
    nanny.status = SimpleNamespace(name="closing")
    send(probe)
    assert len(nanny.scheduler.sent) == 1
    assert len(probe._reports) == 1


def test_reports_that_cannot_be_sent_are_bounded(probe, nanny):
    for number in range(reporting.MAX_REPORTS + 5):
        nanny.process.process.exitcode = -9
        probe._look(T)
        nanny.process.process = SimpleNamespace(pid=2**22 + number, exitcode=None)
        probe._look(T + 1)
    nanny.process.process.exitcode = -9
    probe._look(T + 2)
    assert len(probe._reports) == reporting.MAX_REPORTS
    assert probe._reports.waiting[-1]["pid"] == 2**22 + reporting.MAX_REPORTS + 4


def tear_down(probe, nanny):
    """Tear down as a nanny does when it closes; say whether it had to wait."""

    async def run():
        last = probe.teardown(nanny)
        if last is not None:
            await asyncio.wait_for(last, 30)
        return last is not None

    return asyncio.run(run())


def test_a_teardown_sends_what_no_tick_has_seen(probe, nanny):
    nanny.process.process.exitcode = -9
    nanny.status = SimpleNamespace(name="closing")
    nanny.scheduler.answers = [None, OSError("not yet")]
    assert tear_down(probe, nanny)
    assert [m["signal"] for m in nanny.scheduler.sent] == [9, 9, 9]
    assert [m["asked"] for m in nanny.scheduler.sent] == [False] * 3
    assert not probe._reports


def test_a_teardown_waits_for_the_scheduler_only_so_long(probe, nanny, monkeypatch):
    death(probe, nanny, -9)
    nanny.scheduler.answers = [None] * 1000
    monkeypatch.setattr(module, "FLUSH_TIME", 0.3)
    began = time.monotonic()
    assert tear_down(probe, nanny)
    assert 0.3 <= time.monotonic() - began < 2
    assert len(probe._reports) == 1


def test_a_teardown_with_nothing_to_say_keeps_nobody_waiting(probe, nanny):
    nanny.status = SimpleNamespace(name="closing")
    assert not tear_down(probe, nanny)
    assert not tear_down(probe, nanny)
    assert nanny.scheduler.sent == []


def test_a_nanny_that_closes_before_its_worker_is_there_says_so(probe, nanny):
    nanny.status = SimpleNamespace(name="closing")
    nanny.process.status = SimpleNamespace(name="starting")
    assert tear_down(probe, nanny)
    (message,) = nanny.scheduler.sent
    assert (message["asked"], message["code"], message["signal"]) == (True, None, None)


def test_a_report_that_is_sent_twice_at_once_is_taken_off_once(probe, nanny):
    death(probe, nanny, -9)

    async def run():
        await asyncio.gather(probe._reports.send(), probe.teardown(nanny))

    asyncio.run(run())
    assert {m["signal"] for m in nanny.scheduler.sent} == {9}
    assert not probe._reports


def test_a_plugin_that_is_registered_again_takes_over(probe, nanny):
    message = death(probe, nanny, -9)
    nanny.process.process = SimpleNamespace(pid=2**22 + 8, exitcode=None)
    probe._look(T + 2)
    watched = probe._watched
    later = NannyProbe(config.defaults())
    later.setup(nanny)
    assert later._reports.waiting == [message]
    assert later._watched is watched
    assert not probe._reports
    assert not tear_down(probe, nanny), "its successor goes on"
    assert tear_down(later, nanny)


# -- which worker ----------------------------------------------------------------


def test_a_worker_that_has_just_started_is_not_at_its_predecessors_address(
    probe, nanny
):
    death(probe, nanny, -9)
    nanny.process.process = SimpleNamespace(pid=2**22 + 8, exitcode=None)
    nanny.process.status = SimpleNamespace(name="starting")
    probe._look(T + 2)
    nanny.process.process.exitcode = -9
    probe._look(T + 3)
    first, second = probe._reports.waiting
    assert (first["address"], first["pid"]) == ("tcp://a:1", 2**22 + 7)
    assert (second["address"], second["pid"]) == ("", 2**22 + 8)
    assert (second["nanny"], second["name"]) == ("tcp://nanny:1", "seven")


def test_a_worker_that_died_before_it_was_looked_at_is_reported_once(probe, nanny):
    death(probe, nanny, -9)
    nanny.process.process = SimpleNamespace(pid=2**22 + 8, exitcode=1)
    for later in (2, 3, 4):
        probe._look(T + later)
    assert [m["pid"] for m in probe._reports.waiting] == [2**22 + 7, 2**22 + 8]


# -- clocks --------------------------------------------------------------------


def reported(offset, probe, nanny):
    """Return the report of a nanny whose clock is behind by so many seconds."""
    message = death(probe, nanny, -9)
    message |= {"died": T, "samples": [[T - 2.0, 5], [T, 9]], "sent": T + 0.1}
    scheduler = SimpleNamespace(tasks={})
    return translate.nanny_reported(scheduler, message, T + 0.1 + offset)


@pytest.mark.parametrize("offset", [0.0, 0.4, 1.9, -1.9])
def test_a_message_that_takes_its_time_moves_no_clock(probe, nanny, offset):
    event = reported(offset, probe, nanny)
    assert (event.died, event.clock_offset) == (T, 0.0)


@pytest.mark.parametrize("offset", [3600.0, -7200.0])
def test_times_of_a_nanny_whose_clock_differs_are_corrected(probe, nanny, offset):
    event = reported(offset, probe, nanny)
    assert event.clock_offset == pytest.approx(offset)
    assert event.died == pytest.approx(T + offset)
    assert [size for _, size in event.samples] == [5, 9]
    assert [at for at, _ in event.samples] == pytest.approx(
        [T - 2 + offset, T + offset]
    )


@pytest.mark.parametrize(
    "sent", [None, "now", float("nan"), float("inf"), True, [], 10**400]
)
def test_a_senders_time_that_is_none_moves_no_clock(probe, nanny, sent):
    message = {**death(probe, nanny, -9), "sent": sent}
    event = translate.nanny_reported(SimpleNamespace(tasks={}), message, T + 2)
    assert (event.died, event.clock_offset) == (T + 1, 0.0)


def test_a_nanny_says_what_its_clock_shows_whenever_it_sends(probe, nanny, monkeypatch):
    times = iter([T + 5, T + 65])
    monkeypatch.setattr(reporting.time, "time", lambda: next(times))
    death(probe, nanny, -9)
    nanny.scheduler.answers = [None]
    send(probe)
    assert [sent["sent"] for sent in nanny.scheduler.sent] == [T + 5, T + 65]
