"""Taking graphs from the scheduler, with stand-ins for its tasks."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from dask_memdash.boundary import boundary
from dask_memdash.model.events import GraphArrived, GraphChecked, OutputsMoved
from dask_memdash.model.graph_columns import RootGroup, read
from dask_memdash.plugins.scheduler import graph_watch
from dask_memdash.plugins.scheduler.graph_watch import GraphWatch
from dask_memdash.plugins.scheduler.root_tasks import root_groups

T = 1_760_000_000.0


class Group:
    def __init__(self, name, size=1, dependencies=()):
        self.name, self.size = f"{name}-0", size
        self.prefix = SimpleNamespace(name=name)
        self.dependencies = set(dependencies)

    def __len__(self):
        return self.size


class Task:
    """What is read of the scheduler's tasks."""

    def __init__(self, key, group, dependencies=(), **values):
        self.key, self.group, self.prefix = key, group, group.prefix
        self.dependencies = set(dependencies)
        self.state, self.nbytes, self.who_wants = "released", -1, None
        self.run_spec = self.worker_restrictions = None
        self.host_restrictions = self.resource_restrictions = None
        vars(self).update(values)


def scheduler_of(*tasks, saturation=1.1):
    return SimpleNamespace(
        tasks={task.key: task for task in tasks},
        task_groups={task.group.name: task.group for task in tasks},
        WORKER_SATURATION=saturation,
        total_nthreads=4,
        workers={"tcp://a:1": SimpleNamespace(memory_limit=400)},
        is_rootish=lambda task: not task.dependencies and len(task.group) > 8,
    )


def chain(n=4, state="released"):
    """Make `n` loads, each with a sum, the last of which a client wants."""
    load, total = Group("load", n), Group("sum", n)
    total.dependencies = {load}
    loads = [Task(("load-0", i), load, state=state) for i in range(n)]
    sums = [Task(("sum-0", i), total, {loads[i]}) for i in range(n)]
    sums[-1].who_wants = {"client"}
    return [task for pair in zip(loads, sums, strict=True) for task in pair]


def priorities_of(tasks):
    return {task.key: (0, 1, rank) for rank, task in enumerate(tasks)}


class Watched:
    """A watch over stand-ins, with the events that it made."""

    def __init__(self, *tasks, **options):
        self.scheduler = scheduler_of(*tasks, **options)
        self.events = []
        self.watch = GraphWatch(self.scheduler, self.events.append)

    def arrive(self, tasks, now=T, keys=None):
        for task in tasks:
            self.scheduler.tasks[task.key] = task
            self.scheduler.task_groups[task.group.name] = task.group
        wanted = {task.key for task in tasks if task.who_wants}
        self.watch.arrived(priorities_of(tasks), keys or wanted, now)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def clean_border():
    boundary.clear()
    yield
    boundary.clear()


def test_a_small_graph_is_handed_over_at_once():
    watched = Watched()
    watched.arrive(chain())
    (event,) = watched.events
    assert (event.graph, event.time, event.name, event.tasks) == (
        "graph-1",
        T,
        "sum",
        8,
    )
    assert sorted(event.groups) == ["load-0", "sum-0"]
    assert event.columns.prefixes == ("load", "sum")
    assert list(read("I", event.columns.dependencies)) == [0, 2, 4, 6]
    assert event.columns.flags == b"\0\0\0\0\0\0\0\1"
    assert watched.watch.active


def test_what_was_there_before_comes_with_its_size():
    tasks = chain(2)
    tasks[0].state, tasks[0].nbytes = "memory", 77
    watched = Watched()
    watched.arrive(tasks)
    (event,) = watched.events
    assert event.tasks == 3
    assert list(read("q", event.moved)) == [hash(("load-0", 0)), 77]


