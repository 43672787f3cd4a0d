"""The rules on memory limits: each has a case where it speaks and one where not."""

from dataclasses import replace

import pytest
from builders import T0, MiB, added, died, removed, reported, row
from layouts import thresholds

from dask_memdash.analysis.incidents.describe import describe
from dask_memdash.analysis.limits.rules import (
    RULES,
    Headroom,
    contexts,
    headroom,
    judge,
)
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Thresholds
from dask_memdash.model.limit_facts import (
    Allocator,
    Cap,
    LimitFacts,
    LimitReport,
    LiveFigures,
    Scratch,
)
from dask_memdash.store.live import LiveStore

GiB = 1024 * MiB
HERE = "machine-1"
A, B = "tcp://10.0.0.1:1", "tcp://10.0.0.1:2"


def cap(kind="host", size=16 * GiB, used=None, **more):
    values = {
        "host": ("MemTotal", "/proc/meminfo", "kills", HERE),
        "cgroup": ("memory.max", "/sys/fs/cgroup/a/memory.max", "kills", "group a"),
        "rlimit": ("RLIMIT_AS", "/proc/7/limits", "fails", "process 7"),
        "batch": ("SLURM_MEM_PER_NODE", "environment", "declared", "slurm 1"),
    }[kind]
    names = ("name", "where", "effect", "scope")
    values = {**dict(zip(names, values, strict=True)), **more}
    return Cap(kind=kind, bytes=size, used=used, **values)


def facts(*caps, available=15 * GiB, live=None, **more):
    first = LiveFigures(available=available, **(live or {}))
    values = {"machine": HERE, "spills": True, **more}
    return LimitFacts(caps=(cap(), *caps), first=first, **values)


def worker(
    model, address=A, pid=7, limit=8 * GiB, known=None, rss=200 * MiB, live=None, **more
):
    """Add a worker that has reported once; give nothing."""
    known = facts() if known is None else known
    nanny = more.pop("nanny", True)
    marks = more.pop("thresholds", thresholds(limit))
    model.handle(added(address, pid, limit=limit, nanny=nanny))
    model.handle(
        reported(
            address,
            pid,
            rss=rss,
            thresholds=marks,
            limits=LimitReport(live or known.first, known),
            **more,
        )
    )


def judged(model, address=A):
    found = contexts(model.processes, model.incidents, model.time)
    return judge({w.info.address: context for w, context in found}[address])


def one(**values):
    model = ClusterModel()
    worker(model, **values)
    return judged(model)


def names(verdicts):
    return [v.verdict for v in verdicts]


def only(verdicts):
    (verdict,) = verdicts
    return verdict


def test_a_worker_with_room_to_spare_is_all_right():
    assert one() == []


def test_every_rule_is_in_the_list():
    assert len(RULES) == len(set(RULES)) == 14


# -- caps and budgets --------------------------------------------------------------


def test_a_limit_above_what_was_available_is_too_high():
    verdict = only(one(limit=16 * GiB, known=facts(available=15 * GiB + 100 * MiB)))
    assert (verdict.verdict, verdict.severity) == ("too-high", "warning")
    assert verdict.text == (
        "The limit of worker 0 is 16 GiB, and only 15.3 GiB were available when "
        "MemDash first looked, the worker's own memory included: Dask ends no worker "
        "below 15.2 GiB."
    )
    assert verdict.advice == "Start the worker with --memory-limit 15660MiB."
    assert verdict.numbers["budget"] == 15 * GiB + 300 * MiB


def test_it_is_bad_where_dask_would_end_it_too_late():
    verdict = only(one(limit=16 * GiB, known=facts(available=12 * GiB)))
    assert verdict.severity == "bad"
    assert "the kernel kills before Dask terminates" in verdict.text


def test_it_is_bad_where_dask_would_even_spill_too_late():
    verdict = only(one(limit=16 * GiB, known=facts(available=10 * GiB)))
    assert "the kernel kills before Dask spills" in verdict.text


