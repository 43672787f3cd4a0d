"""DESIGN's import rules: one table, read off the source and tried."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import dask_memdash

PACKAGE = Path(dask_memdash.__file__).parent
STANDARD = sys.stdlib_module_names
HEAVY = {"bokeh", "panel", "param", "pandas"}
DRAWING = {"bokeh", "panel", "param"}

#: Which rooms a room may import, beside itself, and which libraries.  The longest name
#: that fits a module decides; `errors` and `text` are open to all but the model.
RULES = {
    "": ({"client", "intermediates", "plugins", "boundary"}, set()),
    "boundary": (set(), set()),
    "errors": (set(), set()),
    "text": (set(), set()),
    "terms": (set(), set()),
    "self_cost": ({"model"}, set()),
    "links": (set(), set()),
    "config": ({"notify"}, {"dask", "yaml", "numpy"}),
    "model": (set(), set()),
    "system": ({"model"}, {"psutil"}),
    "flight": ({"system"}, set()),
    "measure": ({"model", "flight", "system"}, {"psutil", "numpy"}),
    "analysis": ({"model", "terms"}, {"numpy"}),
    "store": ({"model", "analysis", "boundary", "terms"}, {"numpy"}),
    **{
        f"store.{module}": ({"runs", "model", "analysis"}, set())
        for module in (
            *("recorded", "recorded_catalogue", "recorded_history"),
            *("recorded_strips", "recorded_span"),
        )
    },
    "intermediates": (
        {"boundary"},
        {"dask", "distributed", "msgpack", "fsspec"}
        | {"cloudpickle", "isal", "redis", "xarray"},
    ),
    "intermediates.shared": (
        {"boundary", "config"},
        {"dask", "distributed", "tornado", "cloudpickle"},
    ),
    "runs": (
        {"store", "model", "boundary", "config", "system"},
        {"fsspec"},
    ),
    "runs.parquet": (set(), {"pyarrow"}),
    "plugins": (
        {
            *("model", "flight", "measure", "system", "boundary", "self_cost"),
            *("config", "guard", "metrics"),
        },
        {"dask", "distributed", "zict", "psutil", "numpy"},
    ),
    "redact": (set(), set()),
    "notify": ({"store", "analysis", "boundary", "terms"}, set()),
    "metrics": ({"model", "store", "boundary", "terms"}, set()),
    "metrics.registry": ({"boundary"}, {"distributed", "prometheus_client"}),
    "guard": (
        {"model", "measure", "flight", "boundary", "config", "plugins"},
        {"dask", "distributed"},
    ),
    **{
        f"guard.{module}": ({"model"}, set())
        for module in (
            "decision",
            "expectation",
            "holding",
            "protocol",
            "stillness",
            "too_large",
        )
    },
    "plugins.scheduler": (
        {
            *("model", "analysis", "store", "plugins", "boundary", "self_cost"),
            *("config", "links", "web", "views", "terms", "measure", "flight"),
            *("system", "runs", "guard", "metrics", "notify"),
        },
        {"dask", "distributed", "tornado", "numpy", "cloudpickle"},
    ),
    "plugins.scheduler.notebook": ({"client", "store"}, {"distributed"}),
    "views": (
        {"store", "analysis", "terms", "links", "boundary", "counterfactual"},
        {*DRAWING, "dask", "jinja2", "numpy", "tornado"},
    ),
    "web": (
        {"store", "views", "boundary", "config", "terms", "counterfactual"},
        {*DRAWING, "distributed", "tornado", "jinja2"},
    ),
    "client": (
        {"analysis", "model", "links", "terms", "plugins", "counterfactual"},
        {"dask", "distributed", "pandas", "jinja2", "numpy", "tornado"},
    ),
    "client.own_memory": (set(), {"distributed", "psutil"}),
    "compare": ({"store", "runs"}, set()),
    "pytest_plugin": ({"client", "runs", "store"}, {"pytest", "dask"}),
    "client.expectations": ({"compare", "runs", "store"}, {"dask"}),
    "client.run_diff": ({"compare"}, {"pandas"}),
    "client.recorded": (
        {"runs", "store", "views", "web", "plugins", "counterfactual"},
        set(),
    ),
    "counterfactual": ({"store", "terms"}, set()),
    "cli.sources": ({"client"}, {"dask", "distributed"}),
    "cli.top": ({"cli", "terms"}, {"rich"}),
    "cli.runs_what_if": ({"cli", "runs", "store", "counterfactual"}, {"click"}),
    "cli.runs": (
        {"cli", "compare", "runs", "store", "web", "boundary"},
        {"click"},
    ),
    "cli.info": ({"cli", "measure", "config"}, set()),
    "cli.runs_tables": ({"cli", "runs"}, set()),
    "web.earlier_runs": ({"runs", "views", "boundary", "config"}, {"tornado"}),
    "web.runs_list": ({"runs", "views", "boundary"}, {"tornado"}),
    "web.diff_page": ({"compare", "runs", "store", "views"}, {"tornado"}),
    "web.runs_server": (
        {"runs", "store", "views", "boundary"},
        {*DRAWING, "tornado"},
    ),
    "cli": (
        {
            "client",
            "demos",
            "analysis",
            "model",
            "system",
            "config",
            "intermediates",
            "plugins",
            "terms",
        },
        {"click", "psutil", "yaml", "dask"},
    ),
    "demos": (
        {"analysis", "terms", "client", "plugins", "config"},
        {"dask", "distributed", "numpy", "pandas", "psutil", "tqdm"},
    ),
}
OPEN_TO_ALL = {"errors", "text", "redact"}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Return the full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {path}"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def all_imports():
    """Return every module's imports; reading them takes a second or more."""
    return {module_name(p): set(imports_of(p)) for p in sorted(PACKAGE.rglob("*.py"))}


