"""The flight recorder's format: round trips, and what corrupt files do not do."""

import math
import random
import struct
import time

import pytest

from dask_memdash.errors import RecorderError
from dask_memdash.flight import format as layout
from dask_memdash.flight import sampler_fields
from dask_memdash.flight.format import (
    FREE,
    HEADER_SIZE,
    KEY_CAPACITY,
    PENDING,
    RUNNING,
    SLOT_SIZE,
    Slot,
)

SLOTS = 8


def recorder(slots=SLOTS, address="tcp://a:1"):
    buffer = memoryview(bytearray(layout.file_size(slots)))
    layout.write_header(buffer, slots=slots, pid=17, created=1.5e9, address=address)
    return buffer


def write(buffer, index=0, key="sum-1", **more):
    values = {"state": RUNNING, "flags": 0, "thread": 7, "begin": 1.5e9, "rss": 10**6}
    layout.write_task(buffer, index, key=key, **{**values, **more})


def slots_of(buffer, slots=SLOTS):
    return list(layout.read_slots(buffer, slots))


# -- round trips ---------------------------------------------------------------


def test_the_header_comes_back():
    assert layout.read_header(recorder()) == layout.Header(
        slots=8,
        pid=17,
        created=1.5e9,
        tallied=False,
        resident=False,
        closing=False,
        address="tcp://a:1",
        reason="",
    )


def test_a_task_comes_back():
    buffer = recorder()
    write(buffer, 3, "('sum', 1, 2)")
    layout.write_counters(buffer, 3, 10, 25, 2)
    assert slots_of(buffer) == [
        Slot(
            index=3,
            now=10,
            peak=25,
            error=2,
            state=RUNNING,
            measured=True,
            thread=7,
            begin=1.5e9,
            rss=10**6,
            key="('sum', 1, 2)",
            digest="",
        )
    ]


def test_an_unmeasured_task_says_so():
    buffer = recorder()
    write(buffer, flags=layout.FLAG_UNMEASURED)
    assert slots_of(buffer)[0].measured is False


def test_a_task_is_running_then_pending_then_gone():
    buffer = recorder()
    write(buffer)
    layout.write_state(buffer, 0, PENDING)
    assert slots_of(buffer)[0].state == PENDING
    layout.write_state(buffer, 0, FREE)
    assert slots_of(buffer) == []


def test_a_slot_that_is_taken_again_starts_at_zero():
    buffer = recorder()
    write(buffer, key="a-very-long-key-of-the-former-task")
    layout.write_counters(buffer, 0, 10, 25, 2)
    write(buffer, key="b-1")
    (slot,) = slots_of(buffer)
    assert (slot.key, slot.now, slot.peak, slot.error) == ("b-1", 0, 0, 0)


def test_counters_are_never_negative_and_a_peak_never_below_now():
    buffer = recorder()
    write(buffer)
    layout.write_counters(buffer, 0, -5, -7, -9)
    assert layout.read_counters(buffer, 0) == (0, 0, 0)
    layout.write_counters(buffer, 0, 50, 10, 3)
    assert layout.read_counters(buffer, 0) == (50, 50, 3)
    assert (slots_of(buffer)[0].now, slots_of(buffer)[0].peak) == (50, 50)


def test_a_reading_comes_back_and_what_is_not_known_is_none():
    buffer = recorder()
    assert layout.read_reading(buffer) is None
    layout.write_reading(buffer, {"time": 1.5e9, "rss": 2**50, "free": None})
    assert layout.read_reading(buffer) == {
        "time": 1.5e9,
        "rss": 2.0**50,
        "managed_claimed": None,
        "incoming": None,
        "outgoing": None,
        "shuffle": None,
        "free": None,
        "base": None,
        "spilled": None,
        "spilled_disk": None,
        "last_rest": None,
        "inputs": None,
        "graph": None,
        "actors": None,
        "file": None,
        "base_file": None,
        "loaded": None,
    }


def test_what_the_sampler_saw_is_of_one_task_alone():
    buffer = recorder()
    assert sampler_fields.read_seen(buffer, 1.5e9) is None
    sampler_fields.write_seen(buffer, 1.5e9, 300, 40)
    assert sampler_fields.read_seen(buffer, 1.5e9) == (300, 40)
    assert struct.unpack("<3d", buffer[656:680]) == (1.5e9, 300.0, 40.0)
    assert sampler_fields.read_seen(buffer, 1.6e9) is None
    sampler_fields.write_seen(buffer, 1.5e9, -1, 40)
    assert sampler_fields.read_seen(buffer, 1.5e9) is None