def test_without_a_nanny_the_limit_itself_is_what_counts():
    marks = replace(thresholds(16 * GiB), terminate=None)
    verdict = one(limit=16 * GiB, nanny=False, thresholds=marks)[0]
    assert (verdict.verdict, verdict.severity) == ("too-high", "bad")


def test_limits_of_all_workers_of_a_machine_are_summed_up():
    model = ClusterModel()
    worker(model, A, 7, limit=9 * GiB)
    worker(model, B, 8, limit=9 * GiB)
    verdict = only(judged(model))
    assert verdict.verdict == "too-high"
    assert "The limits of the 2 workers on this machine sum to 18 GiB" in (verdict.text)
    # 15 GiB and what both held when the second one was looked at, in halves
    assert verdict.advice == "Start each worker here with --memory-limit 7880MiB."


def test_workers_in_containers_of_one_machine_are_counted_together():
    model = ClusterModel()
    for number in (1, 2):
        address, pid = f"tcp://172.17.0.{number}:1", 1
        model.handle(added(address, pid, host=f"172.17.0.{number}", limit=9 * GiB))
        own = cap("cgroup", 10 * GiB, scope=f"group {number}")
        report = LimitReport(LiveFigures(), facts(own))
        model.handle(
            reported(
                address, pid, rss=MiB, thresholds=thresholds(9 * GiB), limits=report
            )
        )
    assert names(judged(model, "tcp://172.17.0.1:1")) == ["too-high"]


def test_what_is_available_wobbles_by_two_percent():
    assert one(limit=15 * GiB + 400 * MiB) == []


def test_workers_of_a_cgroup_that_sum_to_more_than_it():
    group = cap("cgroup", 4 * GiB)
    model = ClusterModel()
    worker(model, A, 7, limit=3 * GiB, known=facts(group))
    worker(model, B, 8, limit=3 * GiB, known=facts(group))
    verdict = only(judged(model))
    assert verdict.text == (
        "The limits of the 2 workers in /sys/fs/cgroup/a sum to 6 GiB, and its "
        "cgroup has 4 GiB (memory.max): the kernel kills before Dask spills."
    )
    assert verdict.advice == "Start each worker here with --memory-limit 2048MiB."


def test_a_cgroup_below_the_limit_is_not_seen():
    verdict = only(one(known=facts(cap("cgroup", 4 * GiB), dask=16 * GiB)))
    assert (verdict.verdict, verdict.severity) == ("not-seen", "bad")
    assert verdict.text == (
        "Worker 0 has a limit of 8 GiB, but its cgroup allows only 4 GiB (memory.max "
        "in /sys/fs/cgroup/a/memory.max): the kernel kills it before Dask acts. Dask "
        "assumes 16 GiB for this machine."
    )
    assert verdict.advice == "Start the worker with --memory-limit 4096MiB."


def test_what_a_batch_system_was_asked_for_is_only_a_warning():
    verdict = only(one(known=facts(cap("batch", 4 * GiB))))
    assert (verdict.verdict, verdict.severity) == ("not-seen", "warning")
    assert "the batch system may end it before Dask acts" in verdict.text


def test_an_address_space_limit_counts_what_is_mapped_and_never_used():
    known = facts(cap("rlimit", 4 * GiB, used=GiB + 200 * MiB))
    verdict = only(one(known=known))
    assert "its allocations fail with MemoryError" in verdict.text
    assert verdict.advice == "Start the worker with --memory-limit 3072MiB."


def test_a_cgroup_that_is_reached_before_dask_terminates():
    known = facts(cap("cgroup", GiB, used=300 * MiB))
    verdict = only(one(limit=GiB, known=known))
    assert (verdict.verdict, verdict.severity) == ("thresholds", "bad")
    assert "others than the workers use 100 MiB of it" in verdict.text
    assert verdict.advice == "Start the worker with --memory-limit 924MiB."