def tops(imports):
    return {name.partition(".")[0] for name in imports}


def own(imports):
    """Return the rooms of dask_memdash itself that are imported."""
    names = {name.split(".")[1] for name in imports if name.startswith("dask_memdash.")}
    return names - set(dask_memdash.__all__)


def rule_for(module):
    """Return the name of the rule that a module is under: the longest that fits."""
    inside = module.removeprefix("dask_memdash").removeprefix(".")
    fitting = [r for r in RULES if inside == r or inside.startswith(f"{r}.")]
    assert fitting, f"{module} is in no room that the table knows"
    return max(fitting, key=len)


def test_the_walk_finds_what_there_is():
    assert "dask_memdash.model.cluster" in all_imports()
    plugin = all_imports()["dask_memdash.plugins.scheduler.plugin"]
    assert "distributed.diagnostics.plugin" in plugin


def test_a_module_imports_only_what_its_room_may():
    wrong = {}
    for module, imported in all_imports().items():
        name = rule_for(module)
        rooms, libraries = RULES[name]
        allowed = rooms | OPEN_TO_ALL | {name.partition(".")[0]}
        over = own(imported) - allowed
        over |= tops(imported) - STANDARD - libraries - {"dask_memdash"}
        if over:
            wrong[module] = over
    assert wrong == {}


def test_every_rule_is_needed():
    assert {rule_for(module) for module in all_imports()} == set(RULES)


def test_only_config_reads_dasks_configuration():
    readers = {
        module
        for module, imported in all_imports().items()
        if any(name.startswith("dask.config") for name in imported)
    }
    assert readers <= {"dask_memdash.config", "dask_memdash.demos.cluster"}


def test_the_page_is_loaded_by_the_installation_alone():
    may = (
        "dask_memdash.web",
        "dask_memdash.plugins.scheduler.install",
        "dask_memdash.client.recorded",
        "dask_memdash.cli.runs",
    )
    loading = {module for module, names in all_imports().items() if "web" in own(names)}
    assert {module for module in loading if not module.startswith(may)} == set()


def loaded_by(code):
    """Return the modules that a piece of code loads in a fresh interpreter."""
    code = (
        f"import sys; before = set(sys.modules)\n{code}\n"
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["plugins.worker.probe", "plugins.nanny.probe", "cli.main"]
)
def test_probes_and_the_command_line_load_no_page(module):
    assert tops(loaded_by(f"import dask_memdash.{module}")).isdisjoint(HEAVY)


def test_importing_the_package_imports_nothing_else():
    assert tops(loaded_by("import dask_memdash")) <= STANDARD | {"dask_memdash"}


@pytest.mark.parametrize(
    "module",
    [
        "flight.format",
        *sorted(f"model.{path.stem}" for path in (PACKAGE / "model").glob("[!_]*.py")),
    ],
)
def test_model_and_format_load_the_standard_library_only(module):
    loaded = loaded_by(f"import dask_memdash.{module}")
    assert tops(loaded) <= STANDARD | {"dask_memdash"}


def test_the_client_loads_no_probe_and_pandas_with_its_first_frame():
    loaded = loaded_by("from dask_memdash import connect, explain")
    assert tops(loaded).isdisjoint(HEAVY)
    ours = {name for name in loaded if name.startswith("dask_memdash.")}
    assert len(ours) < 15
    assert not any(name.startswith("dask_memdash.measure") for name in ours)
    assert not any(name.endswith(("probe", "_tally")) for name in ours)