def test_one_field_of_a_reading_is_brought_up_to_date_alone():
    buffer = recorder()
    layout.write_reading(buffer, {"time": 1.5e9, "rss": 7, "managed_claimed": 1})
    layout.write_field(buffer, "managed_claimed", 12345)
    layout.write_field(buffer, "inputs", 0)
    reading = layout.read_reading(buffer)
    assert (reading["rss"], reading["managed_claimed"]) == (7, 12345)
    assert (reading["inputs"], reading["spilled"]) == (0, None)


def test_what_the_sampler_costs_comes_back_and_is_not_known_at_first():
    buffer = recorder()
    assert sampler_fields.read_sampler(buffer) == (None, None)
    sampler_fields.write_sampler(buffer, 0.0125, 0.05)
    assert sampler_fields.read_sampler(buffer) == (0.0125, 0.05)
    assert bytes(buffer[48:56]) == bytes.fromhex("9a9999999999893f")
    header = layout.read_header(buffer)
    assert (header.slots, header.address) == (8, "tcp://a:1")


@pytest.mark.parametrize(
    "value", [0.0, -0.0, -1.0, float("nan"), float("inf"), float("-inf")]
)
def test_nonsense_about_the_sampler_is_not_known(value):
    buffer = recorder()
    sampler_fields.write_sampler(buffer, value, value)
    assert sampler_fields.read_sampler(buffer) == (None, None)
    sampler_fields.write_sampler(buffer, 0.01, value)
    assert sampler_fields.read_sampler(buffer) == (0.01, None)


@pytest.mark.parametrize(
    "value", [-1.0, 2.0**60, 1e300, float("nan"), float("inf"), float("-inf")]
)
def test_a_reading_holds_no_nonsense(value):
    """A recorder may be torn, or written by a worker that is going mad."""
    buffer = recorder()
    layout.write_reading(buffer, {"time": 1.5e9, "rss": value, "last_rest": value})
    reading = layout.read_reading(buffer)
    assert (reading["time"], reading["rss"], reading["last_rest"]) == (
        1.5e9,
        None,
        None,
    )


def test_the_rest_when_last_idle_comes_back():
    buffer = recorder()
    layout.write_reading(buffer, {"time": 1.5e9, "rss": 7, "last_rest": 3})
    assert layout.read_reading(buffer)["last_rest"] == 3
    assert struct.unpack("<d", buffer[520 + 80 : 520 + 88]) == (3.0,)


def test_raw_counters_may_be_negative_where_others_are_not():
    buffer = recorder()
    write(buffer)
    layout.write_counters(buffer, 0, -5, 7, -9)
    assert layout.raw_counters(buffer, 0) == (-5, 7, -9)
    assert layout.read_counters(buffer, 0) == (0, 7, 0)


def test_closing_comes_with_its_reason():
    buffer = recorder()
    layout.write_closing(buffer, "worker-lifetime-reached")
    header = layout.read_header(buffer)
    assert (header.closing, header.reason) == (True, "worker-lifetime-reached")


def test_a_long_address_is_cut():
    header = layout.read_header(recorder(address="tcp://" + "ü" * 300))
    assert header.address == "tcp://" + "ü" * 122


@pytest.mark.parametrize(
    ("field", "offset", "size"),
    [("now", 0, 8), ("key's length", 88, 2), ("rss", 64, 8), ("thread", 48, 8)],
)
def test_the_layout_is_that_of_the_docstring(field, offset, size):
    buffer = recorder()
    write(buffer, 1, "k-1", thread=2**40, rss=2**33)
    layout.write_counters(buffer, 1, 2**50, 2**50, 0)
    start = 4096 + 768 + offset
    found = int.from_bytes(buffer[start : start + size], "little")
    assert (
        found == {"now": 2**50, "key's length": 3, "rss": 2**33, "thread": 2**40}[field]
    )
    assert bytes(buffer[:12]) == b"MEMDASH\n" + struct.pack("<I", 3)


# -- keys ----------------------------------------------------------------------


def test_a_key_that_fits_is_whole():
    buffer = recorder()
    key = "k" * KEY_CAPACITY
    write(buffer, key=key)
    assert (slots_of(buffer)[0].key, slots_of(buffer)[0].digest) == (key, "")


def test_a_key_of_other_characters_that_fits_is_whole_too():
    buffer = recorder()
    write(buffer, key="('größe-☃', 1)")
    (slot,) = slots_of(buffer)
    assert (slot.key, slot.digest) == ("('größe-☃', 1)", "")