def test_memory_that_neighbours_held_at_first_is_not_taken_for_others():
    """A worker that comes back finds its neighbour with gigabytes of data."""
    group = cap("cgroup", 8 * GiB, used=3 * GiB + 300 * MiB)
    model = ClusterModel()
    worker(model, A, 7, limit=4 * GiB, known=facts(group), rss=3 * GiB)
    worker(model, B, 8, limit=4 * GiB, known=facts(group))
    (_, context), _ = contexts(model.processes, model.incidents, model.time)
    (pool,) = [r for r in context.pools if r.cap.kind == "cgroup"]
    assert pool.others == 100 * MiB


def test_without_a_limit_the_least_cap_is_named():
    verdict = only(one(limit=None, known=facts(cap("cgroup", 4 * GiB))))
    assert verdict.verdict == "no-limit"
    assert "the kernel kills it at 4 GiB (memory.max)" in verdict.text


def test_nothing_is_said_before_the_first_report():
    model = ClusterModel()
    model.handle(added(limit=2**60))
    assert judged(model, "tcp://10.0.0.1:1") == []


# -- the kernel before Dask --------------------------------------------------------


def near_kill(used, rss, **more):
    known = facts(cap("cgroup", 4 * GiB))
    live = LiveFigures(available=9 * GiB, cgroup_used=used)
    return one(limit=4 * GiB, known=known, live=live, rss=rss, **more)


def test_a_cgroup_nearly_full_beside_a_worker_that_is_not():
    verdict = near_kill(used=3800 * MiB, rss=GiB)[0]
    assert (verdict.verdict, verdict.severity) == ("kernel-first", "bad")
    assert "Its cgroup uses 3.71 GiB of 4 GiB, and the worker itself 1 GiB" in (
        verdict.text
    )


def test_a_large_cgroup_may_be_fuller_before_it_is_a_matter():
    known = facts(cap("cgroup", 14 * GiB))
    live = LiveFigures(available=9 * GiB, cgroup_used=14 * GiB - 1025 * MiB)
    assert one(known=known, live=live) == []
    live = LiveFigures(available=9 * GiB, cgroup_used=14 * GiB - 1024 * MiB)
    assert names(one(known=known, live=live)) == ["kernel-first"]


def test_a_worker_that_fills_its_cgroup_itself_is_dasks_to_deal_with():
    assert near_kill(used=3800 * MiB, rss=3700 * MiB) == []


def test_a_cgroup_with_room_is_no_matter():
    assert near_kill(used=3 * GiB, rss=GiB) == []


def test_a_group_that_only_slows_down_kills_nobody():
    known = facts(cap("cgroup", 4 * GiB, name="memory.high", effect="throttles"))
    live = LiveFigures(available=9 * GiB, cgroup_used=3900 * MiB)
    assert one(limit=4 * GiB, known=known, live=live, rss=GiB) == []


def test_a_machine_that_runs_out_kills_too():
    verdict = one(live=LiveFigures(available=500 * MiB))[0]
    assert verdict.verdict == "kernel-first"
    assert "Its machine uses 15.5 GiB of 16 GiB" in verdict.text


# -- surroundings ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "words", "severity"),
    [
        (Thresholds(60, 85, 80, 95), "pause threshold (80 B) below spill", "warning"),
        (Thresholds(60, 70, 90, 85), "terminate threshold (85 B) below", "warning"),
        (Thresholds(80, 70, 85, 95), "spill threshold (70 B) below target", "hint"),
        (Thresholds(None, 70, 80, 95), "has target off", "hint"),
        (Thresholds(60, 70, 80, None), "has terminate off", "hint"),
    ],
)
def test_thresholds_that_cannot_work(marks, words, severity):
    verdict = only(one(thresholds=marks))
    assert (verdict.verdict, verdict.severity) == ("thresholds", severity)
    assert words in verdict.text


def test_terminate_off_is_nothing_to_speak_of_without_a_nanny():
    assert one(thresholds=Thresholds(60, 70, 80, None), nanny=False) == []


STORES = {
    "rows": {"open": row(5 * GiB)},
    "rss": 6 * GiB,
}


