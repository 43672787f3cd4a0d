"""The border for what arrives: who may speak, how much, how often, and what is said."""

from types import SimpleNamespace

import pytest
from builders import A, B, executing

from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_readers import to_dict
from dask_memdash.model.events import (
    DeathReported,
    MemoryErrorRaised,
    Noticed,
    SpillFailed,
    WorkerReported,
    WorkerSampled,
)
from dask_memdash.plugins.scheduler.inbound import Inbound
from dask_memdash.plugins.scheduler.refused import Refused
from dask_memdash.plugins.worker.packing import pack

T = 1_760_000_000.0
NANNY, OTHER_NANNY = "tcp://10.0.0.1:77", "tcp://10.0.0.2:77"

DEATH = {
    "kind": "death",
    "protocol": 2,
    "address": A,
    "nanny": NANNY,
    "pid": 17,
    "died": T,
    "sent": T,
    "code": None,
    "signal": 9,
    "by": "unknown",
    "asked": False,
    "closing": False,
    "reading": None,
    "executing": [],
    "samples": [[T - 1, 5]],
    "recorded": True,
}
SAMPLE = {
    "kind": "sample",
    "protocol": 2,
    "address": A,
    "nanny": NANNY,
    "pid": 17,
    "rss": 5,
    "reading": None,
    "executing": [],
}
HEARTBEAT = {
    "protocol": 2,
    "pid": 17,
    "reading": {"time": T, "rss": 5},
    "rows": None,
    "executing": [],
    "finished": {},
    "thresholds": {"target": None, "spill": None, "pause": None, "terminate": None},
    "method": "exact",
}


def comm(host):
    return SimpleNamespace(peer_address=f"tcp://{host}:40000")


def worker(address=A, nanny=NANNY, host="10.0.0.1"):
    memory = SimpleNamespace(unmanaged_old=3)
    return SimpleNamespace(
        address=address, nanny=nanny, host=host, memory=memory, processing=()
    )


class World:
    """A scheduler with two workers, whose clocks stand still until they are moved."""

    def __init__(self):
        self.now = 100.0
        one, two = worker(), worker(B, OTHER_NANNY, "10.0.0.2")
        self.scheduler = SimpleNamespace(
            workers={A: one, B: two}, tasks={}, stream_comms={}, _starting_nannies=set()
        )
        self.border = Inbound(self.scheduler, lambda: T, lambda: self.now)
        self.connect(A, "10.0.0.1")
        self.connect(B, "10.0.0.2")
        self.border.joined(one)
        self.border.joined(two)
        self.border.look()

    def connect(self, address, host):
        self.scheduler.stream_comms[address] = SimpleNamespace(comm=comm(host))

    @property
    def said(self):
        return [text for texts in self.border.texts().values() for text in texts]


@pytest.fixture
def world():
    return World()


# -- who -----------------------------------------------------------------------


def test_a_nanny_that_the_scheduler_knows_is_believed(world):
    death = world.border.report(DEATH, comm("10.0.0.1"))
    assert isinstance(death, DeathReported)
    assert (death.address, death.died, death.samples) == (A, T, ((T - 1, 5),))
    assert isinstance(world.border.report(SAMPLE, comm("10.0.0.1")), WorkerSampled)
    assert world.said == []


SECONDS = {
    "time": [T - 2, T - 1],
    "process": [500, 600],
    "parts": {"executing": [400, 500], "baseline": [100, 100]},
    "tasks": [
        {
            "key": "sum-1",
            "digest": "",
            "prefix": "sum",
            "tasks": 1,
            "begin": T - 3,
            "first": 0,
            "bytes": [400, None],
        }
    ],
    "others": [0, 500],
    "n_others": [0, 1],
}


def test_last_seconds_are_taken_in_with_a_death(world):
    death = world.border.report({**DEATH, "last_seconds": SECONDS}, comm("10.0.0.1"))
    assert death.last_seconds.process == (500, 600)
    assert death.last_seconds.tasks[0].bytes == (400, None)
    assert world.said == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"others": [0]}, "last seconds that contradict themselves"),
        ({"process": [500, 700]}, "last seconds that contradict themselves"),
        (
            {"process": [0] * 2000},
            "last seconds of more samples or tasks than any has",
        ),
        (
            {"tasks": SECONDS["tasks"] * 500},
            "last seconds of more samples or tasks than any has",
        ),
    ],
)
def test_a_death_counts_without_last_seconds_that_cannot_be(world, wrong, why):
    message = {**DEATH, "last_seconds": {**SECONDS, **wrong}}
    death = world.border.report(message, comm("10.0.0.1"))
    assert (death.died, death.last_seconds) == (T, None)
    assert len(world.said) == 1
    assert why in world.said[0]


