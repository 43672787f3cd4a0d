"""``dask memdash limits``: the plan, its reasons, and the command."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from fake_parts import prefix

from dask_memdash.analysis.limits.worker_plan import (
    Peak,
    Wishes,
    divide,
    largest_peak,
    make_plan,
)
from dask_memdash.cli import main, worker_plan
from dask_memdash.model.limit_facts import Cap, LimitFacts, LiveFigures, Scratch

MiB = 2**20
GiB = 2**30
OWN = 100 * MiB


def cap(kind, name, size, effect="kills", used=None):
    return Cap(kind, name, f"/x/{name}", size, effect, kind, used)


def facts(*caps, available=20 * GiB, **more):
    total = cap("host", "MemTotal", 32 * GiB)
    first = LiveFigures(available=available)
    values = {"rss": OWN, "dask": 32 * GiB, "first": first, **more}
    return LimitFacts(caps=(total, *caps), **values)


def plan(known, cpus=8, wishes=None, peak=None, baseline=None):
    made = make_plan(known, cpus, OWN, wishes or Wishes(), peak, baseline)
    assert made is not None
    return made


# -- the plan ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [(1, (1, 1)), (4, (4, 1)), (8, (4, 2)), (12, (4, 3)), (16, (4, 4)), (7, (7, 1))],
)
def test_processors_are_divided_as_dask_does(cpus, expected):
    from distributed.deploy.utils import nprocesses_nthreads

    assert divide(cpus) == expected
    assert nprocesses_nthreads(cpus) == expected


def test_what_is_available_less_the_nanny_is_shared_out():
    made = plan(facts())
    assert made.budget == 20 * GiB - OWN
    assert made.source == "MemAvailable"
    assert made.options == "--nworkers 4 --nthreads 2 --memory-limit 5095MiB"
    assert made.memory_limit == 5095 * MiB
    assert made.reasons[0] == (
        "20 GiB are available on this machine now; 100 MiB, what this process "
        "takes, are kept for the nanny."
    )
    assert made.warnings == (
        "Without --memory-limit, a worker assumes 32 GiB here, but the kernel kills it "
        "at 20 GiB.",
    )


def test_a_cgroup_is_shared_out_less_what_is_used_of_it():
    made = plan(facts(cap("cgroup", "memory.max", 8 * GiB, used=2 * GiB)))
    assert made.budget == 6 * GiB - OWN
    assert made.source == "memory.max"
    assert made.memory_limit == 1511 * MiB
    assert "of which 2 GiB are in use" in made.reasons[0]


def test_what_is_to_be_left_to_others_is_left():
    made = plan(facts(), wishes=Wishes(reserve=4 * GiB))
    assert made.budget == 16 * GiB - OWN
    assert "are kept for the nanny and 4 GiB for others" in made.reasons[0]


def test_an_rlimit_holds_for_each_worker():
    known = facts(cap("rlimit", "RLIMIT_AS", 4 * GiB, "fails", used=GiB + OWN))
    assert plan(known).memory_limit == 3 * GiB
    roomy = facts(cap("rlimit", "RLIMIT_AS", 16 * GiB, "fails", used=GiB + OWN))
    assert plan(roomy).memory_limit == 5095 * MiB


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (Wishes(nworkers=1), (1, 8, 20380)),
        (Wishes(nworkers=2, nthreads=3), (2, 3, 10190)),
        (Wishes(nthreads=1), (8, 1, 2547)),
        (Wishes(nthreads=99), (1, 99, 20380)),
    ],
)
def test_what_is_settled_stays(wishes, expected):
    made = plan(facts(), wishes=wishes)
    assert (made.nworkers, made.nthreads, made.memory_limit // MiB) == expected
    assert made.threads_that_fit is None


def test_small_tasks_leave_dasks_division_as_it_is():
    made = plan(facts(), peak=Peak("sum", 100 * MiB, 200 * MiB))
    assert (made.nworkers, made.nthreads, made.threads_that_fit) == (4, 2, 2)


def test_large_tasks_get_fewer_and_larger_workers():
    """4 workers of 5 GiB run one task of 3 GiB each; one worker of 20 runs 5."""
    made = plan(facts(), peak=Peak("rechunk", 3 * GiB, 3 * GiB))
    assert (made.nworkers, made.nthreads) == (1, 5)
    # 0.8 of 20380 MiB, less 100 idle, less 3072: 4 more of 3072
    assert made.threads_that_fit == 5
    assert (
        "5 threads can run them at once below the pause threshold" in (made.reasons[1])
    )


def test_an_idle_worker_is_counted_as_it_was_measured():
    small = plan(facts(), wishes=Wishes(nworkers=1), peak=Peak("r", 3 * GiB, 3 * GiB))
    large = plan(
        facts(),
        wishes=Wishes(nworkers=1),
        peak=Peak("r", 3 * GiB, 3 * GiB),
        baseline=2 * GiB,
    )
    assert (small.threads_that_fit, large.threads_that_fit) == (5, 4)


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_a_task_fits_to_the_last_byte(more, fits):
    pool = int(20380 * MiB * 0.8) - OWN
    wishes = Wishes(nworkers=1)
    made = plan(facts(), wishes=wishes, peak=Peak("x", GiB, pool + more))
    assert made.fits is fits


def test_a_task_that_does_not_fit_is_said_to():
    made = plan(facts(), peak=Peak("rechunk", 17 * GiB, 18 * GiB))
    assert not made.fits
    assert made.nthreads == 1
    assert any("`rechunk` (18 GiB) does not fit" in w for w in made.warnings)


def test_nothing_that_can_be_read_makes_no_plan():
    assert make_plan(LimitFacts(), 4, OWN, Wishes()) is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"scratch": Scratch("/tmp", "tmpfs")}, "/tmp is a tmpfs"),
        ({"scratch": Scratch("/tmp", "ext4", GiB, MiB)}, "has only 1 MiB left"),
        ({"swap_total": GiB}, "has 1 GiB of swap"),
    ],
)
def test_surroundings_are_warned_of(more, words):
    assert any(words in warning for warning in plan(facts(**more)).warnings)


def test_swap_that_the_cgroup_forbids_is_not_warned_of():
    known = facts(swap_total=GiB, swap_limit=0, dask=None)
    assert plan(known).warnings == ()


def test_what_nothing_enforces_is_said_to():
    known = facts(cap("batch", "SLURM_MEM_PER_NODE", 8 * GiB, "declared"))
    assert any("Nothing here shows whether" in w for w in plan(known).warnings)


def test_the_largest_peak_of_the_api_is_taken():
    rows = [prefix("sum", MiB), prefix("rechunk", MiB)]
    rows[1]["execution"]["peak"] = {"p50": 1, "p95": 300 * MiB, "max": 310 * MiB}
    assert largest_peak(rows) == Peak("rechunk", 300 * MiB, 310 * MiB)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"execution": None},
        {"execution": {"peak": []}},
        {"execution": {"peak": {"p95": None, "max": None}}},
        {"execution": {"peak": {"p95": "1", "max": 2}}},
        {"execution": {"peak": {"p95": -1, "max": 2}}},
        {"execution": {"peak": {"p95": True, "max": 2}}},
    ],
)
def test_rows_without_a_peak_are_left_out(row):
    assert largest_peak([row]) is None


# -- the command -------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Make this machine one of 8 processors and 20 GiB available of 32."""

    def set_to(known=None):
        known = facts() if known is None else known
        monkeypatch.setattr(worker_plan, "look_around", lambda scratch: known)
        monkeypatch.setattr(
            "dask_memdash.plugins.worker.limit_facts.what_dask_takes",
            lambda: (32 * GiB, 8),
        )

    set_to()
    return set_to