def test_the_hooks_moves_become_one_event():
    watched = Watched()
    watched.arrive(chain())
    watched.watch.moves += ["a", 10, "b", None, "a", -1]
    watched.watch.step(T + 1)
    (event,) = watched.of(OutputsMoved)
    assert list(read("q", event.moves)) == [
        *(hash("a"), 10),
        *(hash("b"), -1),
        *(hash("a"), 0),
    ]
    assert watched.watch.moves == []


def test_moves_from_before_a_graph_are_not_its_own():
    watched = Watched()
    watched.arrive(chain())
    watched.watch.moves += [("load-0", 0), 5]
    watched.arrive(chain())
    assert [type(event) for event in watched.events] == [
        *(GraphArrived, OutputsMoved, GraphArrived),
    ]
    assert watched.events[-1].moved == b""


def test_a_graph_whose_tasks_were_there_already_is_no_new_one():
    watched = Watched()
    watched.arrive(chain(4, state="processing")[::2])
    assert watched.events == []


def submit(watched, number, now):
    watched.arrive([Task(f"inc-{number}", Group(f"inc{number}"))], now)


def test_single_tasks_are_gathered_until_no_more_come():
    watched = Watched()
    for number in range(3):
        submit(watched, number, T + number)
        watched.watch.step(T + number + 0.5)
    assert watched.of(GraphArrived) == []
    watched.watch.moves += ["inc-1", 10]
    watched.watch.step(T + 5)
    (event,) = watched.of(GraphArrived)
    assert (event.time, event.tasks) == (T, 3)
    assert list(read("q", event.moved)) == [hash("inc-1"), 10]


@pytest.mark.parametrize(("size", "graphs"), [(49, 0), (50, 1)])
def test_a_single_task_with_inputs_that_fill_half_a_worker_is_a_graph(size, graphs):
    # Dask may refuse it at once, before any other is gathered with it.
    parts, gather = Group("part", 4), Group("gather", 1)
    inputs = [
        Task(f"part-{n}", parts, state="memory", nbytes=size, priority=(0, 1, n))
        for n in range(4)
    ]
    watched = Watched(*inputs)
    watched.arrive([Task("gather-1", gather, inputs, priority=(0, 2, 0))])
    made = watched.of(GraphArrived)
    assert len(made) == graphs
    assert [event.tasks for event in made] == [1] * graphs


@pytest.mark.parametrize(
    ("limit", "value"), [("GATHER_LONG", 3), ("GATHER_MANY", 4), ("GATHER_IDLE", 0)]
)
def test_gathering_has_an_end_though_more_come(monkeypatch, limit, value):
    monkeypatch.setattr(graph_watch, limit, value)
    watched = Watched()
    for number in range(8):
        submit(watched, number, T + number)
        if number % 2:
            watched.watch.step(T + number + 0.1)
    assert len(watched.of(GraphArrived)) >= 1


def test_one_task_alone_and_one_submitted_twice_are_no_graph():
    watched = Watched()
    submit(watched, 1, T)
    submit(watched, 1, T + 1)
    watched.watch.step(T + 20)
    assert watched.of(GraphArrived) == []


def test_a_task_without_priority_goes_first():
    tasks = chain(2)
    watched = Watched(*tasks)
    watched.watch.arrived({**priorities_of(tasks), tasks[3].key: None}, (), T)
    (event,) = watched.events
    assert event.columns.flags == b"\1\0\0\0"


# -- large graphs --------------------------------------------------------------


@pytest.fixture
def slices(monkeypatch):
    monkeypatch.setattr(graph_watch, "CHUNK", 10)
    monkeypatch.setattr(graph_watch, "BUDGET", 0.0001)
    monkeypatch.setattr(graph_watch, "PAUSE", 0.001)


async def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_a_large_graph_is_copied_in_slices(slices):
    tasks = chain(2_000)
    watched = Watched()
    watched.arrive(tasks)
    assert watched.events == []
    watched.watch.moves += [("load-0", 0), 5, ("load-0", 0), None]
    await until(lambda: watched.of(GraphArrived))
    (event,) = watched.of(GraphArrived)
    assert (event.tasks, event.time) == (4_000, T)
    assert len(event.columns.flags) == 4_000
    assert list(read("q", event.moved)) == [
        *(hash(("load-0", 0)), 5),
        *(hash(("load-0", 0)), -1),
    ]
    assert len(watched.of(OutputsMoved)) == 1