@pytest.mark.parametrize("nanny", ["tcp://nobody:1", "", None, 7, ["x"], "x" * 10**6])
def test_a_stranger_is_not_believed(world, nanny):
    message = {**DEATH, "nanny": nanny}
    assert world.border.report(message, comm("10.6.6.6")) is None
    assert world.said == [
        "1 message of a stranger at 10.6.6.6 refused: the scheduler knows no such nanny"
    ]


def test_a_stranger_that_takes_a_nannys_name_is_not_believed(world):
    assert world.border.report(DEATH, comm("10.6.6.6")) is None
    assert world.said == [
        "1 message of a stranger at 10.6.6.6 refused: it came from another host than "
        "the nanny's"
    ]


def test_a_nanny_that_speaks_from_where_its_worker_does_is_believed(world):
    # A machine with two networks: it listens on one and calls by the other.
    there = worker("tcp://192.168.0.3:1", "tcp://192.168.0.3:77", "192.168.0.3")
    world.scheduler.workers[there.address] = there
    world.connect(there.address, "10.0.0.3")
    world.border.joined(there)
    world.border.look()
    message = {**DEATH, "nanny": there.nanny, "address": there.address}
    assert world.border.report(message, comm("10.0.0.3")) is not None
    assert world.border.report(message, comm("192.168.0.3")) is not None
    assert world.border.report(message, comm("10.0.0.9")) is None


def test_a_nanny_whose_first_worker_is_not_there_yet_is_known(world):
    new = "tcp://10.0.0.9:77"
    world.scheduler._starting_nannies.add(new)
    message = {**DEATH, "nanny": new, "address": ""}
    assert world.border.report(message, comm("10.0.0.9")) is not None


def test_a_nanny_is_known_for_ten_minutes_after_its_worker_was_removed(world):
    del world.scheduler.workers[A]
    world.border.left(A)
    world.now += 590
    world.border.look()
    assert world.border.report(DEATH, comm("10.0.0.1")) is not None
    world.now += 20
    world.border.look()
    assert world.border.report(DEATH, comm("10.0.0.1")) is None


def test_a_nanny_cannot_speak_of_anothers_worker(world):
    # A dead worker's address may be another's by now: its death counts without it.
    assert world.border.report({**DEATH, "address": B}, comm("10.0.0.1")).address == ""
    message = {**SAMPLE, "address": B}
    assert world.border.report(message, comm("10.0.0.1")) is None
    assert world.said == [
        f"1 message of nanny {NANNY} refused: it speaks of another nanny's worker"
    ]


# -- what ----------------------------------------------------------------------


@pytest.mark.parametrize("message", [None, 7, "text", [], {}, {"protocol": 99}])
def test_what_speaks_another_protocol_is_refused(world, message):
    assert world.border.report(message, comm("10.0.0.1")) is None
    assert not world.border.admits(worker(), message)
    assert len(world.said) == 2
    assert all("refused" in text for text in world.said)


def test_a_malformed_report_is_refused_and_counted(world):
    for _ in range(3):
        assert world.border.report({**DEATH, "pid": "x"}, comm("10.0.0.1")) is None
    assert world.said == [
        f"3 messages of nanny {NANNY} refused: DeathReported.pid is 'x'; it must be a "
        "whole number"
    ]


def test_a_report_of_100_megabytes_costs_nothing_and_keeps_nothing(world):
    for message in (
        {**DEATH, "executing": [to_dict(executing("k" * 10**8))]},
        {**DEATH, "samples": [[T, 1]] * 10**6},
        {**DEATH, "name": "x" * 10**8},
    ):
        assert world.border.report(message, comm("10.0.0.1")) is None
    assert len(world.said) == 3


def test_of_many_running_tasks_the_first_are_taken(world):
    tasks = [to_dict(executing(f"sum-{n}")) for n in range(1000)]
    event = world.border.heartbeat(worker(), {**HEARTBEAT, "executing": tasks}, T)
    assert isinstance(event, WorkerReported)
    assert [task.key for task in event.executing] == [f"sum-{n}" for n in range(256)]
    assert world.said == [f"1 message of worker {A} cut: more than 256 running tasks"]


