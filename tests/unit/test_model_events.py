"""Events: frozen and slotted; those that are sent become plain data and come back."""

import dataclasses
import json
import types
import typing
from dataclasses import replace

import pytest
from builders import MiB, executing, finished, info, row
from hypothesis import example, given
from hypothesis import strategies as st

from dask_memdash.errors import EventError
from dask_memdash.model import event_readers
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import (
    ActorRow,
    ChildRow,
    GraphRow,
    GuardAction,
    Guarding,
    GuardWaiting,
    Held,
    SpillRoom,
    TaskInputs,
    Thresholds,
    WaitingTasks,
)
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.events import (
    EVENTS,
    ClusterMoving,
    ClusterStuck,
    DeathReported,
    FailureChecked,
    GraphArrived,
    GraphChecked,
    IntermediatesTold,
    MemoryErrorRaised,
    Noticed,
    OutputsMoved,
    SchedulerLooked,
    SpillFailed,
    StorageHeld,
    TaskKilled,
    Ticked,
    WorkerAdded,
    WorkerClosing,
    WorkerLeaving,
    WorkerRemoved,
    WorkerReported,
    WorkerSampled,
    WorkersRestarting,
    WorkerStatusChanged,
    WorkerTimedOut,
)
from dask_memdash.model.graph_columns import GraphColumns, RootGroup
from dask_memdash.model.last_seconds import LastSeconds, TaskSeconds
from dask_memdash.model.quantiles import QuantileSketch

READING = Reading(
    time=5.5,
    rss=400 * MiB,
    managed_claimed=100,
    incoming=1,
    outgoing=2,
    shuffle=3,
    free=4,
    base=None,
    live=6,
    busy=True,
    spilled=7,
    spilled_disk=None,
    inputs=8,
    shuffle_disk=9,
    unmanaged_old=None,
)
ROOT = RootGroup("random", 400, 8, True, False, None, 0, 0)
TASKS = (executing("sum-1"), executing("open-2", None, thread=None, error=None))