async def test_what_is_stored_while_it_is_copied_was_not_there_before(slices):
    tasks = chain(1_000)
    watched = Watched()
    watched.arrive(tasks)
    last = tasks[-2]
    last.state, last.nbytes = "memory", 9
    watched.watch.moves += [last.key, 9]
    await until(lambda: watched.of(GraphArrived))
    (event,) = watched.of(GraphArrived)
    assert event.columns.n_given == 0
    assert list(read("q", event.moved)) == [hash(last.key), 9]


async def test_many_moves_are_handled_in_slices_and_in_their_order(slices, monkeypatch):
    monkeypatch.setattr(graph_watch, "SLICE", 100)
    monkeypatch.setattr(graph_watch, "BUDGET", 0.0)
    tasks = chain(1_000)
    for task in tasks[:1_500]:
        task.state, task.nbytes = "memory", 1
    watched = Watched()
    monkeypatch.setattr(graph_watch, "CHUNK", 10_000)
    watched.arrive(tasks)
    watched.watch.moves += [("load-0", 999), 5]
    watched.watch.step(T + 1)
    assert watched.events == []
    monkeypatch.setattr(graph_watch, "BUDGET", 0.001)
    await until(lambda: watched.watch._backlog == graph_watch.deque())
    first, *others, last = watched.of((GraphArrived, OutputsMoved))
    assert len(read("q", first.moved)) == 100
    assert [event.graph for event in others] == ["graph-1"] * 29
    assert sum(len(read("q", event.moves)) for event in others) == 2_900
    assert list(read("q", last.moves)) == [hash(("load-0", 999)), 5]
    assert last.graph == ""


async def test_tasks_that_are_forgotten_meanwhile_are_left_out(slices):
    tasks = chain(1_000)
    watched = Watched()
    watched.arrive(tasks)
    for task in tasks[1_000:]:
        del watched.scheduler.tasks[task.key]
    await until(lambda: watched.of(GraphArrived))
    assert watched.of(GraphArrived)[0].tasks == 1_000


async def test_a_graph_that_cannot_be_read_is_named_as_not_covered(
    slices, clean_border
):
    tasks = chain(1_000)
    tasks[1_500].prefix = None
    watched = Watched()
    watched.arrive(tasks)
    await until(lambda: watched.of(GraphArrived))
    (event,) = watched.of(GraphArrived)
    assert event.uncovered == "Its tasks could not be read."
    assert event.columns is None
    assert "copying a graph once: AttributeError" in boundary.texts()[0]
    watched.watch.step(T + 5)
    assert not watched.watch.active


async def test_after_the_end_nothing_comes_of_what_was_under_way(slices):
    watched = Watched()
    watched.arrive(chain(1_000))
    watched.watch.close()
    await asyncio.sleep(0.1)
    watched.watch.step(T + 5)
    assert watched.events == []


def test_a_graph_above_the_cap_is_named_and_not_read(monkeypatch):
    monkeypatch.setattr(graph_watch, "MAX_TASKS", 7)
    watched = Watched()
    watched.watch.arrived(priorities_of(chain()), (), T)
    (event,) = watched.events
    assert event.tasks == 8
    assert event.uncovered == "It has 8 tasks; more than 7 are not kept."


# -- afterwards ----------------------------------------------------------------


def test_graphs_are_looked_after_until_the_scheduler_forgets_them():
    watched = Watched()
    watched.arrive(chain())
    watched.watch.step(T + 2.5)
    assert watched.of(GraphChecked) == []
    watched.scheduler.task_groups.clear()
    watched.watch.step(T + 4)
    assert watched.of(GraphChecked) == []
    watched.watch.step(T + 5)
    assert watched.of(GraphChecked) == [GraphChecked(T + 5, "graph-1", (), ended=True)]
    assert not watched.watch.active
    watched.watch.step(T + 9)
    assert len(watched.of(GraphChecked)) == 1


