"""The RSS of a process, by native code and without."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dask_memdash.measure import rss
from dask_memdash.measure.rss import PAGE, RssReader

MB = 1_000_000
DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def gone():
    """Return the pid of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_rss_is_read_in_pages_from_statm():
    reader = RssReader(17, str(DATA / "proc"))
    assert reader.read() == 25_600 * PAGE
    reader.close()
    assert reader.read() is None
    reader.close()


@pytest.mark.parametrize(
    "text", ["", "\n", "5", "5 ", "5 x 1", "5 0 1", " ", "x" * 5000]
)
@pytest.mark.parametrize("way", ["native", "python"])
def test_a_statm_that_makes_no_sense_is_no_rss(tmp_path, monkeypatch, text, way):
    if way == "python":
        monkeypatch.setattr(rss, "_native_rss", None)
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "statm").write_text(text)
    reader = RssReader(17, str(tmp_path))
    assert reader.read() is None
    reader.close()


def test_rss_is_the_same_with_and_without_native_code(monkeypatch):
    if rss._native_rss is None:
        pytest.skip("the extension was not built")
    reader = RssReader(17, str(DATA / "proc"))
    native = reader.read()
    monkeypatch.setattr(rss, "_native_rss", None)
    assert reader.read() == native == 25_600 * PAGE
    reader.close()


def test_native_code_refuses_what_is_no_file():
    if rss._native_rss is None:
        pytest.skip("the extension was not built")
    assert rss._native_rss(-1) is None
    assert rss._native_rss(10**6) is None
    with pytest.raises(TypeError):
        rss._native_rss("5")
    with pytest.raises(OverflowError):
        rss._native_rss(2**80)


def test_rss_agrees_with_psutil():
    reader = RssReader(os.getpid())
    expected = psutil.Process().memory_info().rss
    assert reader.read() == pytest.approx(expected, rel=0.02)
    reader.close()


def test_rss_is_read_through_psutil_where_there_is_no_proc(tmp_path):
    reader = RssReader(os.getpid(), str(tmp_path))
    expected = psutil.Process().memory_info().rss
    assert reader.read() == pytest.approx(expected, rel=0.02)
    reader.close()
    assert reader.read() is None


def test_a_process_that_is_gone_has_no_rss(gone, tmp_path):
    assert RssReader(gone).read() is None
    assert RssReader(gone, str(tmp_path)).read() is None


def test_a_process_that_ends_while_it_is_read_has_no_rss_any_more():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    reader = RssReader(process.pid)
    assert reader.read() > 0
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert reader.read() is None, "a zombie holds nothing"
    process.communicate()
    assert reader.read() is None
    reader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_memory_map_is_told_from_the_heap(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(50 * MB))
    reader = RssReader(os.getpid())
    before = reader.parts()
    assert sum(before) == pytest.approx(reader.read(), rel=0.05)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=1) as mapped:
        assert sum(mapped[::4096]) == 0
        during = reader.parts()
        # not from what the allocator of a long-lived process has free
        block = mmap.mmap(-1, 50 * MB, flags=mmap.MAP_PRIVATE)
        block.write(b"." * (50 * MB))
        later = reader.parts()
    assert during.file - before.file == pytest.approx(50 * MB, rel=0.1)
    assert abs(during.anon - before.anon) < 10 * MB
    assert len(block) + during.anon == pytest.approx(later.anon, rel=0.1)
    reader.close()
    assert reader.parts() is None