EXAMPLES = {
    WorkerAdded: WorkerAdded(
        1.0, "tcp://a:1", "0", "a", 17, 2, None, nanny=True, status="running"
    ),
    WorkerReported: WorkerReported(
        time=1.0,
        address="tcp://a:1",
        pid=17,
        reading=READING,
        rows={"sum": row(10, 20), "": row()},
        executing=TASKS,
        finished={"sum": finished(1, 2000, 3_000_000, outputs=[5], errors=[0])},
        thresholds=Thresholds(target=1, spill=2, pause=None, terminate=4),
        method="estimated",
        notices=("one", "two"),
        graph={"sum": GraphRow(2, 5, 13_000)},
        actors={"counter": ActorRow(1, 9, 4)},
        spill_room=SpillRoom(max_spill=None, disk_free=8),
        children=(ChildRow("sum", "sum-1", "convert", 1, 2, 5, 9, 1),),
        guard=Guarding("on", 1, 2.5, waiting={"sum": GuardWaiting(1, 2.5, 9)}),
        guard_actions=(GuardAction(1.5, "waited", "sum-1", "sum", 9, -4, 2.5),),
    ),
    WorkerSampled: WorkerSampled(1.0, "tcp://a:1", 17, 4, READING, TASKS, ("one",)),
    WorkerStatusChanged: WorkerStatusChanged(1.0, "tcp://a:1", "paused"),
    WorkerClosing: WorkerClosing(1.0, "tcp://a:1", "nanny-close"),
    WorkerTimedOut: WorkerTimedOut(1.0, "tcp://a:1", 31.5),
    WorkerLeaving: WorkerLeaving(
        time=1.0,
        address="tcp://a:1",
        held={"sum": Held(1, 2, {"open": 2}, because={"awaited": 2}, keys=1)},
        held_share=0.25,
        assigned=(replace(info("open-2"), inputs=TaskInputs(2, 9, 1, 4), arguments=5),),
        graph={"open": GraphRow(1, 5, 6_500)},
        actors=("counter",),
    ),
    WorkersRestarting: WorkersRestarting(1.0),
    WorkerRemoved: WorkerRemoved(
        time=1.0,
        address="tcp://a:1",
        expected=True,
        stimulus="s-1",
        n_assigned=300,
        assigned=(info("sum-1"), info("open-2", None)),
        assigned_hashes=(-5, 2**62),
        keys_lost=None,
        bytes_lost=7,
        lost={"open": (2, 7)},
        keys_stored=1,
        bytes_stored=None,
    ),
    DeathReported: DeathReported(
        time=1.0,
        address="tcp://a:1",
        pid=17,
        died=0.5,
        code=None,
        signal=9,
        by="kernel",
        asked=False,
        closing=True,
        reading=READING,
        executing=TASKS,
        samples=((0.25, 10), (0.5, 20)),
        recorded=True,
        known=(info(),),
        last_seconds=LastSeconds(
            time=(0.25, 0.5),
            process=(10, 20),
            parts={"executing": (None, 20)},
            tasks=(TaskSeconds("☃-1", "", "☃", 1, 0.2, 0, (None, 20)),),
            others=(5, 0),
            n_others=(2, 0),
        ),
    ),
    TaskKilled: TaskKilled(1.0, info("☃-1"), -5, "tcp://a:1", 3),
    MemoryErrorRaised: MemoryErrorRaised(1.0, "tcp://a:1", info(), "MemoryError()"),
    SpillFailed: SpillFailed(
        1.0, "tcp://a:1", "sum-1", "sum", "disk-full", None, "no space", count=4
    ),
    GraphArrived: GraphArrived(
        1.0,
        "g",
        ("sum",),
        {"0.0,1.0": (1.0, 2.5)},
        name="sum",
        tasks=2,
        columns=GraphColumns(
            hashes=b"\x01" * 16,
            ranks=b"\x00" * 8,
            prefixes=("sum", "☃"),
            prefix=b"\x00\x00\x01\x00",
            offsets=b"\x00" * 12,
            dependencies=b"",
            flags=b"\x00\x03",
            heads={"0.0,1.0": 2},
            orders=b"",
        ),
        roots=(ROOT,),
        moved=b"\xff" * 16,
    ),
    FailureChecked: FailureChecked(1.0, "1", True),
    GraphChecked: GraphChecked(1.0, "g", (ROOT,), True),
    OutputsMoved: OutputsMoved(1.0, b"\x00\xff" * 8, "g"),
    IntermediatesTold: IntermediatesTold(
        *(1.0, "file:///store", 9, 4, 3, 2, 1, 4, 5, 6),
        names={"regridded": (3, 4)},
        error="it is full",
    ),
    StorageHeld: StorageHeld(1.0, "tcp://a:1", {"sum": Held(1, 2, {"open": 2}, 3, 4)}),
    ClusterStuck: ClusterStuck(
        30.0, 20.0, (WaitingTasks("keep", 3, 1),), 4, ("tcp://a:1",), 1, 2, 0, 1
    ),
    ClusterMoving: ClusterMoving(31.0),
    Noticed: Noticed(1.0, "worker tcp://a:1", ()),
    SchedulerLooked: SchedulerLooked(
        *(1.0, "tcp://s:1", 7, 300, 1000, 900, None, None, 3),
        graph={"sum": GraphRow(2, 5, 13_000)},
        largest_key="sum-1",
    ),
    Ticked: Ticked(1.0),
}

#: Events that a worker or a nanny sends; the others never leave the scheduler.
SENT = [WorkerReported, WorkerSampled, DeathReported, MemoryErrorRaised, SpillFailed]