def test_a_packed_heartbeat_is_cut_and_refused_like_a_plain_one(world):
    tasks = [to_dict(executing(f"sum-{n}")) for n in range(1000)]
    none = {"cpu": None, "bytes": None, "held_back": 0}
    room = {"max_spill": None, "disk_free": None, "shuffles_on_disk": None}
    more = {"executing": tasks, "cost": none, "nanny_cost": none, "spill_room": room}
    reading = to_dict(Reading(time=T, rss=5))
    packed = pack({**HEARTBEAT, **more, "reading": reading})
    assert "packed" in packed
    event = world.border.heartbeat(worker(), packed, T)
    assert [task.key for task in event.executing] == [f"sum-{n}" for n in range(256)]
    assert world.border.heartbeat(worker(), {**packed, "packed": b"short"}, T) is None
    assert world.said == [
        f"1 message of worker {A} cut: more than 256 running tasks",
        f"1 message of worker {A} refused: WorkerReported.packed is b'short'; it must "
        "be a run of numbers",
    ]


def test_a_heartbeat_that_says_nothing_is_no_event_and_no_fault(world):
    assert world.border.heartbeat(worker(), {"protocol": 2}, T) is None
    assert world.said == []


def test_long_keys_are_cut_and_many_long_keys_more(world):
    tasks = [to_dict(executing("k" * 3000, prefix="p" * 3000))]
    event = world.border.report({**DEATH, "executing": tasks}, comm("10.0.0.1"))
    assert [(len(t.key), len(t.prefix)) for t in event.executing] == [(1000, 1000)]
    event = world.border.report({**DEATH, "executing": tasks * 100}, comm("10.0.0.1"))
    assert {(len(t.key), len(t.prefix)) for t in event.executing} == {(100, 100)}


def test_a_death_of_the_future_is_one_of_now(world):
    event = world.border.report({**DEATH, "died": T + 10**6}, comm("10.0.0.1"))
    assert event.died == T
    assert world.said == [f"1 message of nanny {NANNY} cut: a death in the future"]


def test_a_death_of_long_ago_is_refused_and_old_samples_are_left_out(world):
    assert world.border.report({**DEATH, "died": T - 10**6}, comm("10.0.0.1")) is None
    samples = [[1.0, 1], [T - 2, 2], [T + 9, 3]]
    event = world.border.report({**DEATH, "samples": samples}, comm("10.0.0.1"))
    assert event.samples == ((T - 2, 2),)


def test_the_text_of_a_key_is_not_evaluated_where_it_is_long(world):
    tasks = [to_dict(executing("(" + "1," * 1900 + ")"))]
    event = world.border.report({**DEATH, "executing": tasks}, comm("10.0.0.1"))
    assert event.known == ()


def test_sentences_are_made_harmless_and_few(world):
    texts = ["a\x1b[31m\u202eb\x00", "x" * 10**6, *map(str, range(100))]
    event = world.border.heartbeat(worker(), {**HEARTBEAT, "notices": texts}, T)
    assert event.notices[0] == "a\ufffd[31m\ufffdb\ufffd"
    assert (len(event.notices), len(event.notices[1])) == (20, 500)
    event = world.border.heartbeat(worker(), {"protocol": 2, "notices": texts}, T)
    assert isinstance(event, Noticed)
    assert (len(event.texts), len(event.texts[1])) == (20, 500)


# -- how often -----------------------------------------------------------------


def test_a_thousand_reports_a_second_of_one_nanny_are_mostly_refused(world):
    taken = 0
    for n in range(10_000):
        world.now += 0.001
        message = {**DEATH, "pid": n}
        taken += world.border.report(message, comm("10.0.0.1")) is not None
    assert taken == 39  # 30 at once, and one a second
    assert world.said == [
        f"9,961 messages of nanny {NANNY} refused: more than 1 a second"
    ]
    # Its samples, and the other nanny, go on.
    assert world.border.report(SAMPLE, comm("10.0.0.1")) is not None
    other = {**DEATH, "nanny": OTHER_NANNY, "address": B}
    assert world.border.report(other, comm("10.0.0.2")) is not None


def test_a_worker_that_beats_as_dask_asks_is_never_refused(world):
    for _ in range(10_000):
        world.now += 0.25
        assert world.border.admits(worker(), HEARTBEAT)
    assert world.said == []


# -- events of our topic -------------------------------------------------------

