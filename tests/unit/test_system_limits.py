"""The readers of limits: what is there, what is not, and whatever else files hold."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.limit_facts import (
    Allocator,
    Cap,
    LimitFacts,
    LiveFigures,
    Scratch,
)
from dask_memdash.system import batch_systems, cgroups
from dask_memdash.system.memory_limits import (
    LiveReader,
    option_given,
    read_facts,
    read_status,
)

MiB = 2**20
GiB = 2**30
PID = 7
V2 = "34 25 0:30 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"


@pytest.fixture
def tree(tmp_path):
    """Write a tree: ``tree({"proc/meminfo": text})`` gives its root."""

    def write(files):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text) if isinstance(text, str) else file.write_bytes(text)
        return str(tmp_path)

    return write


def facts(root, environ=None, scratch=None):
    return read_facts(PID, environ or {}, scratch, root)


def test_nothing_at_all(tree):
    assert facts(tree({})) == LimitFacts()


def test_the_whole_chain_from_the_outside_to_the_inside(tree):
    root = tree(
        {
            "proc/meminfo": "MemTotal: 1024 kB\nMemAvailable: 512 kB\n",
            "proc/7/cgroup": "0::/a/b\n",
            "proc/7/mountinfo": V2,
            "proc/7/limits": "Max address space  900000  unlimited  bytes\n",
            "proc/7/status": "VmRSS:\t 3 kB\nVmSize:\t 100 kB\n",
            "sys/fs/cgroup/a/memory.max": "800000\n",
            "sys/fs/cgroup/a/memory.current": "300000\n",
            "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 100000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/b/memory.high": "700000\n",
            "sys/fs/cgroup/a/b/memory.current": "200000\n",
        }
    )
    caps = facts(root, {"SLURM_JOB_ID": "5", "SLURM_MEM_PER_NODE": "1"}).caps
    assert [(c.kind, c.name, c.where, c.bytes, c.effect, c.used) for c in caps] == [
        ("host", "MemTotal", "/proc/meminfo", 1048576, "kills", None),
        (
            "cgroup",
            "memory.max",
            "/sys/fs/cgroup/a/memory.max",
            800000,
            "kills",
            200000,
        ),
        (
            "cgroup",
            "memory.high",
            "/sys/fs/cgroup/a/b/memory.high",
            700000,
            "throttles",
            200000,
        ),
        ("batch", "SLURM_MEM_PER_NODE", "environment", 1048576, "declared", None),
        ("rlimit", "RLIMIT_AS", "/proc/7/limits", 900000, "fails", 102400),
    ]
    least = facts(root).least()
    assert least is not None
    assert least.name == "memory.high"


def test_groups_have_one_name_for_all_who_live_in_them(tree):
    root = tree(
        {
            "proc/7/cgroup": "0::/a/b\n",
            "proc/8/cgroup": "0::/a/c\n",
            "sys/fs/cgroup/a/memory.max": "800000\n",
            "sys/fs/cgroup/a/b/memory.max": "800000\n",
            "sys/fs/cgroup/a/c/memory.max": "800000\n",
        }
    )
    one, other = read_facts(7, {}, None, root), read_facts(8, {}, None, root)
    assert one.caps[0].scope == other.caps[0].scope
    assert one.caps[1].scope != other.caps[1].scope


@pytest.mark.parametrize(
    ("text", "size", "reason"),
    [
        ("max", None, ""),
        ("9223372036854771712", None, ""),
        ("9223372036854710272", None, ""),  # with pages of 64 kB
        ("18446744073709551615", None, ""),
        ("1073741824", GiB, ""),
        ("-1", None, "holds -1"),
        ("-5000000", None, "holds -5000000"),
        ("0", None, "holds 0, too little for any process"),
        ("12", None, "holds 12"),
        ("1e9", None, "holds '1e9', which is no size"),
        ("", None, "holds '', which is no size"),
        ("banana", None, "holds 'banana'"),
        ("1073741824 kB", None, "which is no size"),
        ("9" * 60, None, "which is no size"),
        ("\x00\x01", None, "which is no size"),
    ],
)
def test_values_of_memory_max(tree, text, size, reason):
    root = tree({"proc/7/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": text})
    found = facts(root)
    assert [cap.bytes for cap in found.caps] == ([] if size is None else [size])
    if reason:
        assert reason in found.skipped[0]
        assert len(found.skipped) == 1
    else:
        assert found.skipped == ()


def test_minus_one_means_none_in_v1(tree):
    root = tree(
        {
            "proc/7/cgroup": "3:memory:/a\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "-1\n",
        }
    )
    assert facts(root) == LimitFacts()


def test_a_file_that_cannot_be_read_is_named(tree, tmp_path):
    root = tree({"proc/7/cgroup": "0::/a\n"})
    (tmp_path / "sys/fs/cgroup/a/memory.max").mkdir(parents=True)
    assert facts(root).skipped == ("/sys/fs/cgroup/a/memory.max cannot be read",)


def test_a_v1_parent_that_does_not_count_its_children_is_no_cap(tree):
    base = "sys/fs/cgroup/memory"
    root = tree(
        {
            "proc/7/cgroup": "3:memory:/a/b\n",
            f"{base}/a/memory.limit_in_bytes": "1000000\n",
            f"{base}/a/memory.use_hierarchy": "0\n",
            f"{base}/a/b/memory.limit_in_bytes": "2000000\n",
        }
    )
    assert [cap.bytes for cap in facts(root).caps] == [2000000]


def test_a_path_that_leads_out_of_the_namespace_is_not_followed(tree):
    root = tree(
        {
            "proc/7/cgroup": "0::/../../other\n",
            "proc/7/mountinfo": V2,
            "sys/fs/cgroup/memory.max": "5000000\n",
            "other/memory.max": "4096\n",
        }
    )
    assert [cap.where for cap in facts(root).caps] == ["/sys/fs/cgroup/memory.max"]


def test_a_group_below_what_is_mounted(tree):
    """A service inside a container that shares its host's cgroup namespace."""
    root = tree(
        {
            "proc/7/cgroup": "5:memory:/docker/4f1c/inner\n",
            "proc/7/mountinfo": "1 1 0:1 /docker/4f1c /sys/fs/cgroup/memory rw"
            " - cgroup cgroup rw,memory\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000000\n",
            "sys/fs/cgroup/memory/inner/memory.limit_in_bytes": "8000000\n",
        }
    )
    assert [cap.where for cap in facts(root).caps] == [
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes",
    ]


