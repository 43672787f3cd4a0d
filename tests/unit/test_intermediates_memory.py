"""Every memory passes one suite; and how FSMemory tells missing from unreachable."""

from __future__ import annotations

import errno
import os
import pickle
import uuid

import pytest
from memory_suite import MemorySuite
from stores import bad_day, need_packages, s3_options, s3_server

from dask_memdash.errors import MissingError, StorageError, UnreachableError
from dask_memdash.intermediates import retry
from dask_memdash.intermediates.fs_memory import FSMemory
from dask_memdash.intermediates.memory import key_text, object_id
from dask_memdash.intermediates.worker_memory import WorkerMemory


@pytest.fixture(scope="module")
def s3():
    with s3_server() as endpoint:
        yield s3_options(endpoint)


@pytest.fixture
def quick(monkeypatch):
    """Let no retry wait."""
    monkeypatch.setitem(retry.with_retries.__kwdefaults__, "first_wait", 0.0)


class TestLocalFiles(MemorySuite):
    @pytest.fixture
    def memory(self, tmp_path):
        return FSMemory(tmp_path / "store")


class TestInProcess(MemorySuite):
    @pytest.fixture
    def memory(self):
        return FSMemory(f"memory://{uuid.uuid4().hex}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of moto and botocore themselves
class TestS3(MemorySuite):
    @pytest.fixture
    def memory(self, s3):
        return FSMemory(f"s3://bucket/{uuid.uuid4().hex}", s3)

    def test_a_bucket_that_is_not_there_is_unreachable_not_missing(self, s3):
        with pytest.raises(UnreachableError):
            FSMemory("s3://nowhere/store", s3).get("objects/a")

    def test_a_server_that_does_not_answer_is_unreachable(self, quick):
        need_packages("s3fs")
        options = s3_options("http://127.0.0.1:9")
        options["config_kwargs"] = {"retries": {"max_attempts": 0}}
        with pytest.raises(UnreachableError, match="tried"):
            FSMemory("s3://bucket/store", options).get("objects/a")

    @pytest.mark.slow
    def test_a_server_on_a_bad_day_is_asked_until_it_answers(self, s3):
        endpoint = s3["client_kwargs"]["endpoint_url"]
        with bad_day(endpoint, lambda number: number % 3 == 1, late=0.05) as worse:
            memory = FSMemory(f"s3://bucket/{uuid.uuid4().hex}", s3_options(worse))
            for number in range(6):
                memory.put(f"objects/{number}", [bytes([number]) * 10_000])
            for number in range(6):
                content = bytes(memory.get(f"objects/{number}"))
                assert content == bytes([number]) * 10_000
            assert len(list(memory.list("objects/"))) == 6

    def test_a_server_that_always_fails_is_unreachable_not_missing(self, s3, quick):
        endpoint = s3["client_kwargs"]["endpoint_url"]
        options = s3_options(endpoint)
        FSMemory("s3://bucket/always", options).put("objects/a", [b"x"])
        with bad_day(endpoint, lambda number: True, late=0.0) as worse:
            options = s3_options(worse)
            options["config_kwargs"] = {"retries": {"max_attempts": 0}}
            memory = FSMemory("s3://bucket/always", options, create=False)
            for call in (lambda: memory.get("objects/a"), memory.list):
                with pytest.raises(UnreachableError):
                    call()


class TestWorkersMemory(MemorySuite):
    @pytest.fixture
    def memory(self):
        return WorkerMemory()


# -- missing and unreachable ---------------------------------------------------


def test_a_store_that_was_renamed_away_is_unreachable_and_comes_back(tmp_path, quick):
    memory = FSMemory(tmp_path / "store")
    memory.put("objects/a", [b"x"])
    (tmp_path / "store").rename(tmp_path / "away")
    for call in (
        lambda: memory.get("objects/a"),
        lambda: memory.put("objects/b", [b"y"]),
        lambda: memory.exists("objects/a"),
        memory.list,
        lambda: memory.delete("objects/a"),
    ):
        with pytest.raises(UnreachableError, match="was moved, is not mounted"):
            call()
    assert not (tmp_path / "store").exists()
    (tmp_path / "away").rename(tmp_path / "store")
    assert bytes(memory.get("objects/a")) == b"x"


def test_a_worker_makes_no_store_of_its_own(tmp_path):
    memory = pickle.loads(pickle.dumps(FSMemory(tmp_path / "elsewhere")))
    with pytest.raises(UnreachableError, match="must share it"):
        memory.put("objects/a", [b"x"])
    assert list(tmp_path.iterdir()) == []


def test_a_worker_notices_that_it_sees_another_store(tmp_path):
    memory = FSMemory(tmp_path / "store")
    memory.create()
    sent = pickle.loads(pickle.dumps(memory))
    (tmp_path / "store").rename(tmp_path / "the clients")
    FSMemory(tmp_path / "store").create()
    sent.store_id = memory.store_id
    from dask_memdash.intermediates import fs_memory

    fs_memory._SEEN.clear()  # as in another process
    with pytest.raises(UnreachableError, match="sees another store"):
        sent.put("objects/a", [b"x"])


def test_reading_makes_no_store(tmp_path):
    for call in ("get", "exists", "delete"):
        with pytest.raises(UnreachableError, match="no store at"):
            getattr(FSMemory(tmp_path / "store"), call)("objects/a")
    assert list(tmp_path.iterdir()) == []


def test_a_new_store_is_for_its_user_alone(tmp_path):
    memory = FSMemory(tmp_path / "store")
    memory.put("objects/a", [b"x"])
    modes = {
        path.relative_to(tmp_path).as_posix(): oct(path.stat().st_mode & 0o777)
        for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]
    }
    assert modes == {
        "store": "0o700",
        "store/memdash-store": "0o600",
        "store/objects": "0o700",
        "store/objects/a": "0o600",
    }


