"""The host is poor, its clock steps, and workers come with another package or none."""

import contextlib
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from unittest import mock

import psutil
import pytest
from distributed.comm.core import CommClosedError
from outside import outside
from victim import MB, memory, victim

from dask_memdash.boundary import boundary

pytestmark = [
    pytest.mark.attack,
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="for Linux"),
]

#: Tasks beside an attack may take this many times as long: a machine that others use
#: too tells no less apart.
AS_FAST = 2.5


@pytest.fixture(scope="module")
def cluster():
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with victim() as started:
        yield started


def steps(seconds):
    """Set the clock of this process forward, or back."""
    now = time.time
    time.time = lambda: now() + seconds


def exits():
    os._exit(7)


def no_threads():
    """Leave this process no thread more, as a full cgroup or RLIMIT_NPROC does."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    threading.Thread.start = start


def median(cluster, rounds=5):
    return sorted(cluster.tasks_seconds() for _ in range(rounds))[rounds // 2]


def slower(cluster, alone):
    """Return how many times as long tasks take now; the least of a few looks."""
    least = median(cluster) / alone
    for _ in range(3):
        if least > AS_FAST:
            least = min(least, median(cluster) / alone)
    return least


def run_on(cluster, worker, function, *args):
    with contextlib.suppress(CommClosedError, OSError):
        cluster.client.run(function, *args, workers=[worker], wait=False)


def new_incident(cluster, known):
    """Return the first incident that was not known before, once it is settled."""
    return cluster.wait_for(
        lambda: next(
            (
                incident
                for incident in cluster.api("incidents")
                if incident["id"] not in known and incident["settled"]
            ),
            None,
        ),
        "an incident",
    )


def known(cluster):
    return {incident["id"] for incident in cluster.api("incidents")}


@pytest.mark.parametrize("seconds", [86_400, 10**9])
def test_the_clock_of_a_worker_steps(cluster, tell, seconds):
    alone = median(cluster)
    worker = next(iter(cluster.scheduler.workers))
    pid = next(w["pid"] for w in cluster.api("workers") if w["address"] == worker)
    cluster.client.run(steps, seconds, workers=[worker])
    beside = slower(cluster, alone)
    time.sleep(2)
    (row,) = (w for w in cluster.api("workers") if w["address"] == worker)
    before = known(cluster)
    os.kill(pid, signal.SIGKILL)
    incident = new_incident(cluster, before)
    story = cluster.api(f"incidents/{incident['id']}")
    off = incident["time"] - time.time()
    lasted = [suspect["seconds"] for suspect in story["suspects"]]
    cluster.client.wait_for_workers(2)
    tell(
        f"the clock of a worker steps by {seconds:+,} s, then it is killed",
        f"tasks took {beside:.2f} times as long; last heard of "
        f"{time.time() - row['last_seen']:.0f} s ago; an incident of {off:+.1f} s, "
        f"{incident['kind']}, by {incident['evidence']}",
        beside <= AS_FAST
        and abs(time.time() - row["last_seen"]) < 60
        and row["stale_for"] is None
        and abs(off) < 30
        and all(0 <= seconds < 60 for seconds in lasted),
    )


def test_the_clock_of_a_worker_steps_back(tell):
    """Dask's own messages wait for the old time then, without MemDash as with it."""
    with victim() as cluster:
        row = cluster.api("workers")[0]
        cluster.client.run(steps, -86_400, workers=[row["address"]])

        def stale():
            rows = cluster.api("workers")
            return next((w["stale_for"] for w in rows if w["pid"] == row["pid"]), None)

        cluster.wait_for(stale, "the worker to be shown stale")
        os.kill(row["pid"], signal.SIGKILL)
        incident = new_incident(cluster, set())
        cluster.client.wait_for_workers(2)
        off = incident["time"] - time.time()
        tell(
            "the clock of a worker steps back a day, then it is killed",
            f"Dask's own heartbeats stop, and it is shown stale; an incident of "
            f"{off:+.1f} s, {incident['kind']}, by {incident['evidence']}",
            abs(off) < 60,
        )


def test_the_clock_of_the_scheduler_steps(tell):
    now = time.time

    def stepped():
        return now() + 3_600 * forward

    forward = 0
    with mock.patch("time.time", stepped), victim() as cluster:
        alone = median(cluster)
        forward = 1
        beside = slower(cluster, alone)
        time.sleep(2)
        there = cluster.api("workers")
        cluster.api("history")
        cluster.wait_for(
            lambda: all(w["stale_for"] is None for w in cluster.api("workers")),
            "workers that are heard of",
        )
        tell(
            "the clock of the scheduler steps by an hour",
            f"tasks took {beside:.2f} times as long; {len(there)} workers shown, "
            f"{len(known(cluster))} incidents",
            not known(cluster) and len(there) == 2 and beside <= AS_FAST,
        )