def test_spilling_off_with_much_stored():
    marks = Thresholds(None, None, 80, 95)
    verdict = only(one(thresholds=marks, known=facts(spills=False), **STORES))
    assert (verdict.verdict, verdict.severity) == ("spill-off", "bad")
    assert "stores 5 GiB of outputs in a limit of 8 GiB" in verdict.text


def test_spilling_is_off_by_thresholds_or_by_what_holds_the_data():
    marks = Thresholds(None, None, 80, 95)
    assert names(one(thresholds=marks, **STORES)) == ["spill-off"]
    assert names(one(known=facts(spills=False), **STORES)) == ["spill-off"]
    assert one(**STORES) == []
    assert one(known=facts(spills=None), **STORES) == []


def test_spilling_off_with_little_stored_is_a_choice():
    assert one(
        thresholds=Thresholds(None, None, 80, 95), known=facts(spills=False)
    ) == ([])


def test_a_scratch_directory_in_memory():
    known = facts(scratch=Scratch("/dev/shm/dask", "tmpfs", 8 * GiB, 8 * GiB))
    verdict = only(one(known=known))
    assert (verdict.verdict, verdict.severity) == ("scratch", "bad")
    assert "/dev/shm/dask, which is a tmpfs" in verdict.text


@pytest.mark.parametrize(
    ("free", "expected"),
    [(5 * GiB, []), (3 * GiB, ["warning"]), (300 * MiB, ["bad"])],
)
def test_a_scratch_directory_nearly_full(free, expected):
    known = facts(scratch=Scratch("/tmp", "ext4", 99 * GiB, 90 * GiB))
    live = LiveFigures(available=9 * GiB, scratch_free=free)
    assert [v.severity for v in one(known=known, live=live)] == expected


def test_space_that_is_not_known_is_not_judged():
    assert one(known=facts(scratch=Scratch("/lustre/x", "lustre"))) == []


def test_swapped_out_memory():
    verdict = only(one(live=LiveFigures(available=9 * GiB, swapped=300 * MiB)))
    assert verdict.verdict == "swap"
    assert "300 MiB of worker 0 are swapped out" in verdict.text
    assert one(live=LiveFigures(available=9 * GiB, swapped=10 * MiB)) == []


def test_pressure():
    verdict = only(one(live=LiveFigures(available=9 * GiB, pressure=31.4)))
    assert verdict.verdict == "pressure"
    assert "spent 31 % of the last ten seconds" in verdict.text
    assert one(live=LiveFigures(available=9 * GiB, pressure=2.0)) == []


def test_an_allocator_that_keeps_memory():
    known = facts(allocator=Allocator(name="glibc"))
    assert only(one(known=known)).severity == "hint"
    keeps = one(known=known, rss=2 * GiB, reading={"free": GiB, "base": 100 * MiB})
    assert only(keeps).severity == "warning"
    assert "keeps up to 1.9 GiB now" not in only(keeps).text
    assert "keeps up to 1 GiB now" in only(keeps).text


@pytest.mark.parametrize(
    "allocator",
    [Allocator(65536, None, "glibc"), Allocator(name="jemalloc"), Allocator()],
)
def test_an_allocator_that_gives_back_or_is_not_known(allocator):
    assert one(known=facts(allocator=allocator)) == []


SPILLS = {"rows": {"open": row(GiB, 2 * GiB)}, "rss": 2 * GiB}


def test_spilling_beside_unused_memory_is_too_low():
    reading = {"spilled": 2 * GiB, "spilled_disk": GiB}
    live = LiveFigures(available=12 * GiB)
    verdict = only(one(limit=3 * GiB, live=live, reading=reading, **SPILLS))
    assert (verdict.verdict, verdict.severity) == ("too-low", "warning")
    assert "has spilled 2 GiB while" in verdict.text
    assert verdict.advice == "Start the worker with --memory-limit 7509MiB."
    assert verdict.numbers["spare"] == 12 * GiB  # 13 by the machine's total


