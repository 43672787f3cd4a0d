"""What every memory must do: one suite, which each kind of store is run through.

A store of your own passes if it passes these: give a class of tests a fixture `memory`
that returns a fresh one.
"""

from __future__ import annotations

import threading

import pytest

from dask_memdash.errors import MissingError, NameTakenError, StorageError
from dask_memdash.intermediates.memory import Memory


def listed(memory, prefix=""):
    return {entry.name: entry.size for entry in memory.list(prefix)}


class MemorySuite:
    def test_it_has_the_five_methods(self, memory):
        assert isinstance(memory, Memory)

    def test_what_was_put_is_got(self, memory):
        memory.put("objects/a", [b"ab", bytearray(b"cd"), memoryview(b"ef")])
        assert bytes(memory.get("objects/a")) == b"abcdef"

    def test_frames_may_be_empty_or_none_at_all(self, memory):
        memory.put("objects/a", [b"", b"x", b""])
        memory.put("objects/b", [])
        assert bytes(memory.get("objects/a")) == b"x"
        assert bytes(memory.get("objects/b")) == b""

    def test_many_frames_and_a_large_one_come_back_in_order(self, memory):
        frames = [bytes([number % 256]) * 7 for number in range(3000)]
        frames.append(b"z" * 3_000_000)
        memory.put("objects/many", frames)
        assert bytes(memory.get("objects/many")) == b"".join(frames)

    def test_a_second_put_replaces(self, memory):
        memory.put("objects/a", [b"longer than the next"])
        memory.put("objects/a", [b"short"])
        assert bytes(memory.get("objects/a")) == b"short"

    def test_a_new_name_is_given_once(self, memory):
        memory.put("names/a", [b"first"], new=True)
        with pytest.raises(NameTakenError):
            memory.put("names/a", [b"second"], new=True)
        assert bytes(memory.get("names/a")) == b"first"

    def test_of_many_writers_of_a_new_name_one_wins_whole(self, memory):
        memory.put("objects/there", [b""])
        outcomes, barrier = [], threading.Barrier(6)

        def write(number):
            barrier.wait(20)
            try:
                memory.put("names/a", [bytes([number]) * 5000] * 3, new=True)
            except NameTakenError:
                return
            outcomes.append(number)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = outcomes
        assert bytes(memory.get("names/a")) == bytes([winner]) * 15_000

    def test_missing_is_said_as_missing(self, memory):
        memory.put("objects/a", [b"x"])
        with pytest.raises(MissingError, match="objects/b"):
            memory.get("objects/b")

    def test_exists_tells_what_is_there(self, memory):
        memory.put("objects/a", [b"x"])
        assert memory.exists("objects/a") is True
        assert memory.exists("objects/b") is False
        assert memory.exists("names/a") is False

    def test_a_listing_has_names_sizes_and_times(self, memory):
        memory.put("objects/a", [b"x"])
        memory.put("objects/ab", [b"xyz"])
        memory.put("names/c", [b"xy"])
        assert listed(memory) == {"objects/a": 1, "objects/ab": 3, "names/c": 2}
        assert listed(memory, "objects/") == {"objects/a": 1, "objects/ab": 3}
        assert listed(memory, "objects/ab") == {"objects/ab": 3}
        assert listed(memory, "drafts/") == {}
        assert all(entry.modified > 1_600_000_000 for entry in memory.list())

    def test_a_listing_is_never_an_old_one(self, memory):
        for number in range(4):
            memory.put(f"objects/{number}", [b"x"])
            assert len(listed(memory, "objects/")) == number + 1
        memory.delete("objects/0")
        assert "objects/0" not in listed(memory, "objects/")

    def test_deleting_is_final_and_may_be_repeated(self, memory):
        memory.put("objects/a", [b"x"])
        memory.delete("objects/a")
        memory.delete("objects/a")
        assert memory.exists("objects/a") is False
        with pytest.raises(MissingError):
            memory.get("objects/a")

    @pytest.mark.parametrize(
        "name",
        [
            *("../a", "objects/../../a", "/etc/passwd", "objects/", "a\0b", "", "a\nb"),
            *("x" * 300, "objects/a/b", ".hidden", "objects/.hidden"),
        ],
    )
    def test_no_name_leads_out_of_the_store(self, memory, name):
        memory.put("objects/a", [b"x"])
        with pytest.raises(StorageError):
            memory.put(name, [b"x"])
        with pytest.raises(StorageError):
            memory.get(name)
        with pytest.raises(StorageError):
            memory.delete(name)

    def test_what_is_got_belongs_to_the_caller(self, memory):
        memory.put("objects/a", [b"abc"])
        first = memory.get("objects/a")
        if not memoryview(first).readonly:
            first[0] = 0
        assert bytes(memory.get("objects/a")) == b"abc"
