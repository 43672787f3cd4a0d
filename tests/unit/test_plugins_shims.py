"""What travels to other machines: source that needs nothing until it is set up."""

import ast
import importlib
import pickle
import subprocess
import sys

import cloudpickle
import pytest
from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin

from dask_memdash import MemDash, config
from dask_memdash.errors import ConfigError
from dask_memdash.plugins import shims
from dask_memdash.plugins.protocol import PROTOCOL

SETTINGS = config.defaults().to_dict()

#: What stands before the code that runs where dask_memdash is not installed.
WITHOUT_PACKAGE = """
import pickle, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dask_memdash":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
data = bytes.fromhex(sys.stdin.read())
"""


class Host:
    """A worker or nanny that notes what is logged on it."""

    address_safe = "tcp://a:1"

    def __init__(self):
        self.events = []

    def log_event(self, topic, msg):
        self.events.append((topic, msg))


def run_without_package(data, code):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE + code],
        input=data.hex(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "source", ["WORKER_SOURCE", "NANNY_SOURCE", "SCHEDULER_SOURCE"]
)
def test_the_source_is_python(source):
    compile(getattr(shims, source), source, "exec")


@pytest.mark.parametrize(
    ("make", "base", "kind"),
    [
        (shims.worker_plugin, WorkerPlugin, "worker"),
        (shims.nanny_plugin, NannyPlugin, "nanny"),
    ],
)
def test_a_plugin_comes_back_whole(make, base, kind):
    plugin = pickle.loads(make(SETTINGS, "1.2.3", 7))
    assert isinstance(plugin, base)
    assert plugin.name == "memdash"
    assert (plugin.settings, plugin.version, plugin.protocol) == (SETTINGS, "1.2.3", 7)
    assert plugin.probe is None


@pytest.mark.parametrize(
    ("make", "kind"),
    [(shims.worker_plugin, "worker"), (shims.nanny_plugin, "nanny")],
)
def test_a_machine_without_the_package_says_so_in_one_sentence(make, kind):
    code = f"""
plugin = pickle.loads(data)
class Host:
    address_safe = "tcp://a:1"
    def log_event(self, topic, msg):
        print(topic, msg["action"], msg["kind"], msg["where"])
        print(msg["text"])
host = Host()
plugin.setup({kind}=host)
plugin.teardown({kind}=host)
print([name for name in sys.modules if name.startswith("dask_memdash")])
"""
    assert run_without_package(make(SETTINGS, "1.2.3", PROTOCOL), code) == [
        f"memdash missing {kind} tcp://a:1",
        "dask_memdash cannot be imported (No module named 'dask_memdash'); "
        f"install it there to measure this {kind}",
        "[]",
    ]


def test_a_scheduler_without_the_package_refuses_the_registration_in_one_sentence():
    code = """
try:
    pickle.loads(data)
except RuntimeError as error:
    print(error)
    print(error.__cause__, error.__suppress_context__)
"""
    assert run_without_package(pickle.dumps(MemDash()), code) == [
        "MemDash cannot be registered: the scheduler cannot import dask_memdash (No "
        "module named 'dask_memdash'); install dask-memdash where the scheduler runs",
        "None True",
    ]


@pytest.mark.parametrize(
    ("make", "kind"),
    [(shims.worker_plugin, "worker"), (shims.nanny_plugin, "nanny")],
)
def test_versions_that_do_not_understand_each_other_are_named(make, kind):
    plugin, host = pickle.loads(make(SETTINGS, "9.9.9", PROTOCOL + 1)), Host()
    plugin.setup(**{kind: host})
    plugin.teardown(**{kind: host})
    ((topic, message),) = host.events
    assert topic == shims.TOPIC
    assert (message["action"], message["kind"], message["where"]) == (
        "missing",
        kind,
        "tcp://a:1",
    )
    assert "here and 9.9.9 on the scheduler, which do not understand" in message["text"]
    assert plugin.probe is None


def test_a_host_that_cannot_log_is_not_harmed():
    plugin = pickle.loads(shims.worker_plugin(SETTINGS, "9.9.9", PROTOCOL + 1))
    plugin.setup(worker=object())
    plugin.teardown(worker=object())


def test_what_travels_is_text_and_nothing_of_the_packages():
    for make in (shims.worker_plugin, shims.nanny_plugin):
        data = make(SETTINGS, "1.2.3", PROTOCOL)
        code = """
import pickletools
for opcode, argument, _ in pickletools.genops(data):
    if opcode.name in ("GLOBAL", "INST"):
        print(argument)
print("dask_memdash" in sys.modules)
"""
        assert run_without_package(data, code) == ["False"]


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_memdash_comes_back_with_its_overrides(dumps):
    plugin = pickle.loads(dumps(MemDash(sample_interval="100ms", page__refresh="2s")))
    assert isinstance(plugin, SchedulerPlugin)
    assert type(plugin) is MemDash
    assert plugin.name == "memdash"
    assert plugin.idempotent
    assert plugin._settings().sample_interval == 0.1
    assert plugin._settings().page_refresh == 2.0
    again = pickle.loads(dumps(plugin))
    assert again._settings() == plugin._settings()


def test_memdash_refuses_an_override_where_it_is_made():
    with pytest.raises(ConfigError, match=r"memdash\.page\.refresh is 'soon'"):
        MemDash(page__refresh="soon")
    with pytest.raises(ConfigError, match=r"memdash\.nonsense is 1"):
        MemDash(nonsense=1)


@pytest.mark.parametrize(
    "source", ["WORKER_SOURCE", "NANNY_SOURCE", "SCHEDULER_SOURCE"]
)
def test_all_that_the_source_imports_of_the_package_is_where_it_says(source):
    """A module that moves takes its name along here too."""
    imported = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(getattr(shims, source)))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if node.module.startswith("dask_memdash.")
    ]
    assert imported
    for module, name in imported:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