def limits(*arguments):
    return CliRunner().invoke(main.main, ["limits", *arguments])


def test_the_plan_as_text(machine):
    result = limits()
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "What limits memory here:"
    assert lines[1].split() == ["host", "32", "GiB", "MemTotal,", "/x/MemTotal"]
    assert lines[2].split() == ["available", "20", "GiB", "MemAvailable"]
    assert "Memory for workers: 19.9 GiB, set by MemAvailable" in lines
    assert (
        "  dask worker SCHEDULER --nworkers 4 --nthreads 2 --memory-limit 5095MiB"
        in lines
    )


def test_the_plan_as_json(machine):
    data = json.loads(limits("--json", "--nworkers", "2").output)
    assert data["nworkers"] == 2
    assert data["nthreads"] == 4
    assert data["memory_limit"] == 10190 * MiB
    assert data["fits"] is True
    assert data["facts"]["caps"][0]["bytes"] == 32 * GiB


def test_the_plan_as_variables(machine):
    assert limits("--env").output.splitlines() == [
        "MEMDASH_NWORKERS=4",
        "MEMDASH_NTHREADS=2",
        f"MEMDASH_MEMORY_LIMIT={5095 * MiB}",
        "MALLOC_TRIM_THRESHOLD_=65536",
    ]


def test_what_was_skipped_is_shown(machine):
    machine(facts(skipped=("/x holds 'y', which is no size",)))
    assert "(not taken as a limit: /x holds 'y', which is no size)" in limits().output


