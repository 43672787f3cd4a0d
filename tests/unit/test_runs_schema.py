"""The tables of a recorded run: they can be made, documented, queried and packed."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dask_memdash.runs import describe, packing, schema, tables

WORKER = {"address": "tcp://10.0.0.1:4000", "name": "a", "breakdown": {"process": 1}}


@pytest.fixture
def segment():
    connection = sqlite3.connect(":memory:")
    for statement in schema.statements():
        connection.execute(statement)
    yield connection
    connection.close()


def test_a_segment_says_what_it_is(segment):
    assert segment.execute("PRAGMA user_version").fetchone() == (1,)
    assert segment.execute("PRAGMA application_id").fetchone() == (0x444D5252,)


def test_indexes_can_be_made(segment):
    for statement in schema.INDEXES:
        segment.execute(statement)


@pytest.mark.parametrize("table", tables.TABLES, ids=lambda table: table.name)
def test_rows_can_be_written_and_columns_are_told(segment, table):
    segment.execute(table.insert, [None] * len(table.columns))
    names = [row[1] for row in segment.execute(f"PRAGMA table_info({table.name})")]
    assert names == [column.name for column in table.columns]
    assert all(column.text for column in table.columns)


def test_the_parts_of_a_breakdown_are_columns():
    columns = [column.name for column in schema.BY_NAME["breakdown"].columns]
    assert columns == ["time", "process", *tables.FIGURES]


@pytest.mark.parametrize("view", schema.VIEWS, ids=lambda view: view.name)
def test_views_answer_when_there_is_nothing(segment, view):
    assert segment.execute(f"SELECT * FROM {view.name}").fetchall() == []


def test_peaks_shows_the_newest_figures_of_each_prefix(segment):
    names = [column.name for column in schema.BY_NAME["prefix_states"].columns]
    for time, prefix, p95 in ((1.0, "load", 10), (2.0, "load", 30), (1.0, "sum", 20)):
        row = dict.fromkeys(names) | {"time": time, "prefix": prefix, "peak_p95": p95}
        segment.execute(schema.BY_NAME["prefix_states"].insert, list(row.values()))
    found = segment.execute("select prefix, p95 from peaks order by p95 desc")
    assert found.fetchall() == [("load", 30), ("sum", 20)]


def test_answers_are_packed_and_unpacked():
    assert packing.unpack(packing.pack(WORKER)) == WORKER
    assert packing.unpack(packing.to_json(WORKER)) == WORKER
    kept = bytes.fromhex(packing.DICTIONARY.hex())
    assert packing.unpack(packing.pack(WORKER), kept) == WORKER


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_damaged_answer_is_a_value_error(cut):
    with pytest.raises(ValueError, match="answer"):
        packing.unpack(packing.pack(WORKER)[:cut])


def test_names_of_any_kind_survive():
    hostile = {"name": "\ud800\x00'\"; drop table workers; --\U0001f600"}
    assert packing.unpack(packing.pack(hostile)) == hostile


def test_schema_and_directory_load_no_sqlite():
    code = (
        "import sys, dask_memdash.runs.schema, dask_memdash.runs.directory; "
        "print('sqlite3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_page_says_what_the_tables_say():
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    assert page == describe.page(page), (
        "run: python -m dask_memdash.runs.describe docs/runs.md"
    )
