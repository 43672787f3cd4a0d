"""The demos' parts that need no cluster: what they read, compute and write."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from dask_memdash.demos import (
    DemoError,
    cluster,
    kept,
    rechunk,
    shuffles,
    tables,
    terminal,
)
from dask_memdash.demos.advice import followed, taken_apart
from dask_memdash.demos.api import Api, deaths, worst
from dask_memdash.demos.experiment import Case, Result, Session, Steps
from dask_memdash.terms import PARTS

# --- the JSON API as the demo reads it --------------------------------------------


def death(number: int, time: float, suspects: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": str(number),
        "time": time,
        "kind": "terminated",
        "settled": True,
        "diagnosis": {
            "cause": "pinned",
            "confidence": number / 10,
            "responsible": {"prefix": "load", "key": None},
            "text": f"Worker {number} was ended. 1 task was running.",
            "advice": ["Persist less."],
        },
        "breakdown": {
            "process": 600 * 2**20,
            "managed": 400 * 2**20,
            "transfer": 0,
            "actors": 0,
            "executing": 150 * 2**20,
            "retained": 0,
            "graph": 0,
            "baseline": 50 * 2**20,
        },
        "suspects": suspects,
    }


def killed_worker(number: int, time: float, attempts: list[str]) -> dict[str, Any]:
    return {
        "id": str(number),
        "time": time,
        "kind": "killed-worker",
        "settled": True,
        "diagnosis": {
            "cause": "awaited",
            "confidence": 0.0,
            "responsible": {"prefix": None, "key": None},
            "text": "Dask gave up on x (KilledWorker).",
            "advice": [],
        },
        "breakdown": None,
        "suspects": [],
        "attempts": attempts,
    }


ADVICE = (
    "Let Dask join chunks into smaller ones, before the graph is built: "
    '`dask.config.set({"array.chunk-size": "32MiB"})`. `merge` needs 4 MiB.'
)


def failure(number: int, opened: float, **kinds: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "opened": opened,
        "count": sum(kinds.values()),
        "deaths": kinds.get("terminated", 0),
        "kinds": {kind.replace("_", "-"): n for kind, n in kinds.items()},
        "text": "2 deaths of 2 workers.",
        "responsible": {"prefix": "load", "key": None},
        "diagnosis": {
            "cause": "awaited",
            "confidence": 0.7,
            "text": "Likely cause: outputs that tasks wait for.",
            "advice": [ADVICE, "Use 3 workers."],
        },
    }


class FakeMemDash(BaseHTTPRequestHandler):
    incidents: ClassVar[list[dict[str, Any]]] = []
    failures: ClassVar[list[dict[str, Any]]] = []
    history: ClassVar[dict[str, list[int]]] = {}
    prefixes: ClassVar[list[dict[str, Any]]] = []
    workers: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        path = self.path.split("?")[0].removeprefix("/memdash/api/")
        by_id = {f"incidents/{i['id']}": i for i in self.incidents}
        lists = {"incidents": self.incidents, "history": self.history}
        lists |= {"failures": self.failures}
        lists |= {"prefixes": self.prefixes, "workers": self.workers}
        found = lists.get(path, by_id.get(path))
        self.send_response(404 if found is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    suspect = {"key": "x", "bytes": 1}
    monkeypatch.setattr(
        FakeMemDash,
        "incidents",
        [
            killed_worker(3, 30.0, ["1", "2"]),
            death(2, 20.0, [suspect]),
            death(1, 10.0, []),
            death(0, 1.0, []),
        ],
    )
    found = [failure(2, 10.0, killed_worker=1, terminated=2)]
    found.append(failure(1, 1.0, terminated=1))
    monkeypatch.setattr(FakeMemDash, "failures", found)
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeMemDash)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Api(f"http://127.0.0.1:{server.server_port}/memdash/api")
    server.shutdown()
    thread.join()
    server.server_close()


def work(session: Session) -> Steps:
    yield []


def failed(api: Api) -> Result:
    case = Case("sqrt_n=120", work, 8 * 120**4, 8 * 120**3, seed=("~00:15", "OOM"))
    result = Result(case, 3.21, "KilledWorker")
    result.incidents = api.incidents(since=5.0)
    result.failures = api.failures(since=5.0)
    names = ("process", *PARTS)
    result.peaks = {name: 2**20 * k for k, name in enumerate((*names, "spilled"))}
    return result


def test_incidents_since_an_instant_come_oldest_first(api: Api) -> None:
    assert [i["id"] for i in api.incidents(since=5.0)] == ["1", "2", "3"]


def test_settled_returns_once_two_looks_agree(api: Api) -> None:
    assert [i["id"] for i in api.settled(5.0, timeout=30)] == ["1", "2", "3"]


def test_unknown_path_is_an_error_in_words(api: Api) -> None:
    with pytest.raises(DemoError, match=r"does not answer at .*incidents/9"):
        api.incident("9")


def test_silence_is_an_error_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DemoError, match="does not answer"):
        Api(f"http://127.0.0.1:{port}").incidents()


def test_deaths_are_counted_without_what_happened_to_tasks(api: Api) -> None:
    assert deaths(api.incidents(since=5.0)) == 2


def explained(api: Api, result: Result, details: bool = False) -> tuple[Any, str]:
    said: list[str] = []
    advice = rechunk.explain(api, [result], details, said.append)
    return advice, "\n".join(said)


def test_given_up_task_is_explained_with_one_line_to_paste(api: Api) -> None:
    advice, text = explained(api, failed(api))
    assert (
        text
        == """
