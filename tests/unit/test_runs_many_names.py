"""A record with a hundred thousand names of the worst kind opens and answers."""

import json

import pytest
import stories
from recorded_runs import Segment, write_run

from dask_memdash.runs import packing
from dask_memdash.runs.directory import segment_of
from dask_memdash.runs.reading import RunReader
from dask_memdash.store.all_rows import all_rows
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.views.prefix_columns import TASKS
from dask_memdash.views.report import render_report
from dask_memdash.views.tabular import TableQuery, select

#: Beginnings of names: for a spreadsheet, a page, SQL, a terminal and a path.
EVIL = (
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "'; DROP TABLE prefix_states; --",
    "\x1b[2J\x00\x7f",
    "../../etc/passwd",
    "\u202e\ud800".encode("utf-8", "replace").decode(),
    "x" * 3_000,
)
NUMBER = 100_000


@pytest.mark.slow
def test_a_hundred_thousand_hostile_names(tmp_path):
    live = stories.after_incident()
    path = write_run(tmp_path / "20260801-100000-abcdef", live)
    answer = packing.pack(live.prefix(live.prefixes()[0]["prefix"]))
    segment = Segment(path, number=2, opened=stories.NOW - 10)
    segment.db.execute("BEGIN")
    for n in range(NUMBER):
        segment.put(
            "prefix_states",
            time=stories.NOW,
            prefix=f"{EVIL[n % len(EVIL)]}{n}",
            managed=n,
            spilled=0,
            executing=0,
            count=1,
            running=0,
            answer=answer,
        )
    segment.db.execute("COMMIT")
    segment.close(stories.NOW)
    assert segment_of(segment.path.name)
    reader = RunReader(path)
    store = RecordedStore(reader)
    assert store.prefix_totals()["prefixes"] >= NUMBER
    assert len(store.prefixes(25)) == 25
    assert len(all_rows(store, 25, 50_000)) == 25
    found = select(TASKS, store, TableQuery(search="script"))
    assert found.total >= 1
    json.dumps(store.prefixes(100), allow_nan=False)
    report = render_report(store)
    assert "<script>alert(1)" not in report
    assert reader.problems == {}
    reader.close()