def test_a_long_key_is_cut_and_known_by_its_digest():
    buffer = recorder()
    key = "k" * (KEY_CAPACITY + 1)
    write(buffer, key=key)
    (slot,) = slots_of(buffer)
    assert slot.key == "k" * KEY_CAPACITY
    assert slot.digest == layout.key_digest(key).hex() != ""
    assert layout.key_digest(key) != layout.key_digest(key + "k")


@pytest.mark.parametrize("character", ["ü", "☃", "🐘"])
@pytest.mark.parametrize("shift", range(4))
def test_a_long_key_is_cut_between_characters(character, shift):
    buffer = recorder()
    key = "x" * shift + character * KEY_CAPACITY
    write(buffer, key=key)
    (slot,) = slots_of(buffer)
    assert key.startswith(slot.key)
    assert KEY_CAPACITY - 4 < len(slot.key.encode()) <= KEY_CAPACITY
    assert slot.digest == layout.key_digest(key).hex()


def test_a_key_that_is_no_text_at_all_can_be_written():
    buffer = recorder()
    write(buffer, key="broken-\ud800")
    (slot,) = slots_of(buffer)
    assert (slot.key, slot.digest) == (
        "broken-?",
        layout.key_digest("broken-\ud800").hex(),
    )


def test_a_key_of_ten_megabytes_costs_no_more_than_others():
    buffer = recorder()
    keys = ["k" * 10_000_000, "ü" * 5_000_000]
    started = time.thread_time()
    for _ in range(50):
        for key in keys:
            write(buffer, key=key)
    assert time.thread_time() - started < 1.0
    assert slots_of(buffer)[0].key == "ü" * (KEY_CAPACITY // 2)


def test_digests_of_very_long_keys_tell_beginning_end_and_length_apart():
    long = "a" * 200_000
    keys = [long, long + "a", "b" + long[1:], long[:-1] + "b"]
    assert len({layout.key_digest(key) for key in keys}) == 4


# -- torn, truncated, random ---------------------------------------------------


def test_what_is_being_written_is_not_read():
    buffer = recorder()
    write(buffer, 0)
    write(buffer, 1)
    sequence = HEADER_SIZE + 32
    buffer[sequence] |= 1
    assert [slot.index for slot in slots_of(buffer)] == [1]
    layout.write_reading(buffer, {"rss": 5})
    buffer[512] |= 1
    assert layout.read_reading(buffer) is None


def test_a_slot_that_was_torn_by_a_death_can_be_written_again():
    buffer = recorder()
    write(buffer)
    buffer[HEADER_SIZE + 32] |= 1
    write(buffer, key="b-1")
    assert [slot.key for slot in slots_of(buffer)] == ["b-1"]


def test_sequences_start_over_at_their_end():
    buffer = recorder()
    buffer[HEADER_SIZE + 32 : HEADER_SIZE + 40] = b"\xff" * 8
    write(buffer, key="a-1")
    write(buffer, key="b-1")
    assert [slot.key for slot in slots_of(buffer)] in (["b-1"], [])


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, HEADER_SIZE - 1])
def test_a_file_without_a_whole_header_is_refused(size):
    with pytest.raises(RecorderError, match=f"cut short at {size} bytes"):
        layout.read_header(recorder()[:size])


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"X", "this is not a flight recorder"),
        (8, b"\x01", "has format 1; this MemDash reads 3"),
        (8, b"\x02", "has format 2; this MemDash reads 3"),
        (12, b"\x00\x00", "has format"),
        (20, b"\x01", "has format"),
        (16, b"\x00", "claims 0 slots"),
        (18, b"\xff", "claims 16711688 slots"),
    ],
)
def test_a_header_that_cannot_be_is_refused(offset, value, message):
    buffer = recorder()
    buffer[offset : offset + len(value)] = value
    with pytest.raises(RecorderError, match=message):
        layout.read_header(buffer)


def test_a_file_that_is_cut_short_gives_the_slots_it_has():
    buffer = recorder()
    for index in range(SLOTS):
        write(buffer, index)
    cut = buffer[: HEADER_SIZE + 3 * SLOT_SIZE + 100]
    assert layout.read_header(cut).slots == 3
    assert [slot.index for slot in slots_of(cut)] == [0, 1, 2]