def test_a_profile_from_a_file(machine, tmp_path):
    row = prefix("rechunk", MiB)
    row["execution"]["peak"] = {"p50": 1, "p95": 3 * GiB, "max": 3 * GiB}
    file = tmp_path / "peaks.json"
    file.write_text(json.dumps([row]))
    result = limits("--profile", str(file))
    assert result.exit_code == 0
    assert "--nworkers 1 --nthreads 5" in result.output


def test_a_task_that_does_not_fit_has_a_status_of_its_own(machine, tmp_path):
    row = prefix("rechunk", MiB)
    row["execution"]["peak"] = {"p50": 1, "p95": 30 * GiB, "max": 30 * GiB}
    file = tmp_path / "peaks.json"
    file.write_text(json.dumps([row]))
    result = limits("--profile", str(file))
    assert result.exit_code == 1
    assert "does not fit" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"error": "no"}', "holds no list of prefixes"),
        ("[1]", "holds no list of prefixes"),
        ("[]", "has a measured peak"),
        ("\udcff", "is not JSON"),
    ],
)
def test_a_profile_that_is_none_gets_a_clear_message(machine, tmp_path, text, message):
    file = tmp_path / "peaks.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = limits("--profile", str(file))
    assert result.exit_code == 3
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_profile_that_is_missing_gets_a_clear_message(machine, tmp_path):
    result = limits("--profile", str(tmp_path / "none"))
    assert result.exit_code == 3
    assert "No such file" in result.output


@pytest.fixture
def dashboard():
    """Serve what a MemDash would answer; give its address and its answers."""
    row = prefix("rechunk", MiB)
    row["execution"]["peak"] = {"p50": 1, "p95": 3 * GiB, "max": 3 * GiB}
    answers = {
        "/memdash/api/prefixes": [row],
        "/memdash/api/workers": [
            {"breakdown": {"baseline": 2 * GiB}},
            {"breakdown": {"baseline": None}},
        ],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path in answers
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(self.path)).encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", answers
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/status", "{}/memdash/"])
def test_a_profile_from_a_scheduler(machine, dashboard, form):
    result = limits("--scheduler", form.format(dashboard[0]), "--nworkers", "1")
    assert result.exit_code == 0, result.output
    assert "an idle worker takes 2 GiB" in result.output
    assert "--nworkers 1 --nthreads 4" in result.output


def test_a_scheduler_without_memdash_gets_a_clear_message(machine, dashboard):
    dashboard[1].clear()
    result = limits("--scheduler", dashboard[0])
    assert result.exit_code == 3
    assert "answers 404; is MemDash registered there?" in result.output


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--scheduler", "127.0.0.1:1"], 3, "cannot be reached"),
        (
            ["--scheduler", "tcp://127.0.0.1:8786"],
            3,
            "is not the address of a dashboard",
        ),
        (["--profile", "a", "--scheduler", "b"], 2, "not both"),
        (["--nworkers", "0"], 2, "not in the range"),
        (["--nthreads", "many"], 2, "not a valid integer"),
        (["--reserve", "some"], 2, "no size"),
        (["--reserve", "19.9GiB"], 3, "nothing is left for workers here"),
    ],
)
def test_what_cannot_be_done_gets_a_clear_message(machine, arguments, status, message):
    result = limits(*arguments)
    assert result.exit_code == status
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_machine_that_says_nothing_gets_a_clear_message(machine):
    machine(LimitFacts())
    result = limits()
    assert result.exit_code == 3
    assert "nothing on this machine says how much memory it has" in result.output


def test_help_lists_exit_statuses_and_examples():
    result = limits("--help")
    assert result.exit_code == 0
    assert "  1    the largest task that was measured does not fit here" in (
        result.output
    )
    assert "dask memdash limits --env > workers.env" in result.output


def test_on_this_machine_itself():
    """Against the real kernel: loosely, as every machine differs."""
    result = limits("--json", "--nworkers", "1", "--nthreads", "1")
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    assert 0 < data["memory_limit"] <= data["budget"] < data["facts"]["dask"]
