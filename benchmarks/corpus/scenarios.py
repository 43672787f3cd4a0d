"""The ways in which a simulated worker dies: one function for each, with its truth."""

from __future__ import annotations

from random import Random

from corpus.graphs import arrived, chains, fan_in, moved
from corpus.plan import RELIEFS, Plan, Scenario, Truth, begin
from corpus.world import End, MiB, Ramp
from dask_memdash.model.event_parts import TaskInfo
from dask_memdash.model.events import (
    Event,
    WorkerClosing,
    WorkersRestarting,
    WorkerTimedOut,
)
from dask_memdash.terms import CAUSES as CAUSES_BY_NAME

UNKNOWN = frozenset({"unknown"})

#: Reliefs of causes that are not about stored outputs; spilling can fail there too.
ANY = RELIEFS
#: Reliefs of causes of storage.
OF_STORAGE = RELIEFS[1:]

#: What is right where the nanny's report is lost: the last heartbeat may be of a time
#: at which memory was no concern, or filled by something else.
WITHOUT_REPORT = frozenset({"unknown", "unaccounted"})


#: Share of what there is to fill from which a task alone is to blame, and nothing else.
CLEAR = 0.78


def of(plan: Plan, *causes: str, **more: object) -> Truth:
    """Say what is true of a memory cause."""
    without = dict.fromkeys(("report", "recorder", "heartbeats"), UNKNOWN)
    without["leaving"] = UNKNOWN
    # A task that is said to hold nothing leaves its memory to those beside it.
    without["slot"] = frozenset({"too-many-at-once", "unaccounted", "unknown"})
    # What the one task held is then memory that nobody counted.
    without["count"] = frozenset({"unaccounted", "unknown"})
    without.update(more.pop("without", {}))  # type: ignore[call-overload]
    return Truth(frozenset(causes), plan.reliefs(), without=without, **more)  # type: ignore[arg-type]


def finish(plan: Plan, prefix: str) -> None:
    """Let relief and size be as planned."""
    if plan.relief in ("spill-full", "spill-failing"):
        plan.fail_spilling(prefix)
    plan.adjust()


# -- execution -----------------------------------------------------------------------


def one_large_task(random: Random) -> tuple[Plan, Truth]:
    """One task that no empty worker holds, or that fills all and still grows."""
    plan = begin(random, ("nothing-to-spill", "limit-above-memory"))
    plan.ballast()
    part = random.uniform(0.66, 0.88)
    top = plan.task("hog", int(plan.fill * part))
    plan.small_tasks(plan.world.nthreads - 1)
    finish(plan, "ballast")
    # Beside so much that nobody counted, it is a question of words what left no room.
    causes = ("task-too-large",) if part > CLEAR else ("task-too-large", "unaccounted")
    return plan, of(plan, *causes, prefix="hog", key=top.key)