def test_roots_are_looked_up_again_when_the_cluster_grows():
    tasks = chain(10)
    for task in tasks:
        task.group.dependencies = set()
    watched = Watched(*tasks)
    watched.arrive(tasks)
    watched.scheduler.total_nthreads = 40
    watched.watch.step(T + 5)
    watched.scheduler.total_nthreads = 0
    watched.watch.step(T + 9)
    (event,) = watched.of(GraphChecked)
    assert (event.graph, event.ended) == ("graph-1", False)
    assert {root.threads for root in event.roots} == {40}


def test_groups_of_the_same_name_that_come_again_are_other_ones():
    watched = Watched()
    watched.arrive(chain())
    for group in (Group("load"), Group("sum")):
        watched.scheduler.task_groups[group.name] = group
    watched.watch.step(T + 5)
    assert watched.of(GraphChecked)[0].ended


# -- names ---------------------------------------------------------------------


def test_a_graph_is_called_as_what_the_client_wants_of_it():
    group, end = Group("mean", 3), Group("finalize-stack")
    tasks = [Task(("mean-0", i), group) for i in range(3)]
    tasks.insert(0, Task("finalize-1", end, set(tasks), who_wants={"client"}))
    watched = Watched()
    watched.arrive(tasks)
    assert watched.events[0].name == "mean"


def test_what_other_clients_want_gives_no_name():
    tasks = chain()
    tasks[0].who_wants = {"another"}
    watched = Watched()
    watched.arrive(tasks, keys={tasks[-1].key})
    assert watched.events[0].name == "sum"
    assert watched.events[0].columns.flags == b"\1\0\0\0\0\0\0\1"


def test_many_wanted_prefixes_give_a_short_name():
    tasks = [Task(f"p{i}", Group(f"p{i}" * 50), who_wants={"c"}) for i in range(5)]
    watched = Watched()
    watched.arrive(tasks)
    name = watched.events[0].name
    assert name == f"{('p0' * 50)[:60]}, {('p1' * 50)[:60]}, {('p2' * 50)[:60]} …"


# -- roots ---------------------------------------------------------------------


def roots_of(*tasks, saturation=1.1):
    made = scheduler_of(*tasks, saturation=saturation)
    return root_groups(made, {task.group: task.key for task in tasks})


def test_root_groups_are_described_by_the_schedulers_own_answer():
    large, small = Group("load", 400), Group("zeros", 3)
    inner = Group("sum", 50, [large])
    tasks = [Task("z", small), Task("l", large)]
    tasks.append(Task("s", inner, {tasks[1]}))
    assert roots_of(*tasks) == (
        RootGroup("load", 400, 4, True, True, 1.1, 0, 0),
        RootGroup("zeros", 3, 4, False, False, 1.1, 0, 0),
    )


def test_nothing_is_queued_where_saturation_is_infinite():
    (root,) = roots_of(Task("l", Group("load", 400)), saturation=float("inf"))
    assert (root.rootish, root.queued, root.saturation) == (True, False, None)


def test_a_large_group_that_hangs_on_little_is_told_of_though_it_is_no_root():
    parts = [Group(f"part{n}", 2) for n in range(6)]
    (root,) = roots_of(Task("o", Group("open", 400, parts), {"something"}))
    assert (root.prefix, root.rootish, root.groups, root.group_tasks) == (
        *("open", False, 6, 12),
    )


def test_restrictions_are_told():
    (root,) = roots_of(Task("l", Group("load", 3), worker_restrictions={"tcp://a"}))
    assert root.restricted


def test_groups_whose_tasks_are_gone_are_left_out():
    made = scheduler_of()
    assert root_groups(made, {Group("load", 400): "gone"}) == ()