def test_what_would_fit_into_the_limit_now_makes_it_no_smaller():
    reading = {"spilled": 100 * MiB, "spilled_disk": 100 * MiB}
    spills = {"rows": {"open": row(GiB, 100 * MiB)}, "rss": GiB}
    live = LiveFigures(available=12 * GiB)
    assert one(limit=3 * GiB, live=live, reading=reading, **spills) == []


def test_workers_of_one_process_are_all_named():
    model = ClusterModel()
    for number, address in enumerate((A, B)):
        reading = {"spilled": 2 * GiB * number, "spilled_disk": GiB * number}
        rows = {"open": row(GiB, 2 * GiB)} if number else {}
        worker(
            model,
            address,
            7,
            limit=3 * GiB,
            rss=2 * GiB,
            rows=rows,
            reading=reading,
            live=LiveFigures(available=12 * GiB),
        )
    texts = {
        verdict.text
        for _, context in contexts(model.processes, (), T0)
        for verdict in judge(context)
    }
    (text,) = texts
    named = " and ".join(w.info.name for w in model.processes.workers.values())
    assert text.startswith(f"The process of workers {named} has spilled 2 GiB while")


def test_spilling_with_nothing_unused_is_what_spilling_is_for():
    reading = {"spilled": 2 * GiB, "spilled_disk": GiB}
    assert one(limit=15 * GiB, reading=reading, **SPILLS) == []
    live = LiveFigures(available=GiB)
    assert one(limit=5 * GiB, live=live, reading=reading, **SPILLS) == []


def test_a_protection_that_dask_takes_for_a_limit():
    known = facts(cap("cgroup", 8 * GiB), dask=2 * GiB, set_by="auto")
    verdict = only(one(limit=2 * GiB, known=known))
    assert (verdict.verdict, verdict.severity) == ("too-low", "warning")
    assert "Dask takes this machine for 2 GiB" in verdict.text
    assert "its cgroup allows 8 GiB (memory.max)" in verdict.text
    chosen = replace(known, set_by="given")
    assert one(limit=2 * GiB, known=chosen) == []


def test_a_death_beside_unused_memory_is_unbalanced():
    model = ClusterModel()
    worker(model, A, 7, limit=4 * GiB, rss=GiB)
    worker(model, B, 8, limit=4 * GiB, rss=3900 * MiB)
    worker(model, "tcp://10.0.0.1:3", 9, limit=4 * GiB, rss=500 * MiB)
    model.handle(removed(B, T0 + 10))
    model.handle(died(B, 8, T0 + 10.1, signal=15, by="nanny"))
    verdict = only(judged(model))
    assert (verdict.verdict, verdict.severity) == ("unbalanced", "warning")
    assert "When worker 0 ran out of its 4 GiB (incident #1), 2 neighbours" in (
        verdict.text
    )
    assert "--nworkers 1 --nthreads 4 --memory-limit 8192MiB" in verdict.advice
    assert verdict.numbers["spare"] == 8 * GiB - GiB - 500 * MiB


def test_a_death_among_full_neighbours_is_not():
    model = ClusterModel()
    worker(model, A, 7, limit=4 * GiB, rss=3 * GiB)
    worker(model, B, 8, limit=4 * GiB, rss=3900 * MiB)
    model.handle(removed(B, T0 + 10))
    model.handle(died(B, 8, T0 + 10.1, signal=15, by="nanny"))
    assert judged(model) == []


# -- order, and headroom -----------------------------------------------------------


def test_the_worst_comes_first():
    known = facts(
        cap("cgroup", 4 * GiB),
        allocator=Allocator(name="glibc"),
        scratch=Scratch("/tmp", "tmpfs"),
    )
    live = LiveFigures(available=9 * GiB, pressure=50.0)
    found = one(known=known, live=live)
    assert names(found) == ["not-seen", "scratch", "pressure", "allocator"]
    assert [v.severity for v in found] == ["bad", "bad", "warning", "hint"]


def growing(rate, limit=4 * GiB, points=11):
    model = ClusterModel()
    worker(model, limit=limit, rss=GiB)
    for second in range(1, points):
        model.handle(
            reported(
                A, 7, T0 + 1 + second, GiB + second * rate, thresholds=Thresholds()
            )
        )
    ((_, context),) = contexts(model.processes, model.incidents, model.time)
    return headroom(context)


