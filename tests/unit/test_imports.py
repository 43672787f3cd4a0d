"""DESIGN's import rules, read off the source and tried in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dask_memdash

PACKAGE = Path(dask_memdash.__file__).parent
STANDARD = sys.stdlib_module_names
HEAVY = {"bokeh", "panel", "param", "pandas"}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Give the full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {path}"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


IMPORTS = {module_name(p): set(imports_of(p)) for p in sorted(PACKAGE.rglob("*.py"))}


def modules(*packages):
    names = tuple(f"dask_memdash.{package}" for package in packages)
    found = {
        name: imports
        for name, imports in IMPORTS.items()
        if name in names or name.startswith(tuple(f"{n}." for n in names))
    }
    assert found
    return found


def tops(imports):
    return {name.partition(".")[0] for name in imports}


def own(imports):
    """Give the packages of dask_memdash itself that are imported."""
    return {name.split(".")[1] for name in imports if name.startswith("dask_memdash.")}


def test_the_walk_finds_what_there_is():
    assert "dask_memdash.model.cluster" in IMPORTS
    assert "distributed.diagnostics.plugin" in IMPORTS["dask_memdash.plugins.scheduler.plugin"]


@pytest.mark.parametrize(
    "name", modules("model", "recorder.format", "border", "errors")
)
def test_model_and_format_import_the_standard_library_only(name):
    assert tops(IMPORTS[name]) <= STANDARD | {"dask_memdash"}


@pytest.mark.parametrize("name", modules("model"))
def test_the_model_knows_nothing_of_the_rest(name):
    assert own(IMPORTS[name]) <= {"model", "errors"}


@pytest.mark.parametrize("name", modules("analysis"))
def test_analysis_adds_numpy_and_knows_the_model_only(name):
    assert tops(IMPORTS[name]) <= STANDARD | {"dask_memdash", "numpy"}
    assert own(IMPORTS[name]) <= {"model", "analysis", "errors"}


@pytest.mark.parametrize("name", modules("recorder"))
def test_the_recorder_never_imports_distributed_or_what_draws(name):
    assert tops(IMPORTS[name]).isdisjoint({"distributed", "dask", *HEAVY})
    assert own(IMPORTS[name]) <= {"recorder", "model", "errors", "border"}


@pytest.mark.parametrize("name", modules("store"))
def test_stores_know_nothing_of_distributed_or_what_draws(name):
    assert tops(IMPORTS[name]) <= STANDARD | {"dask_memdash"}
    assert own(IMPORTS[name]) <= {"store", "model", "analysis", "errors", "border"}


@pytest.mark.parametrize("name", IMPORTS)
def test_only_views_and_web_import_what_draws(name):
    if not name.startswith(("dask_memdash.views", "dask_memdash.web")):
        assert tops(IMPORTS[name]).isdisjoint({"bokeh", "panel"})


@pytest.mark.parametrize("name", modules("views"))
def test_views_know_neither_the_scheduler_nor_the_configuration(name):
    assert "distributed" not in tops(IMPORTS[name])
    assert own(IMPORTS[name]).isdisjoint({"config", "plugins", "recorder", "model"})


@pytest.mark.parametrize("name", IMPORTS)
def test_nothing_imports_web_or_cli_but_the_installation(name):
    allowed = ("dask_memdash.web", "dask_memdash.plugins.scheduler.install")
    if not name.startswith(allowed):
        assert own(IMPORTS[name]).isdisjoint({"web", "cli"})


@pytest.mark.parametrize("name", IMPORTS)
def test_only_plugins_demos_and_the_client_know_distributed(name):
    allowed = ("dask_memdash.plugins", "dask_memdash.web", "dask_memdash.demos")
    if not name.startswith(allowed) and name != "dask_memdash.client.connection":
        assert "distributed" not in tops(IMPORTS[name])


@pytest.mark.parametrize("name", IMPORTS)
def test_only_config_reads_dasks_configuration(name):
    if name not in ("dask_memdash.config", "dask_memdash.demos.cluster"):
        assert not any(i.startswith("dask.config") for i in IMPORTS[name])


@pytest.mark.parametrize("module", ["worker", "nanny"])
def test_the_probes_are_light_to_import(module):
    code = (
        f"import sys, dask_memdash.plugins.{module}\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_client_loads_pandas_with_its_first_frame():
    code = (
        "import sys\nfrom dask_memdash import connect, explain\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import dask_memdash\n"
        "print(sorted(n.partition('.')[0] for n in set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(ast.literal_eval(done.stdout)) <= STANDARD | {"dask_memdash"}