def native_task(random: Random) -> tuple[Plan, Truth]:
    """One task alone whose memory nobody counts, all of it grown while it ran."""
    plan = begin(random, ("nothing-to-spill", "limit-above-memory"))
    plan.ballast()
    size = int(plan.fill * random.uniform(CLEAR, 0.88))
    top = plan.task("native", size // 50, native=size)
    finish(plan, "ballast")
    return plan, of(
        plan,
        "task-too-large",
        prefix="native",
        key=top.key,
        without={"recorder": WITHOUT_REPORT, "report": WITHOUT_REPORT},
    )


def task_with_inputs(random: Random) -> tuple[Plan, Truth]:
    """A task whose inputs and own memory together exceed any empty worker."""
    plan = begin(random, ("nothing-to-spill", "limit-above-memory"))
    size = plan.between(0.40, 0.50)
    inputs = plan.store("part", size, waiter="merge", types=("numpy.ndarray",))
    top = plan.task("merge", int(plan.fill * 0.99) - size, inputs=plan.inputs(inputs))
    finish(plan, "part")
    lost = frozenset({"unknown", "awaited"})
    return plan, of(
        plan,
        "task-too-large",
        prefix="merge",
        key=top.key,
        without={"leaving": lost, "report": lost, "recorder": lost},
    )


def large_beside_outputs(random: Random) -> tuple[Plan, Truth]:
    """A task whose like need more than an empty worker has, beside outputs."""
    plan = begin(random, ("too-fast", "spilling-off", "spill-failing", "spill-full"))
    plan.ballast()
    size = int(plan.fill * random.uniform(0.58, 0.62))
    past = plan.ran("hog", random.randint(3, 6), int(1.2 * plan.world.room()), MiB)
    past.here = False
    past.begin, past.end = plan.world.joined - 40, plan.world.joined - 2
    top = plan.task("hog", size)
    finish(plan, "ballast")
    return plan, of(
        plan,
        "task-too-large",
        prefix="hog",
        key=top.key,
        without={"finished": frozenset({"awaited", "unknown"})}
        | dict.fromkeys(("report", "recorder"), frozenset({"awaited", "unknown"})),
    )


def too_many(random: Random) -> tuple[Plan, Truth]:
    """Tasks of which each fits, and not all together."""
    plan = begin(random, ("nothing-to-spill", "limit-above-memory"))
    world = plan.world
    world.nthreads = max(2, world.nthreads)
    plan.ballast()
    n = random.randint(max(2, world.nthreads // 2), world.nthreads)
    each = int(plan.fill * random.uniform(0.82, 0.88) / n)
    if random.random() < 0.5:
        plan.ran("mid", random.randint(3, 9), int(1.3 * each), each // 100)
    for _ in range(n):
        plan.task("mid", int(each * random.uniform(0.9, 1.0)))
    finish(plan, "ballast")
    return plan, of(plan, "too-many-at-once", prefix="mid")


def too_many_beside_outputs(random: Random) -> tuple[Plan, Truth]:
    """Tasks that together need more than an empty worker has, beside outputs."""
    plan = begin(random, ("too-fast", "spilling-off", "spill-failing", "spill-full"))
    world = plan.world
    world.nthreads = max(4, world.nthreads)
    plan.ballast()
    n = world.nthreads
    each = int(plan.fill * random.uniform(0.58, 0.62) / n)
    need = int(1.6 * world.room() / n)
    past = plan.ran("mid", random.randint(3, 9), need, MiB // 8)
    past.here = False
    past.begin, past.end = world.joined - 40, world.joined - 2
    for _ in range(n):
        plan.task("mid", int(each * random.uniform(0.9, 1.0)))
    finish(plan, "ballast")
    lost = frozenset({"awaited", "unknown"})
    return plan, of(
        plan,
        "too-many-at-once",
        prefix="mid",
        without=dict.fromkeys(("finished", "report", "recorder"), lost),
    )


# -- storage -------------------------------------------------------------------------


def outputs(random: Random, cause: str, **more: object) -> tuple[Plan, Truth]:
    """Fill a worker with stored outputs for one reason."""
    plan = begin(random, OF_STORAGE)
    world = plan.world
    kept = plan.store("block", plan.between(0.62, 0.92), **more)
    if not plan.young and plan.relief != "limit-above-memory":
        plan.spill(kept, random.choice((0.0, 0.2, 2.0)))
    if not plan.young and cause != "replicas":
        plan.ran("block", kept.count, 2 * kept.real, kept.believed, kept.real)
    plan.small_tasks(world.nthreads, 0.04)
    finish(plan, "block")
    lost = frozenset({"unknown"})
    return plan, of(
        plan, cause, prefix="block", without={"leaving": lost, "report": lost}
    )


def awaited(random: Random) -> tuple[Plan, Truth]:
    """Outputs that tasks still to run wait for."""
    return outputs(random, "awaited", why="awaited")


def pinned(random: Random) -> tuple[Plan, Truth]:
    """Outputs that a client holds."""
    return outputs(random, "pinned", why="pinned")


def replicas(random: Random) -> tuple[Plan, Truth]:
    """Copies of a broadcast."""
    return outputs(random, "replicas", why="replica", copies=random.randint(2, 8))


def run_ahead(random: Random) -> tuple[Plan, Truth]:
    """Outputs that were produced long before the order needs them."""
    return ordered(random, "run-ahead")


def needed_by_order(random: Random) -> tuple[Plan, Truth]:
    """Outputs that the order itself needs all at once."""
    return ordered(random, "awaited")


def ordered(random: Random, cause: str) -> tuple[Plan, Truth]:
    """Let a graph fill the worker: ahead of its order, or as it must."""
    plan = begin(random, OF_STORAGE)
    world = plan.world
    world.nthreads, world.sibling = random.choice((1, 2)), False
    n = random.choice((40, 90))
    waiter = "cut" if cause == "run-ahead" else "sum"
    kept = plan.store("block", plan.between(0.62, 0.92), waiter=waiter, count=n)
    graph = chains(n + 4) if cause == "run-ahead" else fan_in(n + 4)
    begin_, end = plan.busy
    plan.more.append(arrived(graph, begin_ - 0.01))
    first = 0
    if cause == "run-ahead":
        # Some have been taken in: before that, nobody knows what becomes of them.
        first = 2
        for number in range(first):
            block, cut = f"block-{number}", f"cut-{number}"
            taken = ((block, kept.believed), (cut, kept.believed // 50), (block, -1))
            plan.more.append(moved(begin_, taken))
    parts = 8
    for part in range(parts):
        some = range(first + n * part // parts, first + n * (part + 1) // parts)
        sizes = ((f"block-{number}", kept.believed) for number in some)
        plan.more.append(moved(begin_ + (end - begin_) * part / parts, sizes))
    plan.small_tasks(world.nthreads, 0.04)
    finish(plan, "block")
    return plan, of(plan, cause, prefix="block")


def in_use(random: Random) -> tuple[Plan, Truth]:
    """Outputs that were spilled and are in RAM all the same: views of one another."""
    plan = begin(random, ("nothing-to-spill",), young=False)
    why = random.choice(("awaited", "pinned"))
    kept = plan.store("view", plan.between(0.62, 0.92), why=why, count=40)
    kept.spilled = kept.in_use = random.randint(30, 40)
    finish(plan, "view")
    return plan, of(plan, why, prefix="view")


def lying(random: Random) -> tuple[Plan, Truth]:
    """Outputs that are several times larger than Dask believes."""
    plan = begin(random, ("too-fast", "spilling-off", "limit-above-memory"), False)
    lie = random.uniform(8, 1000)
    size = plan.between(0.65, 0.92)
    kept = plan.store("opaque", size, lie=lie, types=("mine.Box",), count=40)
    plan.ran("opaque", kept.count, kept.real + MiB, kept.believed, kept.real)
    plan.small_tasks(plan.world.nthreads, 0.04)
    finish(plan, "opaque")
    counts = frozenset({"leak", "unaccounted", "unknown"})
    return plan, of(
        plan,
        "sizeof",
        prefix="opaque",
        without={"leaving": counts, "finished": counts, "heartbeats": counts},
    )


# -- the process itself ----------------------------------------------------------------


def shuffle(random: Random) -> tuple[Plan, Truth]:
    """Buffers of a P2P shuffle."""
    plan = begin(random, ("nothing-to-spill", "limit-above-memory"), young=False)
    world = plan.world
    size = plan.between(0.62, 0.9)
    begin_, end = plan.busy
    world.buffers.append(Ramp(size, begin_, end))
    world.tasks.clear()
    plan.task("shuffle-transfer", plan.between(0.01, 0.05))
    plan.small_tasks(world.nthreads - 1, 0.03)
    finish(plan, "block")
    return plan, of(plan, "transfer", prefix="shuffle-transfer")


def actor(random: Random) -> tuple[Plan, Truth]:
    """An actor that keeps what it is given."""
    plan = begin(random, ANY, young=False)
    plan.ballast()
    begin_, _ = plan.busy
    end = plan.world.died - 0.6
    size = int(plan.fill * plan.spare * random.uniform(0.93, 1.0))
    plan.world.actors["Keeper"] = (1, Ramp(size, begin_, end))
    plan.small_tasks(plan.world.nthreads, 0.03)
    finish(plan, "ballast")
    lost = frozenset({"unknown", "unaccounted"})
    return plan, of(
        plan,
        "actor-state",
        prefix="Keeper",
        without={"heartbeats": lost, "report": lost},
    )


def arguments(random: Random) -> tuple[Plan, Truth]:
    """Arguments, closures and records of tasks, as they were sent."""
    plan = begin(random, ANY)
    plan.ballast()
    world = plan.world
    n = random.choice((8, 500, 200_000))
    size = int(plan.fill * plan.spare * random.uniform(0.93, 1.0))
    records = int(0.9 * size) if n > 10_000 else min(size // 10, n * 6500)
    begin_, end = plan.busy
    world.graph["load"] = (n, records, Ramp(size, begin_, end))
    world.assigned = (TaskInfo("load-1", "load", "load", None, None, size // n),)
    plan.small_tasks(world.nthreads, 0.03)
    finish(plan, "ballast")
    lost = frozenset({"unknown", "unaccounted"})
    return plan, of(
        plan,
        "graph",
        prefix="load",
        without={"leaving": lost, "heartbeats": lost, "report": lost},
    )


def leak(random: Random) -> tuple[Plan, Truth]:
    """What tasks leave behind by their own counts."""
    plan = begin(random, ANY, young=False)
    plan.ballast()
    n = random.choice((8, 30, 400))
    size = int(plan.fill * plan.spare * random.uniform(0.93, 1.0))
    output = random.choice((0, 28, MiB // 4))
    past = plan.ran("leaky", n, size // n + MiB, output, output + size // n)
    plan.grow(size, past.begin, past.end)
    plan.small_tasks(plan.world.nthreads, 0.03)
    finish(plan, "ballast")
    lost = frozenset({"unaccounted", "unknown"})
    return plan, of(
        plan,
        "leak",
        prefix="leaky",
        without={"finished": lost, "heartbeats": lost, "report": lost},
    )


def nobodys(random: Random) -> tuple[Plan, Truth]:
    """Growth of a thread or a cache that no count explains."""
    plan = begin(random, ANY)
    plan.ballast()
    begin_, end = plan.busy
    size = int(plan.fill * plan.spare * random.uniform(0.93, 1.0))
    if not plan.young and random.random() < 0.5:
        begin_ = end - random.uniform(0.05, 0.5)  # in one step
    plan.grow(size, begin_, end)
    plan.task("innocent", plan.between(0.005, 0.02), begin=end + 0.01)
    finish(plan, "ballast")
    return plan, of(plan, "unaccounted")


def beside_a_task(random: Random) -> tuple[Plan, Truth]:
    """The same, while a task ran whose like have finished with far less."""
    plan = begin(random, ("nothing-to-spill", "limit-above-memory"), young=False)
    plan.ballast()
    size = int(plan.fill * random.uniform(0.82, 0.88))
    count = plan.between(0.01, 0.02)
    past = plan.ran("innocent", random.randint(3, 40), int(1.2 * count), 28)
    plan.task("innocent", count, begin=past.end + 0.1)
    plan.grow(size, past.end + 0.15, plan.world.died - 0.05)
    finish(plan, "ballast")
    return plan, of(
        plan,
        "unaccounted",
        without={"finished": frozenset({"task-too-large", "unknown"})},
    )


def kept_by_allocator(random: Random) -> tuple[Plan, Truth]:
    """Memory that was freed and that the allocator keeps."""
    plan = begin(random, ("nothing-to-spill", "limit-above-memory"), young=False)
    plan.ballast()
    begin_, end = plan.busy
    size = int(plan.fill * random.uniform(0.66, 0.88))
    plan.world.retained.append(Ramp(size, begin_, end))
    plan.ran("churn", 40, plan.between(0.05, 0.08), 1000)
    plan.small_tasks(plan.world.nthreads, 0.02)
    finish(plan, "ballast")
    lost = frozenset({"unaccounted", "unknown"})
    return plan, of(
        plan,
        "retained",
        prefix="churn",
        without={"heartbeats": lost, "report": lost},
    )


def promised_too_much(random: Random) -> tuple[Plan, Truth]:
    """The kernel kills below the threshold: limits promise more than there is."""
    plan = begin(random, ("limit-above-memory",))
    world = plan.world
    world.allowed = int(world.limit * random.uniform(0.5, 0.85))
    plan.fill = int(world.allowed * random.uniform(0.97, 1.0)) - world.base
    world.end = End(signal=9, by="kernel")
    if random.random() < 0.3 and not plan.young:
        world.end = End(signal=9, by="unknown")
    kind = random.choice(("task", "tasks", "outputs"))
    if kind == "outputs":
        plan.store("block", plan.between(0.7, 0.9))
    n = 1 if kind == "task" else max(2, world.nthreads)
    share = 0.1 if kind == "outputs" else 0.85
    for _ in range(n):
        plan.task("mid", int(plan.fill * share / n))
    finish(plan, "block")
    return plan, of(
        plan,
        "overcommitted",
        # Where the cgroup's counter was not seen to move, and what it allows was told.
        without={"heartbeats": frozenset({"external", "unknown"})}
        | {"report": frozenset({"external", "unknown"})},
    )


# -- not memory ------------------------------------------------------------------------


def calm(random: Random) -> Plan:
    """Return a worker with room to spare, idle or busy."""
    plan = begin(random, ("too-fast",))
    plan.fill = int(plan.world.limit * random.uniform(0.1, 0.55)) - plan.world.base
    plan.fill = max(plan.fill, 2 * MiB)
    if random.random() < 0.6:
        plan.store("block", plan.between(0.4, 0.7))
    if random.random() < 0.6:
        for _ in range(random.randint(1, plan.world.nthreads)):
            plan.task("mid", plan.between(0.2, 0.3) // plan.world.nthreads)
    plan.adjust()
    return plan


def not_memory(plan: Plan, cause: str) -> tuple[Plan, Truth]:
    """Say what is true of an end that is not about memory."""
    without = dict.fromkeys(("report", "recorder", "heartbeats"), UNKNOWN)
    tasks = plan.world.tasks
    one = tasks[0] if len(tasks) == 1 else None
    blamed = cause in ("crash", "unresponsive") and one is not None
    prefixes = {t.prefix for t in tasks}
    prefix = one.prefix if blamed and one else None
    if cause == "unresponsive" and len(prefixes) == 1:
        prefix = prefixes.pop()
    return plan, Truth(
        frozenset({cause}),
        prefix=prefix,
        key=one.key if blamed and one else None,
        without=without,
    )


def segfault(random: Random) -> tuple[Plan, Truth]:
    """A fault in native code."""
    plan = calm(random)
    plan.world.end = End(signal=random.choice((11, 6, 7)), by="unknown")
    return not_memory(plan, "crash")


def exit_(random: Random) -> tuple[Plan, Truth]:
    """A program that ends its process, however full it is."""
    plan = calm(random)
    plan.world.end = End(signal=None, code=random.choice((0, 1, 42)), by="unknown")
    return not_memory(plan, "crash")


def kill(random: Random) -> tuple[Plan, Truth]:
    """A kill from outside, of an idle worker or one with room."""
    plan = calm(random)
    plan.world.end = End(signal=random.choice((9, 15)), by="unknown")
    return not_memory(plan, "external")


def silent(random: Random) -> tuple[Plan, Truth]:
    """A worker that the scheduler gives up after ``worker-ttl``."""
    plan = calm(random)
    world = plan.world
    world.end = End(signal=random.choice((9, 15)), by="unknown", asked=True)
    plan.more.append(
        WorkerTimedOut(world.died - 0.02, world.address, random.uniform(5, 300))
    )
    return not_memory(plan, "unresponsive")


def vanished(random: Random) -> tuple[Plan, Truth]:
    """A worker that is gone with room to spare, and nobody says how."""
    plan = calm(random)
    plan.world.end = End(signal=None, code=None, by="unknown")
    return not_memory(plan, "unknown")


def asked_to_go(random: Random) -> tuple[Plan, Truth]:
    """Retired, scaled down, restarted, or closed in good order: no incident."""
    plan = calm(random)
    world = plan.world
    how = random.choice(("retire", "scale", "restart", "lifetime"))
    world.end = End(signal=None, code=0, by="unknown", asked=True)
    more: list[Event] = []
    if how in ("retire", "scale"):
        world.end = End(
            signal=None, code=0, by="unknown", closing=True, asked=True, expected=True
        )
    if how == "restart":
        more.append(WorkersRestarting(world.died - 0.1))
        world.end = End(signal=15, by="unknown", asked=random.random() < 0.5)
    if how == "lifetime":
        more.append(
            WorkerClosing(world.died - 0.1, world.address, "worker-lifetime-reached")
        )
        world.end = End(signal=None, code=0, by="unknown", closing=True)
    plan.more += more
    return plan, Truth(frozenset())


#: Every way to die, and how often, in parts.
SCENARIOS: tuple[Scenario, ...] = (
    one_large_task,
    native_task,
    task_with_inputs,
    large_beside_outputs,
    too_many,
    too_many_beside_outputs,
    awaited,
    pinned,
    replicas,
    run_ahead,
    needed_by_order,
    in_use,
    lying,
    shuffle,
    actor,
    arguments,
    leak,
    nobodys,
    beside_a_task,
    kept_by_allocator,
    promised_too_much,
    segfault,
    exit_,
    kill,
    silent,
    vanished,
    asked_to_go,
)
#: Every cause that a simulated worker dies of.
CAUSES = frozenset(CAUSES_BY_NAME)

__all__ = ["CAUSES", "RELIEFS", "SCENARIOS"]