def test_headroom_is_what_is_left_over_the_slope():
    assert growing(100 * MiB) == Headroom(
        bytes=4 * GiB - GiB - 1000 * MiB, slope=100 * MiB, seconds=20.7
    )


def test_a_worker_that_does_not_grow_has_no_end_in_sight():
    assert growing(0) == Headroom(3 * GiB, 0, None)
    assert growing(-MiB).seconds is None


def test_an_end_more_than_an_hour_away_is_not_spoken_of():
    assert growing(1000) == Headroom(3 * GiB - 10_000, 1000, None)


def test_a_few_points_are_no_slope():
    assert growing(100 * MiB, points=3) == Headroom(3 * GiB - 200 * MiB, None, None)


def test_without_a_limit_there_is_no_headroom():
    assert growing(MiB, limit=None) == Headroom(None, MiB, None)


# -- the incident ------------------------------------------------------------------


def look(model, second, used, rss=GiB):
    """Let a worker of 4 GiB in a cgroup of 4 GiB report what its cgroup uses."""
    live = LiveFigures(available=9 * GiB, cgroup_used=used)
    marks = thresholds(4 * GiB)
    report = LimitReport(live)
    model.handle(reported(A, 7, T0 + second, rss=rss, thresholds=marks, limits=report))


@pytest.fixture
def near():
    """Return the model of a worker of 4 GiB in a cgroup of 4 GiB."""
    model = ClusterModel()
    worker(model, limit=4 * GiB, known=facts(cap("cgroup", 4 * GiB)), rss=GiB)
    return model


def test_a_worker_about_to_be_killed_by_the_kernel_is_an_incident(near):
    look(near, 10, 3900 * MiB)
    (incident,) = near.incidents
    assert (incident.kind, incident.time) == ("kernel-near", T0 + 10)
    assert incident.detail == "its cgroup used 3,900 of 4,096 MiB"
    assert describe(incident) == (
        "The kernel was about to kill worker 0: its cgroup used 3,900 of 4,096 MiB, "
        "and the worker itself 1 GiB of 4 GiB (25 %), too little for Dask to "
        "spill, pause or terminate it."
    )


def test_live_figures_without_facts_are_no_danger():
    model = ClusterModel()
    model.handle(added(A, 7, limit=4 * GiB))
    look(model, 10, 3900 * MiB)
    assert len(model.incidents) == 0


def test_it_is_one_incident_as_long_as_the_danger_lasts(near):
    for second in (10, 15, 400):  # figures come only when they change
        look(near, second, 3900 * MiB + second * MiB // 10)
    (incident,) = near.incidents
    assert (incident.time, incident.until) == (T0 + 10, T0 + 400)


def test_a_short_relief_does_not_end_it(near):
    look(near, 10, 3900 * MiB)
    look(near, 15, 3000 * MiB)
    look(near, 20, 3900 * MiB)
    assert len(near.incidents) == 1


def test_a_danger_that_comes_back_later_is_another_one(near):
    look(near, 10, 3900 * MiB)
    look(near, 100, 3000 * MiB)
    look(near, 200, 3900 * MiB)
    assert [i.kind for i in near.incidents] == ["kernel-near", "kernel-near"]


def test_a_worker_that_fills_its_cgroup_itself_is_no_such_incident(near):
    look(near, 10, 3900 * MiB, rss=3800 * MiB)
    assert len(near.incidents) == 0


def test_its_cause_is_the_limit(near):
    look(near, 10, 3900 * MiB)
    store = LiveStore(near)
    details = store.incident("1")
    assert details["diagnosis"]["cause"] == "overcommitted"
    assert details["diagnosis"]["relief"] == "limit-above-memory"
    assert "dask memdash limits" in details["diagnosis"]["advice"][0]
    assert "Its cgroup used 3,900 of 4,096 MiB" in details["findings"][0]["text"]