every_event = pytest.mark.parametrize(
    "event", EXAMPLES.values(), ids=lambda event: type(event).__name__
)
every_sent_event = pytest.mark.parametrize(
    "event", [EXAMPLES[cls] for cls in SENT], ids=[cls.__name__ for cls in SENT]
)


def test_there_is_an_example_of_every_event():
    assert set(EXAMPLES) == set(EVENTS)


@every_event
def test_an_event_is_frozen_and_slotted(event):
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
    assert not hasattr(event, "__dict__")


@every_sent_event
def test_an_event_survives_json(event):
    data = json.loads(json.dumps(to_dict(event), allow_nan=False))
    rebuilt = from_dict(type(event), data)
    assert type(rebuilt) is type(event)
    # sketches have no equality of their own
    assert to_dict(rebuilt) == to_dict(event)
    if not isinstance(event, WorkerReported):
        assert rebuilt == event


@every_sent_event
def test_fields_that_a_newer_sender_adds_are_ignored(event):
    data = {**to_dict(event), "invented_later": object()}
    assert to_dict(from_dict(type(event), data)) == to_dict(event)


def test_fields_that_are_added_deeper_are_ignored_too():
    data = to_dict(EXAMPLES[WorkerSampled])
    data["reading"]["invented_later"] = 1
    data["executing"][0]["invented_later"] = {}
    assert from_dict(WorkerSampled, data) == EXAMPLES[WorkerSampled]


@every_sent_event
def test_a_missing_field_is_named(event):
    for field in dataclasses.fields(event):
        data = to_dict(event)
        del data[field.name]
        if field.default is not dataclasses.MISSING:
            assert getattr(from_dict(type(event), data), field.name) == field.default
        elif field.default_factory is not dataclasses.MISSING:
            rebuilt = getattr(from_dict(type(event), data), field.name)
            assert rebuilt == field.default_factory()
        else:
            name = f"{type(event).__name__}.{field.name} is missing"
            with pytest.raises(EventError, match=name):
                from_dict(type(event), data)


WRONG = {
    int: [True, 1.0, "1", None, [], {}],
    float: [False, "1", None, float("nan"), float("inf"), [], 10**400],
    str: [1, None, b"x", ["x"]],
    bool: [0, 1, None, "true"],
}


def wrong_values(hint):
    if hint in WRONG:
        return WRONG[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (arg for arg in args if arg is not type(None))
        return [value for value in wrong_values(inner) if value is not None]
    if origin is tuple:
        return [None, 5, "text", {}, [[[[]]], object()]]
    if origin is dict:
        return [None, 5, "text", [], {5: 5}, {"x": object()}]
    return [None, 5, "text", [], object()]


@every_sent_event
def test_a_wrong_value_of_every_field_is_refused_by_its_name(event):
    hints = typing.get_type_hints(type(event))
    for field in dataclasses.fields(event):
        for wrong in wrong_values(hints[field.name]):
            data = {**to_dict(event), field.name: wrong}
            with pytest.raises(EventError, match=rf"\.{field.name}\b"):
                from_dict(type(event), data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"sum": [1, 2, 3]}}, "WorkerReported.rows is '.*4 whole numbers"),
        ({"rows": {"sum": [1, 2, 3, -4]}}, "WorkerReported.rows is .* at least 0"),
        ({"rows": {"sum": [1, 2, 3, 4.5]}}, "WorkerReported.rows is '4.5'"),
        ({"reading": {"time": 1}}, "WorkerReported.reading.rss is missing"),
        ({"executing": [{}]}, "WorkerReported.executing.key is missing"),
        ({"notices": "text"}, "WorkerReported.notices is 'text'; it must be a list"),
        ({"finished": {"x": {}}}, "WorkerReported.finished.count is missing"),
        ({"thresholds": {"spill": "no"}}, "thresholds.spill is 'no'.* a whole number"),
    ],
)
def test_what_is_wrong_deeper_is_named(change, message):
    data = {**to_dict(EXAMPLES[WorkerReported]), **change}
    with pytest.raises(EventError, match=message):
        from_dict(WorkerReported, data)