def test_a_worker_that_can_start_no_thread(cluster, tell):
    alone = median(cluster)
    worker = next(iter(cluster.scheduler.workers))
    cluster.client.run(no_threads, workers=[worker])
    beside = slower(cluster, alone)
    time.sleep(2)
    (row,) = (w for w in cluster.api("workers") if w["address"] == worker)
    before = known(cluster)
    os.kill(row["pid"], signal.SIGKILL)
    incident = new_incident(cluster, before)
    cluster.client.wait_for_workers(2)
    tell(
        "a worker that can start no thread, then is killed",
        f"tasks took {beside:.2f} times as long; its death is "
        f"{incident['kind']}, by {incident['evidence']}",
        beside <= AS_FAST and row["breakdown"]["process"],
    )


def all_but(left):
    """Take all descriptors of this process but a few; return those taken."""
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    for fd in taken[len(taken) - left :]:
        os.close(fd)
    return taken[: len(taken) - left]


@pytest.mark.parametrize("left", [2, 0])
def test_a_scheduler_without_descriptors(cluster, tell, left):
    """Of none, tasks and MemDash's own looks are the test: Tornado accepts nobody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    alone, before, faults = median(cluster), memory(), boundary.texts()
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 9, hard))
    taken, answered, asked = all_but(left), 0, 20 if left else 0
    try:
        beside = slower(cluster, alone)
        for _ in range(asked):
            with contextlib.suppress(OSError):
                answered += bool(cluster.api("cluster"))
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    cluster.wait_for(lambda: cluster.api("cluster")["n_workers"] == 2, "an answer")
    raised = set(boundary.texts()) - set(faults)
    tell(
        f"a scheduler with {left} descriptors left",
        f"tasks took {beside:.2f} times as long; {answered} of {asked} requests were "
        f"answered, then all; {len(raised)} faults of MemDash's; "
        f"{(memory() - before) / MB:+.0f} MB",
        beside <= AS_FAST and not raised and memory() - before < 30 * MB,
    )


#: A small shared memory of the worker's own, where a nanny can start: Dask's own nanny
#: wants semaphores of it, and starts in none that is full, read-only or absent.
SMALL_SHM = 'mount -t tmpfs -o size=1m none /dev/shm && exec "$@"'

#: What becomes of it once the worker runs.
AFTERWARDS = {
    "1 MB small": "true",
    "filled up": "dd if=/dev/zero of=/dev/shm/x bs=4k 2>/dev/null; test -s /dev/shm/x",
    "hidden by a read-only one": "mount -t tmpfs -o ro none /dev/shm",
    "unmounted": "umount -l /dev/shm",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("what", AFTERWARDS)
def test_a_worker_whose_shared_memory_is(cluster, tell, what):
    if shutil.which("nsenter") is None or subprocess.call(["unshare", "-m", "true"]):
        pytest.skip("no mount namespace can be made here")
    alone, before = median(cluster), known(cluster)
    name = f"poor-{what.replace(' ', '-')}"
    prefix = ("unshare", "-m", "sh", "-c", SMALL_SHM, "sh")
    with outside(cluster, name, "--nanny", prefix=prefix):

        def row():
            return next(
                (
                    worker
                    for worker in cluster.api("workers")
                    if worker["name"] == name and worker["breakdown"]["process"]
                ),
                None,
            )

        pid = cluster.wait_for(row, "the worker's row")["pid"]
        enter = ("nsenter", "-m", "-t", str(pid), "sh", "-c", AFTERWARDS[what])
        subprocess.run(enter, check=True)
        beside = slower(cluster, alone)
        address = cluster.wait_for(row, "the worker's row")["address"]
        own = cluster.client.map(
            abs, range(200), pure=False, workers=[address], allow_other_workers=False
        )
        right = sum(cluster.client.gather(own)) == sum(range(200))
        future = cluster.client.submit(
            time.sleep, 600, workers=[address], allow_other_workers=False
        )
        cluster.wait_for(
            lambda: any(task["prefix"] == "sleep" for task in row()["executing_tasks"]),
            "the task to be seen",
        )
        shown = row()
        os.kill(pid, signal.SIGKILL)
        incident = new_incident(cluster, before)
        story = cluster.api(f"incidents/{incident['id']}")
        future.cancel()
    said = [text for text in shown["degraded"] if "memory" in text]
    tell(
        f"/dev/shm of a worker is {what}, and it is killed",
        f"tasks took {beside:.2f} times as long; {incident['kind']}, by "
        f"{incident['evidence']}, {len(story['suspects'])} suspect; shown: {said}",
        right
        and shown["pid"] == pid
        and beside <= AS_FAST
        and len(story["suspects"]) == 1
        and incident["evidence"] == "flight-recorder",
    )


@pytest.mark.parametrize(
    ("what", "options"),
    [("without the package", ["--hide"]), ("of another version", ["--protocol", "99"])],
)
def test_a_worker(cluster, tell, what, options):
    alone, before = median(cluster), known(cluster)
    with outside(cluster, "foreign", *options):
        beside = slower(cluster, alone)

        def said():
            (row,) = (w for w in cluster.api("workers") if w["name"] == "foreign")
            return row["degraded"]

        shown = cluster.wait_for(said, "a notice")
        assert len(cluster.api("workers")) == 3
    cluster.wait_for(lambda: len(cluster.api("workers")) == 2, "it to be gone")
    tell(
        f"a worker {what}",
        f"tasks took {beside:.2f} times as long; shown: {shown[0]}",
        beside <= AS_FAST and len(known(cluster) - before) <= 1,
    )