What happened
    2 deaths of 2 workers.

Why
    Likely cause: outputs that tasks wait for.

Responsible
    `load`

What to change
    Let Dask join chunks into smaller ones, before the graph is built:
        dask.config.set({"array.chunk-size": "32MiB"})
    `merge` needs 4 MiB."""
    )
    assert advice.line == 'dask.config.set({"array.chunk-size": "32MiB"})'


def test_a_death_that_stands_apart_is_counted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FakeMemDash.failures[0], "deaths", 1)
    _, text = explained(api, failed(api))
    flat = " ".join(text.split())
    assert "2 workers. 1 more death may be for another reason. Why" in flat


def test_each_death_is_told_where_details_are_asked_for(api: Api) -> None:
    _, text = explained(api, failed(api), details=True)
    assert "Worker 1 was ended" in text
    assert "Worker 2 was ended" in text
    flat = " ".join(text.split())
    assert "600 MiB = managed 400 MiB + executing 150 MiB + baseline 50 MiB" in flat


def test_advice_without_a_line_is_told_and_not_followed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnosis = FakeMemDash.failures[0]["diagnosis"]
    monkeypatch.setitem(diagnosis, "advice", ["Think about `load`."])
    advice, text = explained(api, failed(api))
    assert advice is None
    assert text.endswith("What to change\n    Think about `load`.")
    monkeypatch.setitem(diagnosis, "advice", [])
    _, text = explained(api, failed(api))
    assert text.endswith("What to change\n    Nothing is known that would help here.")


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ('dask.config.set({"a": 1})', {"config": {"kept": 0, "a": 1}}),
        ("--nthreads 2", {"threads": 2}),
        (
            "--nworkers 1 --nthreads 4 --memory-limit 2GiB",
            {"workers": 1, "threads": 4, "memory_limit": 2**31},
        ),
    ],
)
def test_a_line_changes_the_cluster_to_the_letter(
    line: str, changed: dict[str, Any]
) -> None:
    plan = cluster.Plan(2, 10**9, "127.0.0.1", 0, config={"kept": 0})
    assert followed(line, plan) == replace(plan, **changed)


@pytest.mark.parametrize(
    "line",
    [
        "--nthreads",
        "--nthreads many",
        "--nthreads 1",  # as it is
        "--lifetime 20s",
        "dask.config.set({open('x')})",
        "dask.config.set({})",
    ],
)
def test_a_line_that_a_demo_cannot_follow_changes_nothing(line: str) -> None:
    assert followed(line, cluster.Plan(2, 10**9, "127.0.0.1", 0)) is None


def test_an_advice_on_the_program_has_no_line_for_a_demo() -> None:
    assert taken_apart('Make chunks smaller: `x = x.rechunk("8MiB")`.') is None


@pytest.mark.parametrize("outcome", ["ok", "timed out"])
def test_no_given_up_task_is_said(api: Api, outcome: str) -> None:
    advice, text = explained(api, Result(Case("sqrt_n=64", work, 1, 1), 1.0, outcome))
    assert advice is None
    assert f"ended with '{outcome}'" in text


# --- tables and figures ------------------------------------------------------------


def test_outcome_stands_beside_that_of_2017(api: Api) -> None:
    last = tables.outcomes([failed(api)]).splitlines()[-1]
    assert last == (
        "sqrt_n=120  1.54 GiB   13.2 MiB    3.2 s  KilledWorker       2  awaited  OOM"
    )


def test_peaks_of_a_run(api: Api) -> None:
    last = tables.peaks([failed(api)]).splitlines()[-1]
    assert " ".join(last.split()) == (
        "sqrt_n=120 0 B 1 MiB 2 MiB 3 MiB 4 MiB 5 MiB 6 MiB 7 MiB 8 MiB"
    )


def test_a_part_that_no_run_had_has_no_column(api: Api) -> None:
    result = failed(api)
    result.peaks |= {"actors": 0, "graph": 2**20 - 1}
    header = tables.peaks([result]).splitlines()[0]
    assert header.split() == [
        *("most", "of", "process", "managed", "transfer"),
        *("executing", "retained", "baseline", "spilled"),
    ]


def test_what_went_wrong_is_told_with_its_first_advice_once(api: Api) -> None:
    once = failed(api)
    again = replace(once, case=replace(once.case, name="sqrt_n=128"))
    assert tables.diagnoses([once, again]) == [
        "",
        "sqrt_n=120: awaited, responsible: load",
        "    2 deaths of 2 workers. Likely cause: outputs that tasks wait for.",
        "",
        "    Let Dask join chunks into smaller ones, before the graph is built:",
        '        dask.config.set({"array.chunk-size": "32MiB"})',
        "    `merge` needs 4 MiB.",
        "",
        "sqrt_n=128: awaited, responsible: load",
        "    2 deaths of 2 workers. Likely cause: outputs that tasks wait for.",
        "    → The same as of sqrt_n=120.",
    ]


def test_a_run_as_advised_stands_beside_what_failed(api: Api) -> None:
    before, after = failed(api), failed(api)
    after.outcome, after.runtime, after.incidents = "ok", 1.0, []
    after.peaks = {"process": 2**20}
    assert tables.before_and_after(before, after).splitlines()[2:] == [
        "as it was     3.2 s  KilledWorker       2                         0 B",
        "as advised    1.0 s  ok                 0                       1 MiB",
    ]


def test_what_went_well_has_no_cause_and_is_not_told(api: Api) -> None:
    result = failed(api)
    result.outcome, result.incidents = "ok", []
    assert result.cause is None
    assert tables.diagnoses([result]) == []


def test_document_is_plain_data(api: Api) -> None:
    plan = cluster.Plan(4, 584_000_000, "", 0)
    text = json.dumps(tables.document("array", [plan], [failed(api)]))
    (run,) = json.loads(text)["runs"]
    assert run["outcome"] == "KilledWorker"
    assert run["deaths"] == 2
    assert run["cause"] == "awaited"
    assert run["data_bytes"] == 1_658_880_000
    assert run["memory_limit"] == 584_000_000
    assert run["seed"] == {"runtime": "~00:15", "outcome": "OOM"}
    assert [i["kind"] for i in run["incidents"]] == [
        "terminated",
        "terminated",
        "killed-worker",
    ]


def test_peaks_are_the_largest_of_each_column(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("process", *PARTS)
    columns = {name: [1, k, 2] for k, name in enumerate((*names, "spilled"))}
    monkeypatch.setattr(FakeMemDash, "history", columns)
    assert api.peaks(since=0.0) == {
        "process": 2,
        "managed": 2,
        "transfer": 2,
        "actors": 3,
        "executing": 4,
        "retained": 5,
        "graph": 6,
        "baseline": 7,
        "spilled": 8,
    }


def test_prefix_is_waited_for_only_so_long(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = {"prefix": "load", "kind": "task", "n": 1}
    monkeypatch.setattr(FakeMemDash, "prefixes", [load])
    assert api.prefix("load") == load
    assert api.prefix("load", lambda row: row["n"] > 1, timeout=0) == load
    actors = {"prefix": "load", "kind": "other", "n": 1}
    monkeypatch.setattr(FakeMemDash, "prefixes", [actors, load])
    assert api.prefix("load") == load, "what belongs to no task is no prefix"
    assert api.prefix("other", timeout=0) is None


def test_workers_are_read_once_all_have_told_of_their_memory(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = {"breakdown": {"process": 1}}
    monkeypatch.setattr(FakeMemDash, "workers", [read, read])
    assert api.until_read(2, timeout=5)
    silent = {"breakdown": {"process": None}}
    monkeypatch.setattr(FakeMemDash, "workers", [read, silent])
    assert not api.until_read(2, timeout=0.2)


def test_a_run_is_spoken_for_by_the_failure_that_gave_a_task_up() -> None:
    killed = failure(1, 1.0, killed_worker=1, terminated=2)
    larger = failure(2, 2.0, terminated=9)
    stuck = failure(3, 3.0, stuck=1)
    assert worst([stuck, larger, killed]) is killed
    assert worst([stuck, larger]) is larger
    assert worst([stuck]) is stuck
    assert worst([failure(4, 4.0, spill_failed=1)]) is None


# --- the experiments of 2017 ------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "size", "data", "partition", "outcome"),
    [
        ("array", 64, 134_217_728, 2_097_152, ("00:01", "success")),
        ("array", 128, 2_147_483_648, 16_777_216, ("~00:10", "OOM")),
        ("array", 160, 5_242_880_000, 32_768_000, ("", "")),
        ("dataframe", 512, 6_451_200_000, 12_600_000, ("~00:30", "OOM")),
        ("bag", 512, 6_442_434_560, 12_582_880, ("01:16:30", "OOM")),
    ],
)
def test_sizes_are_those_of_2017(
    kind: str, size: int, data: int, partition: int, outcome: tuple[str, str]
) -> None:
    case = shuffles.KINDS[kind].case(size, 1.0, "tasks")
    assert (case.data_bytes, case.partition_bytes) == (data, partition)
    assert case.seed == outcome


def test_scale_changes_the_data_and_leaves_2017_aside() -> None:
    frame = shuffles.dataframe(64, 0.25, "p2p")
    assert (frame.name, frame.data_bytes) == ("nparts=16", 16 * 12_600_000)
    assert frame.seed == ("", "")
    # of an array the chunks shrink too: √n goes with the fourth root
    array = shuffles.array(128, 1 / 16, "p2p")
    assert (array.name, array.data_bytes) == ("sqrt_n=64", 134_217_728)


# --- words ------------------------------------------------------------------------


def test_table_sets_numbers_to_the_right() -> None:
    rows = [("64", "9 MiB", "done"), ("128", "128 MiB", "lost")]
    assert terminal.table(("n", "size", "outcome"), rows) == (
        "n       size  outcome\n---  -------  -------\n64     9 MiB  done\n"
        "128  128 MiB  lost"
    )


def test_a_number_that_is_not_known_leaves_its_column_to_the_right() -> None:
    rows = [("64", "9 MiB"), ("128", "–")]
    assert terminal.table(("n", "size"), rows) == (
        "n     size\n---  -----\n64   9 MiB\n128      –"
    )


def test_parts_of_a_dead_worker_s_memory_add_up_as_shown() -> None:
    mib = 2**20
    parts = {"managed": 100 * mib, "transfer": 0, "executing": 29 * mib}
    parts |= {"retained": 1, "baseline": 64 * mib - 1}
    breakdown = dict.fromkeys(PARTS, 0) | parts | {"process": 193 * mib}
    incident = {
        "id": "7",
        "time": 0.0,
        "kind": "oom-killed",
        "breakdown": breakdown,
        "diagnosis": {"text": "It died."},
    }
    head, said, *memory = terminal.death(incident)
    assert head.endswith("killed by the kernel (out of memory)")
    assert said == "    It died."
    assert " ".join(line.strip() for line in memory) == (
        "193 MiB = managed 100 MiB + executing 29 MiB + retained < 1 MiB + baseline "
        "64 MiB"
    )


# -- a result that outlives its cluster --------------------------------------------


def told_steps(*ran: int | None) -> list[kept.Step]:
    names = (kept.FIRST, kept.KILLED, kept.AGAIN, kept.OPENED)
    return [
        kept.Step(name, n, 0.004 if n == 0 else 6.0, None if n is None else 1.0)
        for name, n in zip(names, ran, strict=True)
    ]


def test_what_the_store_saved_is_what_ran_again_without_it() -> None:
    stored, alone = told_steps(24, 0, 0, 0), told_steps(24, 12, 24, None)
    text = " ".join("\n".join(kept.told(stored, alone)).split())
    assert "Dask alone computed 36 blocks of the source again" in text
    assert "saved 36 of them" in text
    assert "0 of 24 blocks, under 0.01 s" in text
    assert kept.shown(stored, alone)


@pytest.mark.parametrize(
    ("stored", "alone"),
    [
        ((24, 1, 0, 0), (24, 12, 24, None)),
        ((24, 0, 0, 0), (24, 12, 0, None)),
        ((12, 0, 0, 0), (24, 12, 24, None)),
    ],
)
def test_a_block_that_ran_again_is_not_shown_as_saved(stored: Any, alone: Any) -> None:
    assert not kept.shown(told_steps(*stored), told_steps(*alone))


def test_two_sums_that_differ_are_a_fault() -> None:
    alone = told_steps(24, 12, 24, None)
    wrong = [*alone[:2], replace(alone[2], total=2.0), alone[3]]
    assert not kept.shown(told_steps(24, 0, 0, 0), wrong)


@pytest.mark.parametrize(
    ("outcome", "died", "said"),
    [
        ("ok", 0, "With the guard: completed, 42 s; no worker died."),
        ("ok", 1, "With the guard: completed, 42 s; 1 worker died and came back."),
        (
            "KilledWorker",
            2,
            "With the guard: not completed (KilledWorker after 42 s, 2 deaths). It "
            "could not save this one.",
        ),
    ],
)
def test_what_became_of_the_run_with_the_guard_is_said(outcome, died, said) -> None:
    case = Case("sqrt_n=120", work, 1, 1)
    incidents = [{"kind": "terminated"}] * died
    result = Result(case, 42.0, outcome, incidents=incidents)
    assert tables.with_guard(result) == said


def test_a_guard_that_had_nothing_to_do_takes_no_credit() -> None:
    done = Result(Case("sqrt_n=120", work, 1, 1), 8.0, "ok")
    names = ("held", "opened", "drained", "braked", "fetch_limited")
    counts = dict.fromkeys(names, 0)
    idle = {"mode": "on", "text": "Nothing waits for memory now.", **counts}
    assert tables.what_it_did(idle, done).startswith("It had nothing to hold back")
    held = {**idle, "held": 3, "text": "So far 3 tasks waited."}
    assert tables.what_it_did(held, done) == "So far 3 tasks waited."
    off = "The guard could do nothing on these workers."
    assert tables.what_it_did({**idle, "mode": "off"}, done) == off
    assert tables.what_it_did(None, done) == off