def test_a_name_that_only_begins_like_the_mounts_root_is_another_group(tree):
    root = tree(
        {
            "proc/7/cgroup": "5:memory:/docker/4f1c-other/inner\n",
            "proc/7/mountinfo": "1 1 0:1 /docker/4f1c /sys/fs/cgroup/memory rw"
            " - cgroup cgroup rw,memory\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000000\n",
            "sys/fs/cgroup/memory/-other/inner/memory.limit_in_bytes": "8000000\n",
        }
    )
    assert [cap.bytes for cap in facts(root).caps] == [9000000]


def test_a_group_that_is_gone(tree):
    root = tree({"proc/7/cgroup": "0::/a (deleted)\n", "sys/fs/cgroup/x": ""})
    assert facts(root) == LimitFacts()


def test_mount_points_with_blanks(tree):
    root = tree(
        {
            "proc/7/mountinfo": "1 1 0:1 / /my\\040disk rw - ext4 /dev/sda1 rw\n"
            "2 1 0:2 / / rw - overlay overlay rw\n",
            "my disk/scratch/x": "",
        }
    )
    scratch = facts(root, scratch="/my disk/scratch").scratch
    assert scratch is not None
    assert scratch.filesystem == "ext4"
    assert scratch.free is not None
    assert 0 < scratch.free < (scratch.total or 0)


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.sshfs", "cifs", "ceph"])
def test_a_remote_file_system_is_never_asked_for_its_space(tree, kind):
    root = tree({"proc/7/mountinfo": f"1 1 0:1 / /home rw - {kind} server:/home rw\n"})
    assert facts(root, scratch="/home/me").scratch == Scratch("/home/me", kind)


def test_the_last_mount_on_a_place_counts(tree):
    root = tree(
        {
            "proc/7/mountinfo": "1 1 0:1 / /tmp rw - ext4 /dev/sda1 rw\n"
            "2 1 0:2 / /tmp rw - tmpfs tmpfs rw\n3 1 0:3 / / rw - xfs /dev/sda2 rw\n",
        }
    )
    scratch = facts(root, scratch="/tmp/dask").scratch
    assert scratch is not None
    assert scratch.filesystem == "tmpfs"


