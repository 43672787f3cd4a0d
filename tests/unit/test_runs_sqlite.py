"""Records written, read and killed with SQLite of several versions, in real processes.

SQLite 3.7.0 to 3.51.2 can damage a log where two connections write or checkpoint, so
that only the writer's may.  Tried are the SQLite of this Python, the newer one that the
package ``pysqlite3`` has, and those in the directories that MEMDASH_SQLITES names
(separated by colons; each holds a ``libsqlite3.so.0``).
"""

import hashlib
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)

#: What makes a process use a certain SQLite: its environment, and a first line.
OWN = ({}, "")
NEWER = ({}, "import sys, pysqlite3 as sqlite; sys.modules['sqlite3'] = sqlite\n")
OTHERS = {
    Path(where).name: ({"LD_LIBRARY_PATH": where}, "")
    for where in os.environ.get("MEMDASH_SQLITES", "").split(":")
    if where
}
SQLITES = {"own": OWN, "newer": NEWER, **OTHERS}

#: Writes and closes segments as fast as it can, and says how far it is.
WRITES = """
import sqlite3, sys, time
from pathlib import Path
from dask_memdash.runs.directory import Manifest
from dask_memdash.runs.writer import Writer
run = Path(sys.argv[1])
run.mkdir()
manifest = Manifest("20260101-000000-abcdef", time.time())
writer = Writer(manifest, lambda: (run, None), limit=10**9, each=0.01, close_after=0.5)
writer.start()
print(sqlite3.sqlite_version, flush=True)
n = 0
while not writer.texts():
    if not writer._waiting:
        # So that segments are wholly written only now and then.
        writer.put([("pauses", (k, float(n), None)) for k in range(2000)])
        n += 1
        print(n, flush=True)
    time.sleep(0.005)
print(writer.texts(), flush=True)
"""

#: Reads all there is again and again, and holds a transaction open now and then.
READS = """
import os, sqlite3, sys
from itertools import count
from dask_memdash.errors import RunError
from dask_memdash.runs.reading import RunReader
print(sqlite3.sqlite_version, flush=True)
held = None
for n in count():
    try:
        reader = RunReader(sys.argv[1])
    except RunError:
        continue
    rows = [reader.ask(s, "SELECT count(*) FROM pauses") for s in reader.files("main")]
    damaged = [why for why in reader.problems.values() if "damaged" in why]
    assert not damaged, reader.problems
    for segment in reader.files("main")[:1] if n % 20 == 0 else ():
        if held is not None:
            held.close()
        try:
            held = segment.connect()
        except RunError:  # it was closed just now
            held = None
        else:
            held.execute("BEGIN").execute("SELECT count(*) FROM pauses").fetchall()
    reader.close()
    print(sum(told[0][0] for told in rows if told), flush=True)
"""

#: Says how many rows there are, and whether SQLite finds any file damaged.
LOOKS = """
import sqlite3, sys
from dask_memdash.runs.reading import RunReader
reader = RunReader(sys.argv[1])
rows, kept = 0, set()
for segment in reader.files():
    assert reader.ask(segment, "PRAGMA integrity_check") == [("ok",)], segment.path
    found = reader.ask(segment, "SELECT began, count(*) FROM pauses GROUP BY began")
    rows += sum(many for _, many in found)
    kept |= {many for _, many in found}
assert not reader.problems, reader.problems
reader.close()
print(rows, kept, len(reader.files("main")))
"""


def run_with(which, code, *arguments):
    """Start a process on a version of SQLite."""
    if which == "newer":
        pytest.importorskip("pysqlite3")
    environment, first = SQLITES[which]
    return subprocess.Popen(
        [sys.executable, "-c", first + code, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def version(process):
    return tuple(map(int, process.stdout.readline().split(".")))


@pytest.mark.parametrize(
    ("writes", "reads"),
    [pair for pair in product(SQLITES, SQLITES) if {*pair} != {"own"}],
)
def test_a_record_lives_through_readers_and_a_kill(tmp_path, writes, reads):
    run = tmp_path / "run"
    writer = run_with(writes, WRITES, run)
    reader = run_with(reads, READS, run)
    try:
        assert "newer" not in (writes, reads) or max(
            version(writer), version(reader)
        ) >= (3, 51, 3)
        until(lambda: len(list(run.glob("0*-main.sqlite"))) >= 4)
        assert reader.poll() is None
    finally:
        for process in (writer, reader):
            process.kill()
        told, seen = (one.communicate()[0].split() for one in (writer, reader))
    assert all(word.isdigit() or "." in word for word in told), told
    files = [*run.glob("live-*.sqlite"), *run.glob("live-*.sqlite-wal")]
    assert files
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in files}
    for which in {writes, reads}:
        found = run_with(which, LOOKS, run)
        answer = found.communicate(timeout=60)[0]
        assert found.returncode == 0
        # Transactions are there whole or not at all, and all that anybody saw.
        rows, kept, closed = answer.split()
        assert kept == "{2000}"
        assert int(rows) >= max([int(word) for word in seen if word.isdigit()])
        assert int(rows) >= 2000 * (int(told[-1]) - 2)
        assert int(closed) >= 4
    # Whoever only reads leaves the log alone, though nobody else has it open.
    after = {path: hashlib.sha256(path.read_bytes()).digest() for path in files}
    assert after == before


def until(condition, seconds=60.0):
    """Wait for a condition, bounded."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.01)
