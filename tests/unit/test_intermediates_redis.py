"""RedisMemory passes the suite of every memory, on a real server of the test's own."""

from __future__ import annotations

import pickle
import sys
import uuid

import dask
import pytest
from memory_suite import MemorySuite
from stores import free_port, need_packages, redis_server

from dask_memdash import RedisMemory, open_persisted, persist
from dask_memdash.errors import MissingError, StorageError, UnreachableError
from dask_memdash.intermediates import redis_memory, retry
from dask_memdash.intermediates.inventory import collect, remove, take_stock, verify

da = pytest.importorskip("dask.array")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def memory(url):
    made = RedisMemory(url, prefix=uuid.uuid4().hex)
    yield made
    made._client.close()


class TestRedis(MemorySuite):
    @pytest.fixture
    def memory(self, memory):
        return memory


def test_a_collection_is_persisted_opened_verified_and_removed(memory):
    with dask.config.set(scheduler="synchronous"):
        persist(da.arange(40, chunks=10), memory=memory, name="x")
        again = pickle.loads(pickle.dumps(memory))
        assert open_persisted(again, "x").sum().compute() == 780
        again._client.close()
    (found,) = take_stock(memory).sets
    assert (found.name, found.stored, found.finished) == ("x", 4, True)
    assert verify(memory) == (4, [])
    assert collect(memory, 0.0).objects == 0
    assert remove(memory, "x").objects == 4
    assert list(memory.list()) == []


def test_what_the_server_evicted_is_missing_and_not_listed(memory):
    memory.put("objects/a", [b"x"])
    memory.put("objects/b", [b"y"])
    memory._client.delete(memory._full("objects/a"))
    assert [entry.name for entry in memory.list()] == ["objects/b"]
    with pytest.raises(MissingError, match="evicted"):
        memory.get("objects/a")


def test_a_server_that_does_not_answer_is_unreachable(monkeypatch):
    need_packages("redis")
    monkeypatch.setitem(retry.with_retries.__kwdefaults__, "first_wait", 0.0)
    memory = RedisMemory(f"redis://:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(UnreachableError, match="tried 5 times") as caught:
        memory.get("objects/a")
    assert "secret" not in str(caught.value) + repr(memory)


def test_a_value_that_redis_cannot_take_is_said(memory, monkeypatch):
    monkeypatch.setattr(redis_memory, "MAX_VALUE", 10)
    with pytest.raises(StorageError, match="Take smaller chunks, or FSMemory"):
        memory.put("objects/a", [b"x" * 11])


def test_a_missing_package_is_named_with_the_line_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(StorageError, match="pip install redis"):
        RedisMemory("redis://127.0.0.1/0")


@pytest.mark.parametrize("wrong", ["", "a b", "a:b", "x" * 101])
def test_prefixes_are_checked(wrong):
    with pytest.raises(StorageError, match="is no name"):
        RedisMemory("redis://127.0.0.1/0", prefix=wrong)


def test_an_address_of_no_redis_is_refused():
    need_packages("redis")
    with pytest.raises(StorageError, match="no address of a Redis server"):
        RedisMemory("http://127.0.0.1/0")
