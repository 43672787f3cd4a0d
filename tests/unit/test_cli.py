"""The command line's options, help and messages."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from dask_memdash.cli import main, options
from dask_memdash.cli.demo_table import DEMOS as DEMO_TABLE
from dask_memdash.cli.demo_table import Demo
from dask_memdash.demos import DemoError, cluster, runs, shuffles


def dask_memdash(*arguments: str) -> Result:
    return CliRunner().invoke(main.main, arguments)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may start a cluster."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(cluster, "LocalCluster", refuse)


# --- help and options -------------------------------------------------------------


def test_help_says_how_to_register() -> None:
    result = dask_memdash("--help")
    assert result.exit_code == 0
    assert "client.register_plugin(MemDash())" in result.output
    assert "dask scheduler --preload dask_memdash" in result.output


def test_help_of_the_demo_lists_exit_statuses() -> None:
    result = dask_memdash("demo", "rechunk", "--help")
    assert result.exit_code == 0
    for line in ("  0    a task was given up", "  3    it cannot run here"):
        assert line in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "64,"], "no list of whole numbers"),
        (["--sizes", "1"], "no list of whole numbers"),
        (["--memory-limit", "much"], "no size"),
        (["--memory-limit", "0"], "no size"),
        (["--timeout", "soon"], "no duration"),
        (["--timeout", "-1s"], "no duration"),
        (["--workers", "0"], "not in the range"),
        (["--method", "magic"], "is not one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str], message: str
) -> None:
    result = dask_memdash("demo", "rechunk", *arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("10min", 600), ("5 min", 300), ("3h", 10_800)]
)
def test_durations_are_read(text: str, expected: float) -> None:
    parameter = next(p for p in main.demo.commands["bag"].params if p.name == "timeout")
    context = click.Context(main.demo)
    assert options.seconds(context, parameter, text) == expected


@pytest.mark.parametrize("name", ["array", "bag", "dataframe", "rechunk"])
def test_defaults_can_be_read(name: str) -> None:
    command = main.demo.commands[name]
    with command.make_context(name, []) as context:
        assert context.params["timeout"] > 0
        assert len(context.params["sizes"]) >= 4


DEMOS = (
    *("array", "bag", "dataframe", "rechunk"),
    *("gc", "leak", "pinned", "shared", "skew"),
)


@pytest.mark.parametrize("entry", DEMO_TABLE, ids=lambda entry: entry.name)
def test_what_a_demo_is_made_by_is_there_and_takes_what_its_options_say(
    entry: Demo,
) -> None:
    command = main.demo.commands[entry.name]
    given = command.make_context(entry.name, []).params
    ours = ("dashboard_address", "hold", "force", "as_json")
    taken = {name: given[name] for name in given if name not in ours}
    run = getattr(runs, entry.made_by)(*entry.of, **taken)
    plan = run.largest("127.0.0.1", 0)
    assert plan.needed > 100_000_000
    assert all(isinstance(module, str) for module in run.needs)


def test_every_demo_is_listed_with_what_it_shows() -> None:
    output = dask_memdash("demo", "--help").output
    for name in DEMOS:
        assert f"\n  {name} " in output


@pytest.mark.parametrize("name", DEMOS)
def test_help_of_every_demo_says_what_exit_statuses_mean(name: str) -> None:
    result = dask_memdash("demo", name, "--help")
    assert result.exit_code == 0
    for status in (
        *("  0    ", "  1    ", "  2    options that make no sense"),
        *("  3    it cannot run", "  130  interrupted"),
    ):
        assert status in result.output


def every_command(found: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    if isinstance(found, click.Group):
        for name, one in found.commands.items():
            yield from every_command(one, *names, name)


@pytest.mark.parametrize("command", [*every_command(main.main)], ids=" ".join)
def test_help_of_every_command_keeps_its_lists_as_lines(
    command: tuple[str, ...],
) -> None:
    text = dask_memdash(*command, "--help").output
    assert "\\b" not in text
    for head in ("Exit status:", "Example:", "Examples:"):
        assert text.count(head) == text.count(f"\n  {head}\n")


@pytest.mark.parametrize("command", [*(("demo", name) for name in DEMOS), ("limits",)])
def test_examples_in_help_are_understood(command: tuple[str, ...]) -> None:
    text = dask_memdash(*command, "--help").output
    _, _, after = text.partition("Examples:")
    start = f"  dask memdash {' '.join(command)}"
    examples = [
        line.partition(" > ")[0].removeprefix("  " + start).split()
        for line in after.splitlines()
        if line.startswith("  " + start)
    ]
    assert len(examples) >= 3
    found: click.Command = main.main
    for name in command:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    for arguments in examples:
        found.make_context(command[-1], arguments)


@pytest.mark.parametrize("scale", ["0", "much", "100"])
def test_scale_that_makes_no_sense_is_refused(scale: str) -> None:
    result = dask_memdash("demo", "array", "--scale", scale)
    assert result.exit_code == 2
    assert "--scale" in result.output


# --- what keeps the demo from running ---------------------------------------------


def test_port_in_use_gets_a_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = dask_memdash(
            "demo", "rechunk", "--dashboard-address", f"127.0.0.1:{port}"
        )
    assert result.exit_code == 3
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in (
        result.output
    )
    assert "--dashboard-address" in result.output
    assert "Traceback" not in result.output


def test_too_little_memory_gets_a_clear_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "available_memory", lambda: 1_000_000_000)
    result = dask_memdash("demo", "rechunk")
    assert result.exit_code == 3
    assert "needs 2.55 GiB of free memory (4 workers of 557 MiB" in result.output
    assert "this machine has 0.93 GiB" in result.output or (
        "this machine has 954 MiB" in result.output
    )
    assert "--force" in result.output


def test_missing_pandas_gets_a_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    for name in ("dataframe", "skew"):
        result = dask_memdash("demo", name)
        assert result.exit_code == 3
        assert 'pip install "dask[dataframe]"' in result.output


def test_missing_numpy_gets_a_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.array", None)
    result = dask_memdash("demo", "rechunk")
    assert result.exit_code == 3
    assert 'pip install "dask[array]"' in result.output


def test_address_that_is_none_gets_a_clear_message() -> None:
    result = dask_memdash("demo", "rechunk", "--dashboard-address", "banana")
    assert result.exit_code == 3
    assert "'banana' is no address" in result.output


def test_interruption_has_the_status_of_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(shuffles, "require", lambda module: interrupt())
    result = dask_memdash("demo", "rechunk")
    assert result.exit_code == 130
    assert "Interrupted." in result.output
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8787", ("", 8787)),
        (":8787", ("", 8787)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert cluster.parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", ":x", ":65536", ":-1"])
def test_addresses_refused(text: str) -> None:
    with pytest.raises(DemoError, match="no address"):
        cluster.parse_address(text)


def test_enough_memory_is_enough() -> None:
    plan = cluster.Plan(4, 584_000_000, "", 0)
    cluster.check_memory(plan, plan.needed)
    with pytest.raises(DemoError):
        cluster.check_memory(plan, plan.needed - 1)


def test_free_port_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    cluster.check_port(cluster.Plan(1, 1, "127.0.0.1", port))


def test_an_interruption_in_the_midst_of_garbage_collection_is_not_lost():
    def _gc_callback() -> None:
        options._interrupt(signal.SIGINT, sys._getframe())

    def collect_and_wait() -> None:
        _gc_callback()  # nothing may be raised in there
        threading.Event().wait(30)

    with options.terminate_like_ctrl_c(), pytest.raises(KeyboardInterrupt):
        collect_and_wait()


def test_runs_open_names_what_it_cannot_open(tmp_path: Path) -> None:
    result = dask_memdash("runs", "open", str(tmp_path / "nowhere"))
    assert result.exit_code != 0
    assert "nowhere" in result.output
