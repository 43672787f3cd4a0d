"""``dask memdash info``: what it says, and whose names it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from dask_memdash.cli import info, main, sources
from dask_memdash.cli.redact import HIDDEN, Redaction


def redaction() -> Redaction:
    return Redaction(home="/home/ada", user="ada", host="ada-laptop")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://key:secret@bucket/runs", "s3://host-2/runs"),
        ("s3://key:se,cr;et/@x@bucket/runs", "s3://host-2/runs"),
        ("https://hooks.test/x?token=abc", "https://host-2/x"),
        (
            "tcp://a:1, tcp://b:2; tcp://a:3",
            "tcp://host-2:1, tcp://host-3:2; tcp://host-2:3",
        ),
        ("nanny of tcp://10.1.2.3:4567", "nanny of tcp://host-2:4567"),
        ("tcp://127.0.0.1:8786 is silent", "tcp://127.0.0.1:8786 is silent"),
        ("/home/ada/runs is full", "~/runs is full"),
        ("file:///home/ada/runs", "file://~/runs"),
        ("ada on ada-laptop", "user on this-host"),
        ("adamant, pandas 3.1.1", "adamant, pandas 3.1.1"),
        ("worker 10.0.0.7 of 10.0.0.7", "worker host-2 of host-2"),
        ("http://[::1/x", f"http://{HIDDEN}"),
    ],
)
def test_names_are_taken_out(text: str, expected: str) -> None:
    assert redaction().text(text) == expected


def test_a_host_keeps_its_stand_in_and_others_get_their_own() -> None:
    hidden = redaction()
    assert hidden.text("tcp://node-a:1") == "tcp://host-2:1"
    assert hidden.text("tcp://node-b:1, node-a") == "tcp://host-3:1, host-2"


def test_secrets_are_hidden_by_the_name_of_their_value() -> None:
    value = {
        "storage": {"aws_secret": "x", "ram": "25%"},
        "notify_targets": ["https://hooks.test/services/T/B/key"],
        "n": [1, None, True],
    }
    assert redaction().value(value) == {
        "storage": {"aws_secret": HIDDEN, "ram": "25%"},
        "notify_targets": HIDDEN,
        "n": [1, None, True],
    }


def run(*arguments: str, **environment: str) -> str:
    result = CliRunner().invoke(main.main, ["info", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def test_versions_machine_and_tally_are_told() -> None:
    found = json.loads(run("--json"))
    import dask

    assert found["versions"]["dask"] == dask.__version__
    assert found["machine"]["least"] > 2**20
    assert found["measuring"]["tally"] in ("native", "python", "none")
    assert found["measuring"]["tally"] == "native" or found["measuring"]["why"]
    assert "Machine" in run()


def test_only_settings_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    assert info.configured() == {}
    with dask.config.set({"memdash.page.limit": 3}):
        assert info.configured() == {"page_limit": 3}
    with dask.config.set({"memdash.page.limit": "many"}):
        assert "memdash.page.limit" in info.configured()["error"]


class Busy:
    """A cluster of three workers, one of which a hook is missing from."""

    address, identity = "http://node-a:8787", ""

    def ask(self, path: str, **arguments: int | str) -> Any:
        if path == "workers":
            row = {"nthreads": 2, "status": "running", "method": "exact"}
            return [
                {**row, "stale_for": None},
                {**row, "stale_for": None, "method": "estimated"},
                {**row, "stale_for": 12.0, "status": "paused"},
            ]
        notice = {"text": "spills are not seen", "since": 0.0}
        return {
            "schema_version": 1,
            "n_workers": 3,
            "n_processes": 3,
            "n_incidents": 2,
            "n_failures": 1,
            "self_cost": {"scheduler": {"cpu": 0.04}, "nannies": {"cpu": None}},
            "degraded": [
                {**notice, "where": "worker tcp://10.0.0.1:1"},
                {**notice, "where": "worker tcp://10.0.0.2:1"},
            ],
        }

    def close(self) -> None:
        pass


def test_a_cluster_is_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "open_dashboard", lambda address: Busy())
    text = run("http://node-a:8787")
    for line in (
        "3 workers in 3 processes, 1 failure, 2 incidents",
        "threads            2 × 3",
        "status             running × 2, paused × 1",
        "measured           exact × 2, estimated × 1",
        "cost of a core     scheduler 4 %",
        "silent             1",
        "degraded, 2 times: worker: spills are not seen",
    ):
        assert line in text
    assert "node-a" not in text
    assert "10.0.0" not in text


def test_an_address_where_nobody_answers_is_said_in_one_line() -> None:
    result = CliRunner().invoke(main.main, ["info", "http://127.0.0.1:1"])
    assert result.exit_code == 3
    assert result.output.startswith("Error: the scheduler at http://127.0.0.1:1/")


@pytest.mark.parametrize("address", ["ftp://x", "gopher://x:1"])
def test_a_scheme_that_no_cluster_has_is_refused(address: str) -> None:
    with pytest.raises(sources.MemDashError, match="no address of a dashboard"):
        sources.open_dashboard(address)