def test_a_folder_with_other_things_in_it_is_not_taken_for_a_damaged_store(tmp_path):
    (tmp_path / "memdash-store").write_text("hello")
    with pytest.raises(StorageError, match="damaged, or no store"):
        FSMemory(tmp_path).put("objects/a", [b"x"])


# -- refusals and retries ------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "it is full"),
        (errno.EROFS, "it is read only"),
        (errno.EACCES, "permission denied"),
        (errno.EDQUOT, "the quota is used up"),
    ],
)
def test_a_refusal_is_said_at_once_and_leaves_nothing(
    tmp_path, monkeypatch, number, said
):
    memory = FSMemory(tmp_path / "store")
    memory.create()
    calls = []

    def refuse(*_):
        calls.append(1)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "writev", refuse)
    with pytest.raises(StorageError, match=said) as caught:
        memory.put("objects/a", [b"x"])
    assert not isinstance(caught.value, UnreachableError)
    assert len(calls) == 1
    left = sorted(path.name for path in (tmp_path / "store").rglob("*"))
    assert left == ["memdash-store", "objects"]


def test_a_busy_store_is_asked_again_with_growing_random_waits():
    answers = [OSError(errno.EIO, "busy"), TimeoutError("late"), "done"]
    waits = []

    def call():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    done = retry.with_retries(
        call, "it", sleep=waits.append, draw=lambda low, high: (low + high) / 2
    )
    assert done == "done"
    assert waits == [0.1, 0.2]


def test_retries_end():
    calls = []

    def call():
        calls.append(1)
        raise OSError(errno.EIO, "no answer")

    with pytest.raises(UnreachableError, match=r"tried 5 times\. Whether"):
        retry.with_retries(call, "s3://b cannot be read", sleep=lambda _: None)
    assert len(calls) == 5


def test_a_store_whose_own_tries_take_long_is_not_asked_as_often():
    now, calls = [0.0], []

    def call():
        calls.append(1)
        now[0] += 8.0
        raise OSError(errno.EIO, "no answer")

    with pytest.raises(UnreachableError, match=r"tried 2 times\. Whether"):
        retry.with_retries(call, "it", sleep=lambda _: None, clock=lambda: now[0])
    assert len(calls) == 2


def test_missing_is_an_answer_and_is_not_asked_again(tmp_path):
    memory = FSMemory(tmp_path / "store")
    memory.put("objects/a", [b"x"])
    with pytest.raises(MissingError, match="only what is not stored is computed"):
        memory.get("objects/b")


# -- addresses -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("/a/b", "file:///a/b"),
        ("/a/../b/", "file:///b"),
        ("file:///a/b", "file:///a/b"),
        ("memory://x/", "memory://x"),
    ],
)
def test_an_address_means_the_same_everywhere(given, whole):
    assert FSMemory(given).url == whole


def test_a_relative_address_is_made_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert FSMemory("store").url == f"file://{tmp_path}/store"


def test_a_missing_package_is_named_with_the_line_to_install_it(monkeypatch):
    import fsspec.core

    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(StorageError, match="pip install s3fs"):
        FSMemory("s3://bucket/store")


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "", "  "])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(StorageError, match="address"):
        FSMemory(url)


def test_passwords_in_an_address_are_not_shown():
    memory = FSMemory("memory://me:secret@host/x")
    assert "secret" not in repr(memory)
    assert "secret" not in memory.address


@pytest.mark.parametrize(
    "wrong",
    [
        *({"ram": "much"}, {"ram": 2}, {"ram": "200%"}, {"ttl": "soon"}, {"ttl": -1}),
        *({"version": ""}, {"version": "x" * 200}, {"version": "a\nb"}),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(StorageError):
        FSMemory(tmp_path, **wrong)


def test_arguments_are_read_as_written(tmp_path):
    memory = FSMemory(tmp_path, ram="25%", ttl="7d", version=3)
    assert (memory.ram, memory.ttl, memory.version) == (0.25, 604_800.0, "3")
    assert FSMemory(tmp_path, ram="2 GiB", ttl=None).ram == 2**31
    assert FSMemory(tmp_path, ttl=90).ttl == 90.0


def test_equal_memories_have_equal_tokens(tmp_path):
    from dask.base import tokenize

    one, two = FSMemory(tmp_path), FSMemory(str(tmp_path), ttl="1d")
    other = FSMemory(tmp_path, version="2")
    assert one == two
    assert tokenize(one) == tokenize(two)
    assert one != other
    assert tokenize(one) != tokenize(other)


# -- names of objects ----------------------------------------------------------


def test_keys_have_one_text_in_every_session():
    numpy = pytest.importorskip("numpy")
    assert key_text(("x", numpy.int64(3), (b"\0", "é"))) == r"('x', 3, (b'\x00', 'é'))"


def test_an_object_is_named_by_its_key():
    assert object_id(("x", 0)) == "17acd306ae530586efac52534b216e664ebe34f9"
    assert object_id(("x", 0), "ab12") == object_id(("x", 0)) + "-ab12"
    assert object_id("../../etc\0\ud800").isalnum()
    assert len(object_id("x" * 5000)) == 40