@pytest.mark.parametrize(
    ("environ", "maps", "expected"),
    [
        (b"MALLOC_TRIM_THRESHOLD_=65536\0A=b", "", Allocator(65536)),
        (b"MALLOC_TRIM_THRESHOLD_=lots\0", "", Allocator()),
        (b"MALLOC_ARENA_MAX=2\0", "", Allocator(arena_max=2)),
        (b"LD_PRELOAD=/usr/lib/libjemalloc.so.2\0", "", Allocator(name="jemalloc")),
        (b"A=b", "7f r-xp 0 0:0 1 /usr/lib/libc.so.6\n", Allocator(name="glibc")),
        (b"A=b", "7f r-xp 0 0:0 1 /lib64/libc-2.17.so\n", Allocator(name="glibc")),
        (b"A=b", "7f r-xp 0 0:0 1 /lib/ld-musl-x86_64.so.1\n", Allocator(name="musl")),
        (b"\xff\xfe=\xff\0=\0\0", "\x00\x00", Allocator()),
    ],
)
def test_the_allocator_as_the_process_was_started(tree, environ, maps, expected):
    root = tree({"proc/7/environ": environ, "proc/7/maps": maps})
    late = {"MALLOC_TRIM_THRESHOLD_": "1"}
    assert facts(root, late).allocator == expected


def test_variables_serve_where_the_process_cannot_be_looked_at(tree):
    found = facts(tree({}), {"MALLOC_TRIM_THRESHOLD_": "65536"})
    assert found.allocator == Allocator(65536)


@pytest.mark.parametrize(
    ("environ", "size"),
    [
        ({"SLURM_MEM_PER_NODE": "16000"}, 16000 * MiB),
        ({"SLURM_MEM_PER_NODE": "16G"}, 16 * GiB),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "3"}, 6 * GiB),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "3(x2)"}, None),
        ({"SLURM_MEM_PER_GPU": "4096", "SLURM_GPUS_ON_NODE": "2"}, 8 * GiB),
        ({"PBS_RESC_MEM": "34359738368"}, 32 * GiB),
        ({"PBS_RESC_MEM": "16gb"}, 16 * GiB),
        ({"PBS_VMEM": "4294967296"}, 4 * GiB),
        ({"PBS_RESC_MEM": "-5"}, None),
        ({"LSB_MAX_MEM_RUSAGE": "8388608"}, 8 * GiB),
        ({"LSB_MAX_MEM_RUSAGE": "8G"}, None),
        ({"_CONDOR_MACHINE_AD": "/nowhere"}, None),
        ({"SLURM_MEM_PER_NODE": "9" * 500}, None),
        ({"SLURM_MEM_PER_NODE": "9" * 15}, None),
        ({"SLURM_MEM_PER_CPU": "9" * 9, "SLURM_CPUS_ON_NODE": "9" * 9}, None),
    ],
)
def test_what_batch_systems_say(environ, size):
    skipped = cgroups.Skipped()
    found = batch_systems.caps(environ, Path("/nonexistent"), "here", skipped)
    assert [cap.bytes for cap in found] == ([] if size is None else [size])
    given_but_zero = environ.get("SLURM_MEM_PER_NODE") == "0"
    assert bool(skipped.sentences) == (size is None and not given_but_zero)


@pytest.mark.parametrize(
    ("environ", "files", "expected"),
    [
        ({}, {}, "host"),
        ({"SLURM_JOB_ID": "1", "KUBERNETES_SERVICE_HOST": "x"}, {}, "slurm"),
        ({"KUBERNETES_SERVICE_HOST": "x"}, {".dockerenv": ""}, "kubernetes"),
        ({}, {".dockerenv": ""}, "container"),
        ({"container": "podman"}, {}, "container"),
        ({}, {"proc/version": "Linux 5.15-Microsoft-standard"}, "wsl"),
    ],
)
def test_the_surroundings(tree, environ, files, expected):
    assert batch_systems.environment(environ, Path(tree(files))) == expected


def test_names_that_are_no_text_can_still_be_sent(tree):
    """The environment and paths may hold any bytes, which Python keeps as halves."""
    root = tree({"proc/7/mountinfo": "1 1 0:1 / / rw - ext4 /dev/sda1 rw\n"})
    environ = {"SLURM_JOB_ID": "\udcff", "SLURM_MEM_PER_NODE": "16000"}
    found = facts(root, environ, "/tmp/\udcff")
    assert found.scratch is not None
    assert found.scratch.path == "/tmp/?"
    assert found.caps[0].scope == "slurm ? on this machine"


# -- what changes ------------------------------------------------------------------


