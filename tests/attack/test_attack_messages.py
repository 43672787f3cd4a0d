"""Strangers, rogue nannies and clients send what no honest sender would."""

import asyncio
import time

import pytest
from distributed import rpc
from victim import MB, memory, victim

pytestmark = [pytest.mark.attack, pytest.mark.cluster, pytest.mark.timeout(600)]

#: Text that must reach no log, note or terminal as it is.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\x00</script>\n"


@pytest.fixture(scope="module")
def cluster():
    with victim() as started:
        yield started


def death(nanny, number=0, **more):
    now = time.time()
    return {
        "kind": "death",
        "protocol": 2,
        "address": "",
        "nanny": nanny,
        "pid": number,
        "died": now,
        "sent": now,
        "code": None,
        "signal": 9,
        "by": "unknown",
        "asked": False,
        "closing": False,
        "reading": None,
        "executing": [],
        "samples": [],
        "recorded": True,
        **more,
    }


def sender(cluster, make, pause=0.0):
    """Return an attack that sends what `make` makes of a number, without end."""
    sent = [0]

    async def attack():
        scheduler = rpc(cluster.cluster.scheduler_address)
        try:
            while True:
                await scheduler.memdash_report(message=make(sent[0]))
                sent[0] += 1
                await asyncio.sleep(pause)
        finally:
            await scheduler.close_rpc()

    return attack, sent


def nanny_of(cluster):
    return next(iter(cluster.scheduler.workers.values())).nanny


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("reports of strangers", {}),
        ("reports of another protocol", {"protocol": 99}),
    ],
)
def test_what_strangers_report(cluster, tell, what, more):
    before = cluster.api("cluster")["n_incidents"]
    attack, sent = sender(cluster, lambda n: death("tcp://nobody:1", n, **more))
    alone, beside = cluster.beside(attack)
    refused = cluster.wait_for(
        lambda: [text for text in cluster.said() if "refused" in text], "a notice"
    )
    tell(
        f"{what}, as many as fit",
        f"{sent[0]:,} sent, {cluster.api('cluster')['n_incidents'] - before} believed; "
        f"200 tasks took {alone:.2f} s alone and {beside:.2f} s beside it; shown: "
        f"{refused[-1]}",
        cluster.api("cluster")["n_incidents"] == before and sent[0] > 10,
    )


def test_a_nanny_that_reports_deaths_without_end(cluster, tell):
    before = cluster.api("cluster")["n_incidents"]
    nanny = nanny_of(cluster)
    attack, sent = sender(cluster, lambda n: death(nanny, 10**6 + n))
    begun = time.monotonic()
    cluster.beside(attack)
    seconds = time.monotonic() - begun
    made = cluster.api("cluster")["n_incidents"] - before
    tell(
        "a known nanny reports deaths without end",
        f"{sent[0]:,} sent, {made} believed (30, and one a second)",
        made <= 31 + seconds and sent[0] > made,
    )


def test_reports_that_are_large(cluster, tell):
    nanny = nanny_of(cluster)
    time.sleep(5)  # so that its deaths are taken in again: one a second
    task = {
        "key": HOSTILE + "k" * 4_000_000,
        "digest": "",
        "prefix": "p",
        "thread": None,
        "seconds": 1.0,
        "bytes": None,
        "peak": None,
        "error": None,
        "method": "exact",
    }
    large = [
        death(nanny, 1, name="x" * 100 * MB),
        death(nanny, 2, executing=[task] * 25),
        death(nanny, 3, samples=[[1.0, 1]] * 1_000_000),
        death(nanny, 4, executing=[{**task, "key": "(" + "1," * 1_900 + ")"}] * 2_000),
    ]
    before = memory()
    longest = []

    async def send():
        scheduler = rpc(cluster.cluster.scheduler_address)
        for message in large:
            await scheduler.memdash_report(message=message)
        await scheduler.close_rpc()

    report = cluster.scheduler.handlers["memdash_report"]

    def timed(comm, message):
        begun = time.perf_counter()
        answer = report(comm, message)
        longest.append(time.perf_counter() - begun)
        return answer

    cluster.scheduler.handlers["memdash_report"] = timed
    try:
        cluster.client.sync(send)
    finally:
        cluster.scheduler.handlers["memdash_report"] = report
    large.clear()
    grown = (memory() - before) / MB
    tell(
        "reports of up to 100 MB",
        f"the loop was held {1000 * max(longest):.0f} ms at most by what is ours, "
        f"{grown:+.0f} MB kept",
        max(longest) < 0.25 and grown < 60,
    )