TROUBLE = {
    "action": "memory-error",
    "key": "x",
    "prefix": "x",
    "text": "no",
    "worker": A,
}


def test_a_workers_trouble_is_believed_on_its_own_connection_only(world):
    with world.border.speaking(A):
        assert isinstance(world.border.trouble(TROUBLE), MemoryErrorRaised)
    with world.border.speaking(""):
        assert world.border.trouble(TROUBLE) is None
    with world.border.speaking("tcp://gone:1"):
        assert world.border.trouble({**TROUBLE, "worker": "tcp://gone:1"}) is None
    assert world.said == [
        "1 message of a client refused: an event that only workers may log",
        "1 message of worker tcp://gone:1 refused: an event that only workers may log",
    ]


def test_texts_of_a_trouble_are_cut(world):
    spill = {
        **TROUBLE,
        "action": "spill-failed",
        "reason": "disk-full",
        "size": 5,
        "text": "x" * 10**7,
    }
    with world.border.speaking(A):
        event = world.border.trouble({**spill, "key": "k" * 10**7})
    assert isinstance(event, SpillFailed)
    assert (len(event.key), len(event.text)) == (1000, 1000)


def test_a_nanny_may_say_what_it_lacks_if_it_is_known(world):
    missing = {"action": "missing", "kind": "nanny", "where": NANNY, "text": "no\x1bpe"}
    with world.border.speaking(""):
        assert world.border.degraded(missing) == (f"nanny {NANNY}", "no\ufffdpe")
        assert world.border.degraded({**missing, "where": "tcp://nobody:1"}) is None
        assert world.border.degraded({**missing, "kind": "worker"}) is None


def test_a_worker_is_known_by_its_connection_whatever_it_calls_itself(world):
    missing = {"action": "missing", "kind": "worker", "where": B, "text": "nope"}
    with world.border.speaking(A):
        assert world.border.degraded(missing) == (f"worker {A}", "nope")


def test_15_000_events_of_a_client_are_one_notice(world):
    with world.border.speaking(""):
        for n in range(15_000):
            world.border.degraded({"kind": "worker", "where": f"w{n}", "text": str(n)})
    assert world.said == [
        "15,000 messages of a client refused: an event that only workers may log"
    ]


@pytest.mark.parametrize(
    ("speaker", "topic", "believed"),
    [(A, A, True), (A, B, False), ("", "scheduler", False), ("", "all", False)],
)
def test_only_the_scheduler_speaks_for_the_scheduler(world, speaker, topic, believed):
    assert world.border.may_log("all")
    with world.border.speaking(speaker):
        assert world.border.may_log(topic) is believed
    assert world.border.may_log("all")


# -- questions -----------------------------------------------------------------


def test_a_clients_question_is_answered(world):
    assert world.border.question("incidents", {"limit": "3"}, comm("10.0.0.5")) is None


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        (7, {}),
        ("x" * 501, {}),
        ("incidents", None),
        ("incidents", {"limit": 3}),
        ("incidents", {"limit": "x" * 1001}),
        ("incidents", {str(n): "" for n in range(21)}),
    ],
)
def test_a_malformed_question_is_not(world, path, arguments):
    assert world.border.question(path, arguments, comm("10.0.0.5"))
    assert world.said[0].startswith("1 message of a client at 10.0.0.5 refused: ")


def test_a_client_that_asks_without_end_is_told_to_wait(world):
    answers = [world.border.question("incidents", {}, None) for _ in range(300)]
    assert answers.count(None) == 200
    assert answers[-1] == "too many questions; ask again in a second"


# -- the counts ----------------------------------------------------------------


def test_counts_are_bounded_whatever_arrives():
    refused = Refused()
    for n in range(5_000):
        refused.refuse(f"sender {n}\x1b" + "x" * 1000, f"reason {n % 50}", 0.0)
    texts = refused.texts(1.0)
    assert len(texts) == 51
    assert texts["other senders"][-1] == (
        "4,554 messages of other senders refused: for several other reasons"
    )
    assert max(len(text) for said in texts.values() for text in said) < 400
    assert "\x1b" not in "".join(texts)


def test_a_sender_is_shown_for_an_hour_after_its_last():
    refused = Refused()
    refused.refuse("a", "no", 0.0)
    refused.refuse("b", "no", 3000.0)
    assert list(refused.texts(3500.0)) == ["a", "b"]
    assert list(refused.texts(4000.0)) == ["b"]