@pytest.mark.parametrize(
    "sketch",
    [
        None,
        {},
        {"buckets": {"x": 1}, "min": 1, "max": 2},
        {"buckets": {"1": float("inf")}, "min": 1, "max": 2},
        {"buckets": {"1": 1}, "min": float("nan"), "max": 2},
        {"buckets": {"1": 1}, "min": float("inf"), "max": float("inf")},
        {"buckets": {"9" * 5000: 1}, "min": 1, "max": 2},
        {"buckets": 7},
    ],
)
def test_what_is_no_sketch_is_refused(sketch):
    data = to_dict(EXAMPLES[WorkerReported])
    data["finished"]["sum"]["peaks"] = sketch
    with pytest.raises(EventError, match=r"WorkerReported\.finished\.peaks"):
        from_dict(WorkerReported, data)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_a_number_that_no_machine_has_is_refused(number):
    data = {**to_dict(EXAMPLES[WorkerSampled]), "rss": number}
    with pytest.raises(EventError, match=r"WorkerSampled\.rss"):
        from_dict(WorkerSampled, data)


def test_the_message_of_an_error_is_short_however_long_the_value():
    with pytest.raises(EventError) as caught:
        from_dict(WorkerSampled, {"time": "x" * 1_000_000})
    assert len(str(caught.value)) < 200


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


def try_to_build(cls, data):
    try:
        built = from_dict(cls, data)
    except EventError as error:
        message = str(error)
    else:
        message = cls.__name__ + json.dumps(to_dict(built), allow_nan=False)
    assert message.startswith(cls.__name__)


@given(st.sampled_from(SENT), json_like)
def test_arbitrary_data_is_an_event_or_an_event_error(cls, data):
    try_to_build(cls, data)


def paths_of(data, path=()):
    """Return the path of every value inside nested dicts and lists."""
    yield path
    items = data.items() if isinstance(data, dict) else ()
    if isinstance(data, list):
        items = enumerate(data)
    for name, value in items:
        yield from paths_of(value, (*path, name))


def put(data, path, value):
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = put(data[path[0]], path[1:], value)
    return copy


PLACES = [(cls, path) for cls in SENT for path in paths_of(to_dict(EXAMPLES[cls]))]


@given(st.sampled_from(PLACES), json_like)
@example((WorkerSampled, ("time",)), 10**400)
@example((WorkerReported, ("finished", "sum", "peaks", "min")), float("inf"))
def test_an_event_with_one_value_changed_is_an_event_or_an_event_error(place, value):
    cls, path = place
    try_to_build(cls, put(to_dict(EXAMPLES[cls]), path, value))


def test_data_that_is_nested_without_end_is_refused(monkeypatch):
    # no event is nested in itself, but a later one may be
    def endless(kind, data, where):
        return endless(kind, data, where)

    monkeypatch.setattr(event_readers, "_rebuild", endless)
    with pytest.raises(EventError, match="WorkerSampled is nested too deeply"):
        from_dict(WorkerSampled, {})


@pytest.mark.parametrize("cls", [OutputsMoved, GraphArrived])
def test_an_event_with_columns_of_bytes_is_not_read_from_plain_data(cls):
    event = EXAMPLES[cls]
    data = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    with pytest.raises(EventError, match="cannot be of type <class 'bytes'>"):
        from_dict(cls, data)


def test_lists_become_tuples_and_sketches_stay_sketches():
    rebuilt = from_dict(WorkerReported, to_dict(EXAMPLES[WorkerReported]))
    assert rebuilt.executing == TASKS
    assert rebuilt.rows == {"sum": row(10, 20), "": row()}
    assert isinstance(rebuilt.finished["sum"].peaks, QuantileSketch)
    assert rebuilt.finished["sum"].peaks.max == 3_000_000
