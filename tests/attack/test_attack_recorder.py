"""A neighbour on the host plants things where flight recorders stand."""

import os
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

from dask_memdash.flight.files import SWEEP_SECONDS, default_directory, sweep
from dask_memdash.flight.reader import RecorderSearch

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="recorders are found through /proc"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

NOBODY = 65_534

#: A worker that records one task, and is found by its parent, or not.
WORKER = """
import os, sys
from dask_memdash.flight.files import own_path
from dask_memdash.plugins.worker.recorder_figures import make_recorder
path = own_path(sys.argv[1])
exec(sys.argv[2])
recorder, degraded = make_recorder(
    4, "tcp://a:1", sys.argv[1], private=False, map_slots=None)
recorder.begin("sum-1", 7, 1.0, 0)
print(recorder.path is not None, degraded, flush=True)
sys.stdin.read()
"""


def record(directory, plant="", prefix=()):
    """Run a worker; return whether it has a file, what it says, and what was read."""
    command = [*prefix, sys.executable, "-c", WORKER, str(directory), plant]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            in_file, _, says = child.stdout.readline().strip().partition(" ")
            if prefix:
                return in_file == "True", says, None
            reader = RecorderSearch(child.pid, str(directory)).find()
            keys = [task.key for task in reader.tasks()] if reader else None
            if reader:
                reader.close()
            return in_file == "True", says, keys
        finally:
            child.stdin.close()


@pytest.mark.parametrize(
    ("what", "plant", "in_file"),
    [
        ("a planted link to a file", "os.symlink('/etc/passwd', path)", True),
        ("a FIFO", "os.mkfifo(path)", True),
        ("a directory", "os.mkdir(path)", False),
        ("an old file", "open(path, 'w').write('x' * 10_000)", True),
    ],
)
def test_what_stands_at_a_recorders_name(tmp_path, tell, what, plant, in_file):
    default_directory(str(tmp_path)).mkdir(mode=0o700)
    found = record(tmp_path, plant)
    tell(
        f"{what} at a recorder's name",
        "the record is in " + ("a file" if found[0] else f"memory: {found[1]}"),
        found[0] is in_file and found[2] == ["sum-1"],
    )


@as_root
def test_a_directory_of_another_user(tmp_path, tell):
    default_directory(str(tmp_path)).mkdir(mode=0o777)
    os.chown(default_directory(str(tmp_path)), NOBODY, NOBODY)
    in_file, says, keys = record(tmp_path)
    tell(
        "the recorders' directory belongs to another user",
        f"nothing was put there; {says}",
        not in_file
        and keys == ["sum-1"]
        and "belongs to somebody else" in says
        and not os.listdir(default_directory(str(tmp_path))),
    )


@as_root
def test_a_file_of_another_user_at_a_recorders_name(tmp_path, tell):
    default_directory(str(tmp_path)).mkdir(mode=0o700)
    plant = f"open(path, 'w').close(); os.chown(path, {NOBODY}, {NOBODY})"
    in_file, _, keys = record(tmp_path, plant)
    tell(
        "a file of another user at a recorder's name",
        "it was replaced",
        in_file and keys == ["sum-1"],
    )


def test_an_own_directory_that_is_open_to_all(tmp_path, tell):
    default_directory(str(tmp_path)).mkdir()
    default_directory(str(tmp_path)).chmod(0o777)
    in_file, says, keys = record(tmp_path)
    mode = default_directory(str(tmp_path)).stat().st_mode & 0o777
    tell(
        "the recorders' directory is writable by all",
        f"its mode is {mode:o} now, and it is said",
        in_file and keys == ["sum-1"] and mode == 0o700 and "(mode 777)" in says,
    )


def test_ten_thousand_stale_files(tmp_path, tell):
    directory = default_directory(str(tmp_path))
    directory.mkdir(mode=0o700)
    for number in range(10_000):
        (directory / f"1-{10**12 + number}.flight").touch()
    longest, swept = 0.0, 0
    while directory.exists() and longest < 10:
        begun = time.perf_counter()
        swept += sweep(str(tmp_path))
        longest = max(longest, time.perf_counter() - begun)
    tell(
        "10,000 stale recorders",
        f"{swept:,} removed, the longest look took {longest:.2f} s",
        swept == 10_000 and longest < 5 * SWEEP_SECONDS,
    )


@pytest.mark.parametrize(
    ("what", "mount"),
    [
        ("full", "size=64k {0} && dd if=/dev/zero of={0}/x bs=64k 2>/dev/null; true"),
        ("of 4 kB", "size=4k {0}"),
        ("read-only", "ro {0}"),
    ],
)
@as_root
def test_a_shared_memory_that_takes_nothing(tmp_path, tell, what, mount):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not there")
    trial = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if trial.returncode:
        pytest.skip("no mount namespace can be made here")
    script = textwrap.dedent(
        f"""
        mount -t tmpfs none -o {mount.format(tmp_path)} || exit 9
        exec "$@"
        """
    )
    prefix = ("unshare", "-m", "sh", "-c", script, "sh")
    in_file, says, _ = record(tmp_path, prefix=prefix)
    tell(
        f"a tmpfs that is {what}",
        f"the worker goes on; {says}",
        not in_file and "in memory only" in says,
    )