def read_everything(buffer):
    """Read a buffer like a nanny; only RecorderError is allowed, and sane slots."""
    try:
        header = layout.read_header(buffer)
    except RecorderError:
        return []
    assert 0 <= header.slots <= layout.MAX_SLOTS
    layout.read_reading(buffer)
    found = list(layout.read_slots(buffer, header.slots))
    for slot in found:
        assert slot.state in (RUNNING, PENDING)
        assert min(slot.now, slot.peak, slot.error, slot.rss, slot.thread) >= 0
        assert slot.peak >= slot.now
        assert math.isfinite(slot.begin)
        assert 0 < len(slot.key.encode()) <= KEY_CAPACITY
    return found


def test_random_bytes_are_no_recorder():
    chance = random.Random(1)
    for _ in range(500):
        size = chance.choice([0, 50, HEADER_SIZE, HEADER_SIZE + 3 * SLOT_SIZE])
        with pytest.raises(RecorderError):
            layout.read_header(memoryview(chance.randbytes(size)))


def test_random_slots_behind_a_good_header_are_no_tasks():
    chance = random.Random(2)
    buffer = recorder()
    for _ in range(3000):
        buffer[HEADER_SIZE:] = chance.randbytes(SLOTS * SLOT_SIZE)
        assert read_everything(buffer) == []


def test_random_slots_that_look_running_are_hardly_ever_tasks():
    chance = random.Random(3)
    buffer = recorder()
    for _ in range(3000):
        buffer[HEADER_SIZE:] = chance.randbytes(SLOTS * SLOT_SIZE)
        for index in range(SLOTS):
            start = layout.slot_offset(index)
            buffer[start + 32 : start + 36] = struct.pack("<I", RUNNING)
        assert read_everything(buffer) == []


def test_flipped_bits_raise_nothing_else_and_invent_no_tasks():
    chance = random.Random(4)
    buffer = recorder()
    layout.write_reading(buffer, {"time": 1.5e9, "rss": 10**8})
    for index in (1, 4):
        write(buffer, index, f"sum-{index}")
    good = bytes(buffer)
    written = [*range(400), *range(512, 650)]
    written += [
        layout.slot_offset(index) + byte for index in (0, 1, 4) for byte in range(100)
    ]
    for _ in range(12_000):
        position = chance.choice(written)
        bit = 1 << chance.randrange(8)
        buffer[position] ^= bit
        found = read_everything(buffer)
        assert {slot.index for slot in found} <= {1, 4}
        assert len(found) >= 1 or position < 64
        buffer[position] ^= bit
    assert bytes(buffer) == good


def test_truncated_files_raise_nothing_else_and_invent_no_tasks():
    chance = random.Random(5)
    buffer = recorder()
    for index in range(SLOTS):
        write(buffer, index, f"sum-{index}")
    sizes = [*range(200), *(chance.randrange(len(buffer)) for _ in range(2500))]
    for size in sizes:
        found = read_everything(buffer[:size])
        assert [slot.key for slot in found] == [
            f"sum-{n}" for n in range(max(0, size - HEADER_SIZE) // SLOT_SIZE)
        ]


def test_a_write_that_a_death_cuts_short_anywhere_is_not_read():
    old, new = recorder(), recorder()
    write(old, key="former-1")
    new[:] = old
    write(new, key="latter-2", begin=1.6e9, rss=7)
    start = HEADER_SIZE
    torn = bytearray(old)
    # counters, then the odd sequence, then the payload byte by byte
    torn[start : start + 32] = bytes(32)
    torn[start + 32] |= 1
    for position in range(40, 99):
        torn[start + position] = new[start + position]
        assert slots_of(memoryview(torn)) == []
    torn[start + 32 : start + 40] = new[start + 32 : start + 40]
    assert [slot.key for slot in slots_of(memoryview(torn))] == ["latter-2"]


def test_what_the_sampler_tells_comes_whole_or_not_at_all():
    buffer = recorder()
    assert sampler_fields.read_told(buffer) == b""
    assert sampler_fields.write_told(buffer, b'[{"key": "sum-1"}]')
    assert sampler_fields.read_told(buffer) == b'[{"key": "sum-1"}]'
    buffer[1024 + 10] = 0  # half of it is of another write
    assert sampler_fields.read_told(buffer) == b""
    assert not sampler_fields.write_told(buffer, b"x" * 2043)


def test_threads_come_back_by_both_of_their_names():
    buffer = recorder()
    assert sampler_fields.read_threads(buffer) == {}
    sampler_fields.write_thread(buffer, 0, 2**63, 71)
    sampler_fields.write_thread(buffer, 63, 5, 72)
    sampler_fields.write_thread(buffer, 64, 6, 73)
    assert sampler_fields.read_threads(buffer) == {2**63: 71, 5: 72}
    assert next(layout.read_slots(buffer, 1), None) is None
