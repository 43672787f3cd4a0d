"""Flight recorders that are torn, truncated or random: no exception, no invention.

More than 100,000 inputs, the same ones at every run.  *Torn* is what a death leaves in
the middle of a write: everything before it is there, of the write itself any part of
the bytes.  A reader may miss a task then, but must never show one that was not there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from dask_memdash.errors import RecorderError
from dask_memdash.flight import format as layout
from dask_memdash.flight.format import FREE, HEADER_SIZE, PENDING, RUNNING, SLOT_SIZE
from dask_memdash.flight.reader import RecorderReader
from dask_memdash.model.event_parts import Executing
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.plugins.nanny.watching import as_executing

SLOTS = 6
SIZE = HEADER_SIZE + SLOTS * SLOT_SIZE
T = 1.7e9
KEYS = ("sum-1", "('load', 3)", "<img src=x>-2", "☃" * 40, "long-" + "x" * 1000)


def recorder() -> memoryview:
    buffer = memoryview(bytearray(SIZE))
    layout.write_header(buffer, slots=SLOTS, pid=7, created=T, address="tcp://a:1")
    return buffer


def assignments(buffer: memoryview, write) -> list[tuple[int, bytes]]:
    """Return what a writer assigns, one after the other, to a copy of a buffer."""
    log: list[tuple[int, bytes]] = []

    class Logged(bytearray):
        def __setitem__(self, place, data) -> None:
            log.append((place.start, bytes(data)))
            bytearray.__setitem__(self, place, data)

    write(Logged(buffer))
    return log


def tear(
    chance: random.Random, buffer: memoryview, log: list[tuple[int, bytes]]
) -> bytearray:
    """Return buffer of a writer that died in the middle of one of its assignments."""
    torn = bytearray(buffer)
    last = chance.randrange(len(log))
    for start, data in log[:last]:
        torn[start : start + len(data)] = data
    start, data = log[last]
    for position in chance.sample(range(len(data)), chance.randint(0, len(data))):
        torn[start + position] = data[position]
    return torn


def facts(slot: layout.Slot) -> tuple:
    return (slot.index, slot.key, slot.digest, slot.begin, slot.rss, slot.thread)


def written(index: int, key: str, begin: float, rss: int, thread: int) -> tuple:
    whole = memoryview(bytearray(SIZE))
    write_task(whole, index, key, begin, rss, thread)
    (slot,) = layout.read_slots(whole, SLOTS)
    return facts(slot)


def write_task(buffer, index, key, begin, rss, thread, state=RUNNING) -> None:
    layout.write_task(
        buffer,
        index,
        state=state,
        flags=0,
        thread=thread,
        begin=begin,
        rss=rss,
        key=key,
    )


def read(buffer: bytes | bytearray | memoryview) -> set[tuple]:
    """Read everything there is, as the nanny does, and give the facts of its tasks."""
    view = memoryview(buffer)
    try:
        header = layout.read_header(view)
    except RecorderError:
        return set()
    layout.read_reading(view)
    found = set()
    for slot in layout.read_slots(view, header.slots):
        told = as_executing(slot, "exact", T)
        assert from_dict(Executing, to_dict(told)) == told
        assert min(told.bytes, told.peak, told.error) >= 0
        assert told.seconds >= 0
        found.add(facts(slot))
    return found


def busy(chance: random.Random) -> tuple[memoryview, set[tuple], list[int]]:
    """Return a recorder with some tasks in it, these tasks, and the slots without."""
    buffer, tasks, free = recorder(), set(), []
    layout.write_reading(buffer, {"time": T, "rss": 5e8, "managed_claimed": 1e8})
    for index in range(SLOTS):
        if chance.random() < 0.5:
            free.append(index)
            continue
        task = (chance.choice(KEYS), T + index, chance.randrange(2**40), index)
        write_task(buffer, index, *task)
        if chance.random() < 0.3:
            layout.write_state(buffer, index, PENDING)
        tasks.add(written(index, *task))
    return buffer, tasks, free


def rounds(seed: int, number: int) -> Iterator[random.Random]:
    chance = random.Random(seed)
    for _ in range(number):
        yield chance


@pytest.mark.slow
def test_a_death_while_a_task_begins_shows_the_others_and_never_half_of_it():
    seen_new = seen_old = 0
    for number, chance in enumerate(rounds(1, 50_000)):
        if number % 50 == 0:
            buffer, tasks, free = busy(chance)
            index = chance.choice(free or [0])
            tasks = {task for task in tasks if task[0] != index}
            # A slot is given back before it is taken again; the former task's bytes
            # are still in it.
            write_task(buffer, index, chance.choice(KEYS), T - 9, 5, 99)
            layout.write_state(buffer, index, FREE)
            new = (chance.choice(KEYS), T + 50, 77, 8)
            log = assignments(buffer, lambda b, i=index, n=new: write_task(b, i, *n))
            assert len(log) == 4
            begun = written(index, *new)
        found = read(tear(chance, buffer, log))
        assert found - {begun} == tasks
        seen_new += begun in found
        seen_old += begun not in found
    assert seen_new > 100
    assert seen_old > 10_000


def test_a_death_while_a_reading_is_written_gives_a_whole_one_or_none():
    buffer = recorder()
    old = {name: float(n + 1) for n, name in enumerate(layout.READING_FIELDS)}
    new = {name: value * 1e6 for name, value in old.items()}
    layout.write_reading(buffer, old)
    log = assignments(buffer, lambda b: layout.write_reading(b, new))
    results = []
    for chance in rounds(2, 10_000):
        reading = layout.read_reading(memoryview(tear(chance, buffer, log)))
        assert reading in (None, old, new)
        results.append(reading)
    assert {None} <= {r if r is None else 1 for r in results}
    assert old in results
    assert new in results


def test_truncated_recorders_give_the_tasks_that_are_whole():
    for number, chance in enumerate(rounds(3, 15_000)):
        if number % 50 == 0:
            buffer, tasks, _ = busy(chance)
        size = chance.randrange(SIZE + 1)
        slots = max(0, size - HEADER_SIZE) // SLOT_SIZE
        expected = {task for task in tasks if task[0] < slots}
        assert read(buffer[:size]) == expected


def test_random_content_has_no_tasks():
    for number, chance in enumerate(rounds(4, 10_000)):
        size = chance.choice([0, 1, 44, 600, HEADER_SIZE - 1, HEADER_SIZE, SIZE])
        assert read(chance.randbytes(size)) == set()
        if number % 2:
            behind = bytearray(recorder())
            behind[HEADER_SIZE:] = chance.randbytes(SLOTS * SLOT_SIZE)
            assert read(behind) == set()


def test_random_headers_before_good_slots_are_refused_or_show_what_is_there():
    for number, chance in enumerate(rounds(5, 15_000)):
        if number % 50 == 0:
            buffer, tasks, _ = busy(chance)
        spoilt = bytearray(buffer)
        start = chance.randrange(HEADER_SIZE)
        length = chance.choice([1, 2, 4, 8, 100, HEADER_SIZE])
        length = min(length, HEADER_SIZE - start)
        spoilt[start : start + length] = chance.randbytes(length)
        assert read(spoilt) <= tasks


def test_pages_that_never_reached_the_file_hide_tasks_and_invent_none():
    for number, chance in enumerate(rounds(6, 5_000)):
        if number % 50 == 0:
            buffer, tasks, _ = busy(chance)
        spoilt = bytearray(buffer)
        for index in chance.sample(range(SLOTS), chance.randint(1, SLOTS)):
            start = layout.slot_offset(index)
            filler = bytes([chance.choice([0, 255])])
            spoilt[start : start + SLOT_SIZE] = filler * SLOT_SIZE
        assert read(spoilt) <= tasks


@pytest.mark.parametrize(
    "number",
    [*range(60), *(pytest.param(n, marks=pytest.mark.corpora) for n in range(60, 200))],
)
def test_files_of_any_kind_are_opened_or_refused(tmp_path, number):
    chance = random.Random(100 + number)
    buffer, tasks, _ = busy(chance)
    content = {
        0: lambda: bytes(buffer[: chance.randrange(SIZE)]),
        1: lambda: chance.randbytes(chance.randrange(2 * SIZE)),
        2: lambda: bytes(buffer) + chance.randbytes(chance.randrange(SIZE)),
        3: lambda: bytes(buffer),
    }[number % 4]()
    file = tmp_path / "1-2.flight"
    file.touch(mode=0o600)
    file.write_bytes(content)
    try:
        reader = RecorderReader.open(file)
    except RecorderError:
        assert number % 4 < 2
        return
    try:
        assert {facts(slot) for slot in reader.tasks()} <= tasks
        reader.reading()
    finally:
        reader.close()
