"""A slot's largest block: its layout, and reading it torn, truncated or random."""

from __future__ import annotations

import random
import struct

import pytest

from dask_memdash.flight import format as layout
from dask_memdash.flight.block_format import Block, read_block, same_block
from dask_memdash.flight.reader import RecorderReader

T = 1.7e9
BLOCK = Block(300_000_000, "ada/model.py", 42, "regrid", "np.concatenate")


def record(
    block: Block = BLOCK, *, sequence: int = 2, flags: int = 0, lengths: tuple = ()
) -> bytes:
    """Write what native code writes, by the docstring."""
    texts = [block.file.encode(), block.function.encode(), block.called.encode()]
    sizes = lengths or [len(text) for text in texts]
    head = struct.pack("<QqIIBBB", sequence, block.size, block.line or 0, flags, *sizes)
    return (head.ljust(32, b"\0") + b"".join(texts)).ljust(256, b"\xee")


def slot(raw: bytes) -> memoryview:
    return memoryview(bytearray(bytes(512) + raw))


def recorder(raw: bytes) -> memoryview:
    buffer = memoryview(bytearray(layout.file_size(2)))
    layout.write_header(buffer, slots=2, pid=7, created=T, address="tcp://a:1")
    layout.write_task(
        buffer, 1, state=1, flags=0, thread=5, begin=T, rss=2**27, key="hog-1"
    )
    buffer[4096 + 768 + 512 : 4096 + 768 + 768] = raw
    return buffer


def test_a_block_is_read_with_its_line() -> None:
    assert read_block(slot(record()), 0) == BLOCK
    buffer = recorder(record())
    (task,) = layout.read_slots(buffer, 2)
    assert task.block == BLOCK
    assert RecorderReader(buffer).tasks() == [task]


def test_a_task_that_begins_has_no_block_of_the_one_before_it() -> None:
    buffer = recorder(record())
    layout.write_task(
        buffer, 1, state=1, flags=0, thread=5, begin=T, rss=2**27, key="next-1"
    )
    (task,) = layout.read_slots(buffer, 2)
    assert (task.key, task.block) == ("next-1", None)


@pytest.mark.parametrize(
    "raw",
    [
        bytes(256),
        record(sequence=0),
        record(sequence=3),
        record(Block(0, "a.py", 1, "f", "")),
        record(Block(-5, "a.py", 1, "f", "")),
        record(Block(2**60, "a.py", 1, "f", "")),
        record(Block(5, "a.py", 2**31, "f", "")),
        record(flags=2),
        record(lengths=(97, 0, 0)),
        record(lengths=(0, 65, 0)),
        record(lengths=(0, 0, 65)),
        record(Block(5, "ü" * 48, 1, "f", ""), lengths=(95, 1, 0)),
        record(lengths=(96, 64, 64)),  # into what was never written
        record()[:255],
        b"",
    ],
)
def test_what_makes_no_sense_is_no_block(raw: bytes) -> None:
    assert read_block(slot(raw), 0) is None


def test_the_task_is_told_where_its_block_makes_no_sense() -> None:
    (task,) = layout.read_slots(recorder(record(sequence=5)), 2)
    assert (task.key, task.block) == ("hog-1", None)


def test_two_copies_that_differ_have_a_task_and_no_block() -> None:
    before, now = recorder(record()), recorder(record(sequence=4))
    start = layout.slot_offset(1)
    assert layout.same_task(before, now, 1)
    assert same_block(before, before, start)
    assert not same_block(before, now, start)
    assert not same_block(before, now[:-1], start)


def test_an_unknown_line_is_none_and_not_0() -> None:
    outside = Block(5, "", None, "", "")
    assert read_block(slot(record(outside, flags=1)), 0) == outside


def test_random_and_flipped_bytes_raise_nothing_and_invent_no_long_text() -> None:
    chance = random.Random(5)
    whole = record()
    for number in range(20_000):
        raw = bytearray(whole)
        if number % 4 == 0:
            raw = bytearray(chance.randbytes(256))
        for _ in range(chance.randrange(4)):
            raw[chance.randrange(256)] = chance.randrange(256)
        block = read_block(slot(bytes(raw[: chance.choice((256, 256, 200))])), 0)
        if block is not None:
            assert 0 < block.size < 2**56
            assert len(block.file.encode()) <= 96
            assert len(block.function.encode()) <= 64
            assert len(block.called.encode()) <= 64