def test_live_figures(tree):
    root = tree(
        {
            "proc/meminfo": "MemTotal: 4096 kB\nMemAvailable: 2048 kB\n",
            "proc/7/cgroup": "0::/a/b\n",
            "proc/7/status": "VmSwap:\t    12 kB\n",
            "proc/pressure/memory": "some avg10=50.00 avg60=0 avg300=0 total=0\n",
            "sys/fs/cgroup/a/memory.max": "800000\n",
            "sys/fs/cgroup/a/memory.current": "300000\n",
            "sys/fs/cgroup/a/memory.pressure": "some avg10=1.25 avg60=0.00 total=1\n"
            "full avg10=0.75 avg60=0.00 total=1\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/b/memory.current": "100000\n",
        }
    )
    reader = LiveReader(PID, facts(root), root)
    assert reader.read() == LiveFigures(
        available=2 * MiB, cgroup_used=300000, swapped=12288, pressure=1.25
    )
    tree({"sys/fs/cgroup/a/memory.current": "400000\n"})
    assert reader.read().cgroup_used == 400000


def test_live_figures_of_a_machine_without_groups(tree):
    root = tree({"proc/pressure/memory": "some avg10=50.00 avg60=0 avg300=0 total=0\n"})
    assert LiveReader(PID, LimitFacts(), root).read() == LiveFigures(pressure=50.0)


@pytest.mark.parametrize("text", ["", "some avg10=x", "some avg10=999.0 ", "full 1"])
def test_pressure_that_makes_no_sense(text):
    assert cgroups.pressure(text) is None


def test_this_process_can_be_read():
    """Against the real kernel: loosely, as every machine differs."""
    found = read_facts(os.getpid(), os.environ, "/tmp")
    status = read_status(os.getpid(), Path("/"))
    assert found.least() is not None
    assert found.rss is not None
    assert 0 < found.rss < status["VmSize"]
    assert found.first.available is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["python", "dask", "worker", "--memory-limit", "4GB"], "4GB"),
        (["python", "/bin/dask-worker", "--memory-limit=0.5", "x"], "0.5"),
        (["python", "dask", "worker", "--memory-limit"], None),
        (["python", "dask", "worker"], None),
        (["pytest", "--memory-limit", "4GB"], None),
    ],
)
def test_an_option_on_the_command_line(tree, words, expected):
    root = tree({"proc/7/cmdline": "\0".join(words) + "\0"})
    assert option_given(PID, "--memory-limit", root) == expected


# -- whatever files hold -----------------------------------------------------------

FILES = (
    "proc/meminfo",
    "proc/7/cgroup",
    "proc/7/mountinfo",
    "proc/7/status",
    "proc/7/limits",
    "proc/7/environ",
    "proc/7/maps",
    "proc/pressure/memory",
    "proc/sys/kernel/random/boot_id",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.current",
    "sys/fs/cgroup/memory.stat",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/fs/cgroup/memory/memory.stat",
    "ad",
)
PIECES = st.sampled_from(
    [
        b"0::/\n",
        b"3:memory:/a/../../..\n",
        V2.encode(),
        b"1 1 0:1 / / rw - cgroup cgroup rw,memory\n",
        b"MemTotal: 99999999999999999999 kB\n",
        b"MemTotal: 8 kB\n",
        b"Max address space -4 -4 bytes\n",
        b"Max address space 99999999999999999999999 0 bytes\n",
        b"max",
        b"9223372036854771712",
        b"-1",
        b"hierarchical_memory_limit 99999999999999999999999\n",
        b"hierarchical_memory_limit 5000\n",
        b"\xff\xfe\x00",
        b"VmRSS: 9 kB\n",
        b"99999999999999999999",
        b"inactive_file 99999999999999999999\n",
        b"Memory = 10\n",
        b" - ",
        b"\\777\\040",
    ]
)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    contents=st.dictionaries(
        st.sampled_from(FILES),
        st.lists(PIECES | st.binary(max_size=40), max_size=4).map(b"".join),
    ),
    text=st.text(max_size=30),
)
def test_no_file_makes_a_reader_raise(tmp_path_factory, contents, text):
    root = tmp_path_factory.mktemp("tree")
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    variables = (
        "SLURM_MEM_PER_NODE",
        "SLURM_MEM_PER_CPU",
        "SLURM_CPUS_ON_NODE",
        "PBS_RESC_MEM",
        "LSB_MAX_MEM_RUSAGE",
    )
    environ = dict.fromkeys(variables, text) | {"_CONDOR_MACHINE_AD": "/ad"}
    found = read_facts(PID, environ, text or None, str(root))
    assert all(isinstance(cap, Cap) and 0 < cap.bytes < 2**63 for cap in found.caps)
    assert all(len(sentence) <= 200 for sentence in found.skipped)
    assert len(found.skipped) <= 20
    sent = json.loads(json.dumps(to_dict(found)))
    assert from_dict(LimitFacts, sent) == found  # or the heartbeat would be refused
