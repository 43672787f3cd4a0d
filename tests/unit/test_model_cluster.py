"""The model of the cluster: sums that hold whatever comes in, in whatever order."""

import pytest
from builders import (
    T0,
    A,
    B,
    C,
    MiB,
    added,
    check_invariants,
    died,
    executing,
    finished,
    info,
    killed,
    removed,
    reported,
    row,
    sampled,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dask_memdash.model import prefixes
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import ChildRow, Held, Thresholds
from dask_memdash.model.events import (
    GraphArrived,
    Noticed,
    StorageHeld,
    Ticked,
    WorkerClosing,
    WorkersRestarting,
    WorkerStatusChanged,
)

T = 1_760_000_000.0

# -- any events in any order ---------------------------------------------------

sizes = st.integers(0, 2**40)
maybe = st.none() | sizes
addresses = st.sampled_from([A, B, C])
pids = st.integers(1, 3)
names = st.sampled_from(["sum", "open", "x"])
rows = st.dictionaries(
    names, st.builds(row, sizes, st.just(0) | sizes, st.integers(1, 9))
)
tasks = st.lists(
    st.builds(
        executing,
        st.sampled_from(["sum-1", "sum-2", "open-1", "x-1"]),
        maybe,
        error=maybe,
    ),
    max_size=3,
).map(tuple)
reading_parts = st.fixed_dictionaries(
    {},
    optional={
        "managed_claimed": sizes,
        "incoming": sizes,
        "shuffle": sizes,
        "free": maybe,
        "base": maybe,
        "live": sizes,
        "busy": st.booleans(),
        "spilled": maybe,
        "spilled_disk": maybe,
        "inputs": maybe,
        "unmanaged_old": maybe,
    },
)
held = st.dictionaries(
    names,
    st.builds(
        Held,
        sizes,
        sizes,
        st.dictionaries(names, sizes, max_size=2),
        sizes,
        st.integers(0, 3),
    ),
)


class Cluster(RuleBasedStateMachine):
    """A cluster in which everything happens at any time."""

    def __init__(self):
        super().__init__()
        self.model = ClusterModel(history_points=20, incidents_keep=5)
        self.now = T

    def handle(self, make, *args, **kwargs):
        self.now += 0.4
        self.model.handle(make(*args, time=self.now, **kwargs))

    @rule(address=addresses, pid=pids, host=st.sampled_from(["h1", "h2"]))
    def add(self, address, pid, host):
        self.handle(added, address, pid, host=host)

    @rule(
        address=addresses,
        pid=pids,
        rss=sizes,
        rows=st.none() | rows,
        reading=reading_parts,
        tasks=tasks,
        done=st.dictionaries(names, st.lists(sizes, max_size=2)),
    )
    def report(self, address, pid, rss, rows, reading, tasks, done):
        self.handle(
            reported,
            address,
            pid,
            rss=rss,
            rows=rows,
            reading=reading,
            executing=tasks,
            finished={n: finished(*p, outputs=p) for n, p in done.items()},
        )

    @rule(address=addresses, rss=sizes, rows=rows, tasks=tasks)
    def report_of_the_right_process(self, address, rss, rows, tasks):
        worker = self.model.processes.workers.get(address)
        if worker is not None:
            pid = worker.info.pid
            self.handle(reported, address, pid, rss=rss, rows=rows, executing=tasks)

    @rule(address=addresses, pid=pids, rss=sizes, tasks=tasks)
    def sample(self, address, pid, rss, tasks):
        self.handle(sampled, address, pid, rss=rss, executing=tasks)

    @rule(address=addresses, expected=st.booleans())
    def remove(self, address, expected):
        self.handle(removed, address, expected=expected)

    @rule(address=addresses, held=held)
    def hold(self, address, held):
        self.handle(StorageHeld, address=address, held=held)

    @rule(
        address=addresses,
        pid=pids,
        asked=st.booleans(),
        closing=st.booleans(),
        tasks=tasks,
    )
    def die(self, address, pid, asked, closing, tasks):
        self.handle(died, address, pid, asked=asked, closing=closing, executing=tasks)

    @rule(address=addresses)
    def kill(self, address):
        self.handle(killed, "sum-1", address)

    @rule(address=addresses, status=st.sampled_from(["paused", "running", "closing"]))
    def change_status(self, address, status):
        self.handle(WorkerStatusChanged, address=address, status=status)

    @rule(address=addresses, reason=st.sampled_from(["nanny-close", "x-fail-hard"]))
    def close(self, address, reason):
        self.handle(WorkerClosing, address=address, reason=reason)

    @rule()
    def restart(self):
        self.handle(WorkersRestarting)

    @rule()
    def tick(self):
        self.handle(Ticked)

    @invariant()
    def sums_hold(self):
        check_invariants(self.model)
        assert len(self.model.incidents) <= 5

    def teardown(self):
        for address in (A, B, C):
            self.handle(removed, address)
        check_invariants(self.model)
        for state in self.model.prefixes.by_name.values():
            assert (state.managed, state.claimed, state.spilled, state.count) == (
                0,
            ) * 4
            assert (state.running, state.executing, state.awaited_by) == (0, 0, {})
        assert self.model.processes.by_key == {}


QUICK = settings(max_examples=60, stateful_step_count=30)


def test_sums_hold_whatever_happens_in_whatever_order():
    run_state_machine_as_test(Cluster, settings=QUICK)


def test_sums_hold_while_idle_prefixes_are_forgotten(monkeypatch):
    monkeypatch.setattr(prefixes, "MAX_PREFIXES", 1)
    run_state_machine_as_test(Cluster, settings=QUICK)


# -- workers -------------------------------------------------------------------


def feed(model, *events):
    for event in events:
        model.handle(event)


def total(model):
    whole = model.processes.total
    return whole.process, whole.managed, whole.executing, whole.baseline


def test_the_cluster_is_the_sum_of_its_workers(model):
    feed(
        model,
        added(A, 1),
        added(B, 2, host="10.0.0.2"),
        reported(A, 1, rss=100, rows={"sum": row(60)}),
        reported(B, 2, rss=50, reading={"base": 10, "busy": True, "live": 40}),
    )
    assert total(model) == (150, 60, 40, 50)
    assert model.prefixes.by_name["sum"].managed == 60


def test_a_process_that_workers_share_is_counted_once(model):
    feed(
        model,
        added(A, 1),
        added(B, 1),
        reported(A, 1, rss=100, rows={"sum": row(30)}),
        reported(B, 1, time=T + 2, rss=110, rows={"sum": row(10), "open": row(20)}),
    )
    assert total(model) == (110, 60, 0, 50)
    assert len(model.processes.by_key) == 1
    managed = {n: s.managed for n, s in model.prefixes.by_name.items()}
    assert managed == {"sum": 40, "open": 20}


def test_managed_bytes_follow_what_is_resident_while_the_storage_stays(model):
    stored = {"sum": row(30), "open": row(10)}
    feed(model, added(A, 1), reported(A, 1, rss=100, rows=stored))
    for rss, expected in ((20, {"sum": 15, "open": 5}), (90, {"sum": 30, "open": 10})):
        feed(model, reported(A, 1, time=T + rss, rss=rss))
        prefixes = model.prefixes.by_name
        assert {name: prefixes[name].managed for name in stored} == expected
        assert total(model)[:2] == (rss, sum(expected.values()))


def test_the_same_pid_on_another_host_is_another_process(model):
    feed(
        model,
        added(A, 1),
        added(B, 1, host="10.0.0.2"),
        reported(A, 1, rss=100),
        reported(B, 1, rss=110),
    )
    assert total(model)[0] == 210


def test_a_shared_process_stays_until_its_last_worker_leaves(model):
    feed(
        model,
        added(A, 1),
        added(B, 1),
        reported(A, 1, rss=100, rows={"sum": row(30)}),
        reported(B, 1, time=T + 2, rss=100, rows={"sum": row(10)}),
        removed(A),
    )
    assert total(model) == (100, 10, 0, 90)
    feed(model, removed(B))
    assert total(model) == (0, 0, 0, 0)
    assert model.prefixes.by_name["sum"].managed == 0


def test_prefixes_are_scaled_to_what_is_resident(model):
    rows = {"sum": row(300, keys=3), "open": row(100, keys=1)}
    feed(model, added(), reported(rss=200, rows=rows))
    managed = {n: s.managed for n, s in model.prefixes.by_name.items()}
    claimed = {n: s.claimed for n, s in model.prefixes.by_name.items()}
    assert managed == {"sum": 150, "open": 50}
    assert claimed == {"sum": 300, "open": 100}


def test_rows_that_are_not_sent_are_as_they_were(model):
    feed(
        model,
        added(),
        reported(rss=500, rows={"sum": row(300, 40)}),
        reported(time=T + 2, rss=600, rows=None),
    )
    state = model.prefixes.by_name["sum"]
    assert (state.managed, state.spilled, state.spilled_disk) == (300, 40, 20)
    feed(model, reported(time=T + 3, rss=600, rows={}))
    assert (state.managed, state.spilled, state.count) == (0, 0, 0)


def test_a_worker_that_comes_back_with_another_pid_starts_afresh(model):
    feed(
        model,
        added(A, 1),
        reported(A, 1, rss=100, rows={"sum": row(60)}, executing=(executing(),)),
        added(A, 2, time=T + 5),
    )
    assert total(model) == (0, 0, 0, 0)
    feed(model, reported(A, 1, time=T + 6, rss=999))
    assert total(model)[0] == 0, "a late report of the former process"
    feed(model, reported(A, 2, time=T + 7, rss=70))
    assert total(model)[0] == 70
    assert model.prefixes.by_name["sum"].running == 0


def test_what_unknown_workers_say_changes_nothing(model):
    feed(
        model,
        reported(B),
        sampled(B),
        removed(B),
        killed(address=B),
        WorkerStatusChanged(T, B, "paused"),
        WorkerClosing(T, B, "x"),
        StorageHeld(T, B, {"sum": Held(1, 2, {})}),
    )
    assert model.prefixes.by_name == {}
    assert len(model.incidents) == 0
    assert model.processes.workers == {}
    assert model.version == 7


def test_a_report_brings_thresholds_method_and_notices(model):
    feed(
        model,
        added(),
        reported(thresholds=Thresholds(spill=5), notices=("one",), time=T + 3),
    )
    worker = model.processes.workers[A]
    assert worker.thresholds == Thresholds(None, 5, None, None)
    assert (worker.method, worker.notices, worker.last_seen) == (
        "estimated",
        ("one",),
        T + 3,
    )


def test_finished_tasks_add_to_their_prefix(model):
    feed(
        model,
        added(),
        reported(finished={"sum": finished(1000, 5000, outputs=[10], errors=[1, 2])}),
        reported(time=T + 2, finished={"sum": finished(9000)}),
    )
    state = model.prefixes.by_name["sum"]
    assert (state.finished, state.peaks.max, state.outputs.max) == (3, 9000, 10)
    assert state.method == "estimated"


def test_idle_prefixes_make_room_for_new_ones(model, monkeypatch):
    monkeypatch.setattr(prefixes, "MAX_PREFIXES", 2)
    feed(
        model,
        added(),
        reported(rows={"a": row(1), "b": row(2)}),
        reported(time=T + 2, rows={"b": row(2)}),
        reported(time=T + 3, rows={"b": row(2), "c": row(3)}),
    )
    assert sorted(model.prefixes.by_name) == ["b", "c"]


def test_a_prefix_of_which_replicas_are_known_is_not_forgotten(model, monkeypatch):
    monkeypatch.setattr(prefixes, "MAX_PREFIXES", 1)
    feed(
        model,
        added(),
        StorageHeld(T, A, {"sum": Held(0, 0, {}, 4, 1)}),
        reported(rows={"open": row(1)}),
        StorageHeld(T, A, {}),
    )
    assert model.prefixes.by_name["sum"].replicas == 0


# -- samples -------------------------------------------------------------------


def test_a_sample_brings_rss_and_tasks_up_to_date(model):
    feed(
        model,
        added(),
        reported(rss=100 * MiB, reading={"base": 50 * MiB}),
        sampled(rss=400 * MiB, executing=(executing(size=300 * MiB),)),
    )
    assert total(model)[:3] == (400 * MiB, 0, 350 * MiB)
    assert model.prefixes.by_name["sum"].executing == 300 * MiB


def test_a_sample_keeps_the_prefix_that_the_worker_gave_to_a_task(model):
    feed(
        model,
        added(),
        reported(executing=(executing("k", prefix="its own"),)),
        sampled(executing=(executing("k", prefix="guessed"), executing("sum-2"))),
    )
    found = [task.prefix for task in model.processes.workers[A].executing]
    assert found == ["its own", "sum"]


def test_a_sample_before_the_first_report_is_not_used(model):
    feed(model, added(), sampled(rss=400 * MiB, notices=("no recorder",)))
    assert total(model)[0] == 0
    assert model.processes.workers[A].nanny_notices == ("no recorder",)


def test_a_sample_out_of_step_with_the_report_waits_for_the_next_one(model):
    report = reported(time=T + 1, rss=100 * MiB)
    newer = reported(time=T + 2, reading={"managed_claimed": 90 * MiB}).reading
    feed(model, added(), report, sampled(time=T + 2, rss=200 * MiB, reading=newer))
    assert total(model)[0] == 100 * MiB
    # but not for ever
    feed(model, sampled(time=T + 3, rss=200 * MiB, reading=newer))
    assert total(model)[0] == 200 * MiB


def test_a_sample_of_a_former_process_is_not_used(model):
    feed(model, added(A, 1), reported(A, 1, rss=10), sampled(A, 2, rss=99))
    assert total(model)[0] == 10


# -- why outputs are held ------------------------------------------------------


def test_why_outputs_are_held_is_summed_over_workers(model):
    feed(
        model,
        added(A, 1),
        added(B, 2),
        StorageHeld(T, A, {"sum": Held(10, 20, {"x": 15, "y": 5}, 4, 1)}),
        StorageHeld(T, B, {"sum": Held(1, 2, {"x": 2})}),
    )
    state = model.prefixes.by_name["sum"]
    assert (state.pinned, state.awaited, state.replicas, state.n_replicas) == (
        11,
        22,
        4,
        1,
    )
    assert state.awaited_by == {"x": 17, "y": 5}
    feed(model, StorageHeld(T + 1, A, {}))
    assert (state.pinned, state.awaited, state.awaited_by) == (1, 2, {"x": 2})
    feed(model, removed(B))
    assert (state.pinned, state.awaited, state.awaited_by) == (0, 0, {})


def test_what_is_stored_too_is_summed_over_workers_and_goes_with_them(model):
    feed(
        model,
        added(A, 1),
        added(B, 2),
        StorageHeld(T, A, {"sum": Held(0, 0, {}, stored=10, stored_pending=3)}),
        StorageHeld(T, B, {"sum": Held(0, 0, {}, stored=5), "x": Held(0, 0, {})}),
    )
    state, workers = model.prefixes.by_name["sum"], model.processes.workers
    assert (state.stored, state.stored_pending) == (15, 3)
    assert (workers[A].stored, workers[B].stored) == ((10, 3), (5, 0))
    feed(model, removed(B))
    assert (state.stored, state.stored_pending) == (10, 3)
    feed(model, StorageHeld(T + 1, A, {}))
    assert (state.stored, workers[A].stored) == (0, (0, 0))


# -- the rest ------------------------------------------------------------------


def test_notices_stand_since_they_were_first_given_until_they_are_taken_back(model):
    feed(
        model,
        Noticed(T + 1, "scheduler", ("one",)),
        Noticed(T + 2, "scheduler", ("one", "two")),
    )
    assert model.notices == {"scheduler": (T + 1, ("one", "two"))}
    feed(model, Noticed(T + 3, "scheduler", ()), Noticed(T + 4, "unknown", ()))
    assert model.notices == {}


def test_a_worker_is_stale_until_it_is_judged_otherwise_or_speaks(model):
    feed(model, added(A), added(B), reported(A))
    feed(model, Ticked(T + 5, silent=((A, 2.5), (B, 3.0), ("tcp://gone:1", 9.0))))
    workers = model.processes.workers
    assert (workers[A].stale_for, workers[B].stale_for) == (2.5, 3.0)
    feed(model, Ticked(T + 6))  # not judged: the loop was held up
    assert (workers[A].stale_for, workers[B].stale_for) == (2.5, 3.0)
    feed(model, reported(A, time=T + 6))
    assert (workers[A].stale_for, workers[B].stale_for) == (None, 3.0)
    feed(model, Ticked(T + 7, silent=()))
    assert workers[B].stale_for is None


def test_time_goes_back_with_the_schedulers_clock_and_not_with_a_late_event(model):
    feed(model, Ticked(T + 3_600), added(A, 1, time=T))
    assert model.time == T + 3_600
    feed(model, Ticked(T + 3_596))
    assert model.time == T + 3_600
    feed(model, Ticked(T + 5))
    assert model.time == T + 5


def test_notices_are_bounded_in_number_and_length(model):
    long = ("x" * 10**6,) * 50
    feed(
        model,
        Noticed(T, "w" * 10**6, long),
        *(Noticed(T, f"place {n}", long) for n in range(1_000)),
    )
    assert len(model.notices) == 500
    _, texts = model.notices["w" * 500]
    assert (len(texts), {len(text) for text in texts}) == (20, {500})
    feed(model, added(), reported(notices=long), sampled(notices=long))
    worker = model.processes.workers[A]
    assert len(worker.notices) == len(worker.nanny_notices) == 20


def test_time_and_version_go_forward_with_every_event(model):
    feed(model, Ticked(T + 5), Ticked(T + 1))
    assert (model.time, model.version) == (T + 5, 2)


def test_ticks_carry_the_history_on_once_something_was_read(model):
    feed(model, Ticked(T))
    assert len(model.processes.history) == 0
    feed(model, added(), reported(time=T + 1, rss=70), Ticked(T + 2), Ticked(T + 3))
    history = model.processes.history.columns()
    assert (history["time"], history["process"]) == ([T + 1, T + 2, T + 3], [70] * 3)
    feed(model, removed(time=T + 4), Ticked(T + 5))
    assert model.processes.history.columns()["process"][-1] == 0


def test_histories_are_bounded(model):
    feed(model, added())
    for n in range(300):
        feed(model, reported(time=T + n, rss=n))
    (process,) = model.processes.by_key.values()
    assert len(process.history) <= 20
    assert max(process.history.columns()["process"]) == 299


def test_a_graph_gives_order_positions(model):
    feed(model, GraphArrived(T, "g", ("sum",), {"0.0,1.0": (3.0, 5.0), "-1": (1.0,)}))
    assert model.graphs.position("sum", info().priority) == (3, 3)


def test_an_absurd_figure_leaves_the_sums_whole(model):
    feed(model, added(A, 1), added(B, 2), reported(B, 2, rss=10))
    report = reported(A, 1, rss=2**70, rows={"sum": row(2**69)})
    feed(model, report, reported(A, 1, time=T + 9, rss=5))
    assert total(model)[0] == 15
    assert {len(c) for c in model.processes.history.columns().values()} == {
        len(model.processes.history)
    }


@pytest.mark.parametrize("event", [reported(), sampled()])
def test_a_report_that_comes_after_the_removal_changes_nothing(model, event):
    feed(model, added(), reported(), removed(), event)
    assert model.processes.workers == {}
    assert total(model) == (0, 0, 0, 0)


def test_a_new_prefix_costs_the_same_however_many_busy_ones_are_known(monkeypatch):
    monkeypatch.setattr(prefixes, "MAX_PREFIXES", 100)
    looks = 0

    def counted(state):
        nonlocal looks
        looks += 1
        return not state.count

    monkeypatch.setattr(prefixes.PrefixState, "idle", property(counted))
    known = prefixes.Prefixes()
    known.replace_rows({}, {f"p{n}": row(1) for n in range(1000)})
    assert len(known.by_name) == 1000
    assert looks <= prefixes.LOOKED_AT * 900


def test_processes_that_tasks_start_are_counted_by_prefix_and_go_with_the_worker():
    model = ClusterModel()
    model.handle(added())
    row = ChildRow("convert", "convert-1", "gdal", 2, 3, 300, 500)
    model.handle(reported(children=(row,)))
    state = model.prefixes.of("convert")
    assert (state.children, state.children_rss, state.children_peak) == (2, 300, 500)
    less = ChildRow("convert", "convert-1", "gdal", 1, 3, 100, 500)
    model.handle(sampled(children=(less, ChildRow("", "", "sh", 1, 1, 7, 7))))
    assert (state.children, state.children_rss, state.children_peak) == (1, 100, 500)
    model.handle(sampled(time=T0 + 3))
    assert len(model.processes.workers[A].children) == 2, "it was not looked at"
    model.handle(removed())
    assert (state.children, state.children_rss, state.children_peak) == (0, 0, 500)


def test_a_child_that_was_killed_is_told_once_for_each():
    model = ClusterModel()
    model.handle(added())
    killed = ChildRow("convert", "convert-1", "gdal", 0, 1, 0, 500 * MiB, 1)
    for time in (1, 2, 3):
        model.handle(reported(time=T0 + time, children=(killed,)))
    (incident,) = model.incidents
    assert (incident.kind, incident.stage, incident.n_tasks) == (
        "memory-error",
        "child",
        1,
    )
    assert incident.facts.children == (killed,)
