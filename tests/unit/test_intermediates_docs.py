"""docs/storage.md: its reader reads, and its store passes the suite of every store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dask
import pytest
from memory_suite import MemorySuite

from dask_memdash import open_persisted, persist
from dask_memdash.intermediates.object_format import encode

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


def of_the_page() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    return names


NAMES = of_the_page()

#: What the page's store leaves out, since it is meant to be read in a minute.
NOT_ITS_OWN = ("name_leads_out", "never_an_old_one", "names_sizes_and_times")


class TestTheStoreOfThePage(MemorySuite):
    @pytest.fixture
    def memory(self, request):
        if any(part in request.node.name for part in NOT_ITS_OWN):
            pytest.skip("the example checks no names and notes no times")
        return NAMES["DictMemory"]()


def test_the_reader_of_the_page_reads_objects():
    content = b"".join(encode(("x", 0), {"a": [1, 2], "b": b"raw"}))
    assert NAMES["read"](content) == {"a": [1, 2], "b": b"raw"}


def test_collections_can_be_persisted_into_the_store_of_the_page():
    da = pytest.importorskip("dask.array")
    memory = NAMES["DictMemory"]()
    with dask.config.set(scheduler="synchronous"):
        persist(da.arange(9, chunks=3), memory=memory, name="x")
        assert open_persisted(memory, "x").sum().compute() == 36
