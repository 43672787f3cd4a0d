"""Settings: defaults, the schema beside them, and values that cannot be used."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import dask.config
import pytest
import yaml

import dask_memdash
from dask_memdash import config
from dask_memdash.config import (
    CHECKS,
    Settings,
    defaults,
    lines_allowed,
    load,
    tally_allowed,
)
from dask_memdash.errors import ConfigError, MemDashError

PACKAGE = Path(dask_memdash.__file__).parent
DEFAULTS = yaml.safe_load((PACKAGE / "memdash.yaml").read_text())
SCHEMA = yaml.safe_load((PACKAGE / "memdash-schema.yaml").read_text())

KEYS = {
    "sample-interval": 0.05,
    "tally": "auto",
    "lines": True,
    "guard": "off",
    "metrics": True,
    "budget": 0.02,
    "recorder.directory": None,
    "recorder.slots": None,
    "stuck-after": 10.0,
    "page.refresh": 1.0,
    "page.limit": 30,
    "history.points": 600,
    "incidents.keep": 1000,
    "storage.url": None,
    "storage.ram": None,
    "storage.ttl": "7d",
    "storage.version": None,
    "record.to": None,
    "record.limit": 2 * 2**30,
    "record.queue": 50_000,
    "record.run": None,
    "record.tags": None,
    "record.server": None,
    "notify.targets": (),
    "notify.most-per-hour": 20,
    "notify.timeout": 10.0,
}

TYPES = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}


@pytest.fixture(autouse=True)
def no_configuration():
    """Run each test as if nobody had configured anything."""
    with dask.config.set({"memdash": {}}):
        yield


def leaves(tree, path=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def schema_leaves(tree, path=""):
    for name, entry in tree["properties"].items():
        if entry["type"] == "object":
            assert entry["additionalProperties"] is False
            yield from schema_leaves(entry, f"{path}{name}.")
        else:
            yield f"{path}{name}", entry


SCHEMA_LEAVES = dict(schema_leaves(SCHEMA["properties"]["memdash"]))


def test_every_setting_has_a_key_a_default_and_a_schema_entry():
    settings = {field.name for field in fields(Settings)}
    assert {key.replace(".", "_").replace("-", "_") for key in KEYS} == settings
    assert set(KEYS) == set(CHECKS)
    assert set(KEYS) == set(dict(leaves(DEFAULTS["memdash"])))
    assert set(KEYS) == set(SCHEMA_LEAVES)


@pytest.mark.parametrize("key", KEYS)
def test_a_default_is_of_the_schemas_type_and_the_entry_says_what_it_means(key):
    entry = SCHEMA_LEAVES[key]
    types = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    default = dict(leaves(DEFAULTS["memdash"]))[key]
    assert isinstance(default, tuple(TYPES[name] for name in types))
    assert len(entry["description"]) > 30


def test_without_configuration_the_defaults_hold():
    expected = {k.replace(".", "_").replace("-", "_"): v for k, v in KEYS.items()}
    assert defaults().to_dict() == expected
    assert load() == defaults()


def test_settings_are_sent_as_plain_data_and_newer_ones_ignored():
    settings = load({"page.refresh": "2s"})
    data = {**settings.to_dict(), "invented_later": 1}
    assert Settings.from_dict(data) == settings


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("sample-interval", "20ms", 0.02),
        ("sample-interval", "5ms", 0.005),
        ("sample-interval", 10, 10.0),
        ("page.refresh", "1 minute", 60.0),
        ("page.refresh", 0.5, 0.5),
        ("recorder.directory", "/scratch", "/scratch"),
        ("tally", "native", "native"),
        ("tally", True, "auto"),
        ("tally", False, "off"),
        ("lines", False, False),
        ("guard", True, "on"),
        ("guard", False, "off"),
        ("guard", "dry-run", "dry-run"),
        ("recorder.slots", 1, 1),
        ("recorder.slots", 4096, 4096),
        ("history.points", 20, 20),
        ("incidents.keep", 1, 1),
        ("record.limit", "1 GB", 10**9),
        ("record.to", "s3://bucket/runs", "s3://bucket/runs"),
        (
            "record.tags",
            "branch=main, commit=1a2b",
            {"branch": "main", "commit": "1a2b"},
        ),
    ],
)
def test_a_configured_value_holds(key, value, expected):
    name = key.replace(".", "_").replace("-", "_")
    with dask.config.set({f"memdash.{key}": value}):
        assert getattr(load(), name) == expected


WRONG = [
    ("sample-interval", value, "a time between 0.005 s and 10 s, such as '0.01s'")
    for value in ("soon", "4ms", "11s", "-1s", 0, None, "", " ", [], True, "nan", "1x")
]
WRONG += [
    ("page.refresh", value, "a time between 0.1 s and 3600 s, such as '0.2s'")
    for value in ("50ms", "2h", float("nan"), float("inf"), ["1s"])
]
WRONG += [
    ("recorder.slots", value, "a whole number from 1 to 4096, or null")
    for value in (0, 4097, "8", 2.0, True, [])
]
WRONG += [
    ("history.points", value, "a whole number from 20 to 100000")
    for value in (19, 100_001, None, "600", 20.5, False)
]
WRONG += [
    ("incidents.keep", value, "a whole number from 1 to 1000000")
    for value in (0, -1, 1_000_001, None)
]
WRONG += [
    ("record.limit", value, "a size of at least 1000000 bytes")
    for value in ("much", "1 kB", -5, None, True, float("nan"))
]
WRONG += [
    ("record.tags", value, "such as 'branch=main, commit=1a2b', or null")
    for value in ("main", "=x", 5, "")
]
WRONG += [
    ("guard", value, "one of off, on, dry-run") for value in (None, 1, "yes", "", [])
]
WRONG += [("lines", value, "true or false") for value in (None, 1, "yes", "off")]
WRONG += [
    ("recorder.directory", value, "the path of a directory, or null")
    for value in ("", 5, False, ["/x"])
]


@pytest.mark.parametrize(("key", "value", "expected"), WRONG)
def test_a_wrong_value_is_named_with_its_key_and_what_is_expected(key, value, expected):
    with (
        dask.config.set({f"memdash.{key}": value}),
        pytest.raises(ConfigError) as caught,
    ):
        load()
    assert str(caught.value) == f"memdash.{key} is {value!r}; it must be {expected}"
    assert (caught.value.key, caught.value.expected) == (key, expected)
    assert isinstance(caught.value, MemDashError)


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"page": {"refrsh": "1s"}}, "page.refrsh"),
        ({"nonsense": 1}, "nonsense"),
        ({"page": "1s"}, "page"),
        ({"sample-interval": {"a": 1}}, "sample-interval.a"),
        ({5: 1}, "5"),
    ],
)
def test_an_unknown_key_is_named_with_the_known_ones(tree, key):
    known = ", ".join(KEYS)
    with dask.config.set({"memdash": tree}), pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value).startswith(f"memdash.{key} is ")
    assert str(caught.value).endswith(f"; it must be one of the keys {known}")


@pytest.mark.parametrize("tree", [5, "text", [1]])
def test_a_configuration_that_is_no_mapping_is_refused(tree):
    with (
        dask.config.set({"memdash": tree}),
        pytest.raises(ConfigError, match=re.escape("a mapping of keys to values")),
    ):
        load()


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("DASK_MEMDASH__PAGE__REFRESH", "2s", "page_refresh", 2.0),
        ("DASK_MEMDASH__PAGE__REFRESH", "3", "page_refresh", 3.0),
        ("DASK_MEMDASH__SAMPLE_INTERVAL", "20ms", "sample_interval", 0.02),
        ("DASK_MEMDASH__RECORDER__SLOTS", "64", "recorder_slots", 64),
        ("DASK_MEMDASH__RECORDER__DIRECTORY", "/x", "recorder_directory", "/x"),
        ("DASK_MEMDASH__RECORD__TO", "/runs", "record_to", "/runs"),
        ("DASK_MEMDASH__RECORD__TAGS", "a=b", "record_tags", {"a": "b"}),
    ],
)
def test_environment_variables_set_keys(variable, value, name, expected):
    with dask.config.set(dask.config.collect_env({variable: value})):
        assert getattr(load(), name) == expected


def test_tags_of_a_run_may_be_a_mapping():
    tags = {"branch": "main", "build_number": 7, "page.refresh": "no key of ours"}
    with dask.config.set({"memdash.record.tags": tags}):
        found = load().record_tags
    assert found == {
        "branch": "main",
        "build_number": "7",
        "page.refresh": "no key of ours",
    }


def test_overrides_go_before_the_configuration():
    with dask.config.set({"memdash.page.refresh": "2s", "memdash.incidents.keep": 7}):
        settings = load({"page.refresh": "3s"})
    assert (settings.page_refresh, settings.incidents_keep) == (3.0, 7)


def test_an_override_is_checked_like_a_configured_value():
    with pytest.raises(ConfigError, match=r"memdash\.page\.refresh is 'soon'"):
        load({"page.refresh": "soon"})
    with pytest.raises(ConfigError, match=r"memdash\.nonsense is 1"):
        load({"nonsense": 1})


@pytest.mark.parametrize(
    ("value", "expected"), [(0.95, 0.95), ("0.9", 0.9), (False, None), (None, None)]
)
def test_the_hosts_own_terminate_threshold_is_read(value, expected):
    with dask.config.set({"distributed.worker.memory.terminate": value}):
        assert config.terminate_fraction() == expected


@pytest.mark.parametrize(
    ("asked", "here", "allowed"),
    [
        ("auto", None, "auto"),
        ("auto", "off", "off"),
        ("native", False, "off"),
        ("off", "auto", "off"),
        ("auto", "python", "python"),
        ("auto", "nonsense", "auto"),
    ],
)
def test_whoever_runs_a_worker_can_forbid_the_tally_there(asked, here, allowed):
    with dask.config.set({"memdash.tally": here}):
        assert tally_allowed(asked) == allowed


@pytest.mark.parametrize(
    ("asked", "here", "allowed"),
    [
        (True, None, True),
        (True, True, True),
        (True, False, False),
        (False, True, False),
    ],
)
def test_whoever_runs_a_worker_can_forbid_lines_there(asked, here, allowed):
    with dask.config.set({"memdash.lines": here}):
        assert lines_allowed(asked) is allowed


def test_a_workers_environment_forbids_what_its_nannys_defaults_allow(monkeypatch):
    """A nanny's configuration, defaults and all, goes over a worker's environment."""
    monkeypatch.setenv("DASK_MEMDASH__TALLY", "off")
    monkeypatch.setenv("DASK_MEMDASH__LINES", "false")
    with dask.config.set({"memdash.tally": "auto", "memdash.lines": True}):
        assert tally_allowed("native") == "off"
        assert not lines_allowed(asked=True)


def test_dask_knows_the_defaults_and_what_is_configured_goes_before_them() -> None:
    """In a fresh process: `dask config get memdash`, and again after a refresh."""
    code = (
        "import dask, dask_memdash.config;"
        "print(dask.config.get('memdash.history.points'), end=' ');"
        "dask.config.refresh();"
        "print(dask.config.get('memdash.history.points'),"
        "dask.config.get('memdash.page.refresh'))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DASK_MEMDASH__PAGE__REFRESH": "2s"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.split() == ["600", "600", "2s"]