def test_a_death_of_the_future(cluster, tell):
    nanny = nanny_of(cluster)
    time.sleep(2)

    async def send():
        scheduler = rpc(cluster.cluster.scheduler_address)
        message = death(nanny, 77, died=time.time() + 10**8)
        await scheduler.memdash_report(message=message)
        await scheduler.close_rpc()

    cluster.client.sync(send)
    newest = cluster.api("incidents?limit=1")[0]
    tell(
        "a death of three years from now",
        f"an incident of {newest['time'] - time.time():+.1f} s from now",
        newest["worker"]["pid"] == 77 and abs(newest["time"] - time.time()) < 5,
    )


def test_events_that_a_client_logs(cluster, tell, caplog):
    before = cluster.api("cluster")["n_incidents"]
    worker = next(iter(cluster.scheduler.workers))
    messages = [
        {"action": "missing", "kind": "worker", "where": "{}", "text": HOSTILE},
        {"action": "lacks", "text": HOSTILE + "{}"},
        {"action": "memory-error", "worker": worker, "key": "{}", "text": "no"},
    ]
    caplog.clear()
    begun = time.perf_counter()

    async def send():
        scheduler = rpc(cluster.cluster.scheduler_address)
        for number in range(15_000):
            message = {
                name: value.replace("{}", str(number))
                for name, value in messages[number % 3].items()
            }
            await scheduler.log_event(topic="memdash", msg=message)
        await scheduler.log_event(
            topic="scheduler",
            msg={"action": "worker-ttl-timed-out", "workers": [worker]},
        )
        await scheduler.close_rpc()

    cluster.client.sync(send)
    seconds = time.perf_counter() - begun
    time.sleep(1)
    lines = [r for r in caplog.records if r.name == "dask_memdash"]
    made = cluster.api("cluster")["n_incidents"] - before
    tell(
        "15,000 events of a client",
        f"{seconds:.1f} s, {made} incidents, {len(lines)} log lines",
        made == 0 and len(lines) == 0,
    )
    assert not any("\x1b" in text for text in cluster.said())


def beats_with(change):
    """Return a function for a worker that makes its heartbeats hostile."""

    def turn(dask_worker):
        probe = dask_worker.extensions["memdash"]
        honest, beats = probe._report, [0]

        def report():
            beats[0] += 1
            return change(honest(), beats[0])

        probe._report = report  # which is packed then, as every heartbeat is

    return turn


def beats_as_before(dask_worker):
    del dask_worker.extensions["memdash"]._report


def new_prefixes(data, beat):
    data["rows"] = {f"p{beat}-{n}": [1, 1000, 0, 0] for n in range(1_900)}
    return data


def more_prefixes_than_allowed(data, beat):
    data["rows"] = {f"p{beat}-{n}": [1, 1000, 0, 0] for n in range(100_000)}
    return data


def a_text_of_20_megabytes(data, beat):
    data["notices"] = ["x" * 20 * 10**6] * 2
    return data


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("1,900 new prefixes each, of 10,000 that are kept", new_prefixes),
        ("100,000 new prefixes each", more_prefixes_than_allowed),
        ("two sentences of 20 MB each", a_text_of_20_megabytes),
    ],
)
def test_heartbeats_that_are_large(cluster, tell, what, change):
    extension = cluster.scheduler.extensions["memdash"]
    take, held, before = extension.heartbeat, [], memory()
    worker = next(iter(cluster.scheduler.workers))

    def timed(ws, data):
        begun = time.perf_counter()
        answer = take(ws, data)
        if ws.address == worker:
            held.append(time.perf_counter() - begun)
        return answer

    extension.heartbeat = timed
    cluster.client.run(beats_with(change), workers=[worker])
    try:
        cluster.wait_for(lambda: len(held) >= 20, "20 heartbeats", 120)
    finally:
        cluster.client.run(beats_as_before, workers=[worker])
        del extension.heartbeat
    longest, grown = max(held), (memory() - before) / MB
    kept = len(cluster.scheduler.plugins["memdash"].store.prefixes())
    tell(
        f"heartbeats with {what}",
        f"the loop was held {1000 * longest:.0f} ms at most by what is ours, "
        f"{grown:+.0f} MB kept; {kept:,} prefixes are known",
        longest < 0.25 and grown < 100 and kept <= 10_000,
    )
