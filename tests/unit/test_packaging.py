"""The distribution: what is in it, and what importing it costs."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())

OLDEST = "2025.11.0"
VERSION = "0.1.0"

#: What a build reads, so that nothing is written into the checkout.
SOURCES = (
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "dask_memdash",
    "static",
)


def run(*command: str | Path, cwd: Path, timeout: float = 60) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the sdist, which is built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", ".*", "*.so")
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignore)
        else:
            shutil.copy(path, source / name)
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    run(*build, source, cwd=folder, timeout=110)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the package from the wheel only.

    Everything else comes from this environment: a line in a ``.pth`` file adds its
    site-packages to the path, without the editable installs registered there.
    """
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    install = ("install", "--quiet", "--no-deps", "--no-index")
    run(*pip, *install, wheel, cwd=folder)
    paths = [p for p in sys.path if p.endswith("site-packages")]
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = Path(run(python, "-I", "-c", query, cwd=folder).strip())
    (purelib / "others.pth").write_text("\n".join(paths) + "\n")
    return python


def test_wheel_holds_every_static_file(wheel: Path) -> None:
    static = REPOSITORY / "static"
    expected = {
        f"dask_memdash/static/{path.relative_to(static).as_posix()}"
        for path in static.rglob("*")
        if path.is_file()
    }
    assert expected
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


def test_wheel_holds_what_the_package_reads_at_run_time(wheel: Path) -> None:
    package = REPOSITORY / "dask_memdash"
    expected = {
        f"dask_memdash/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file()
        and not any(
            part.startswith(("__pycache__", "."))
            for part in path.relative_to(package).parts
        )
        and path.suffix not in (".so", ".c", ".h")
    }
    assert "dask_memdash/memdash.yaml" in expected
    assert "dask_memdash/py.typed" in expected
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


def test_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"dask_memdash", "dask_memdash-0.1.0.dist-info"}


def test_every_package_is_in_the_wheel(wheel: Path) -> None:
    found = {
        f"{path.parent.relative_to(REPOSITORY).as_posix()}/__init__.py"
        for path in (REPOSITORY / "dask_memdash").rglob("__init__.py")
    }
    assert found <= set(zipfile.ZipFile(wheel).namelist())


def test_installed_wheel_serves_the_page_and_all_that_it_asks_for(
    installed: Path, tmp_path: Path
) -> None:
    output = run(installed, "-I", "-c", SERVE, cwd=tmp_path, timeout=100)
    result = json.loads(output.splitlines()[-1])
    home = installed.parents[1]
    assert Path(result["package"]).is_relative_to(home)
    assert Path(result["static"]).is_relative_to(home)
    assert result["page"] == 200
    own = [url for url in result["assets"] if "memdash/static/" in url]
    assert own
    assert set(result["assets"].values()) == {200}


#: Fetches the page, and whatever script, style and icon its HTML names.
SERVE = """
import json, re, urllib.parse, urllib.request
import dask_memdash
from dask_memdash.views.assets import static_dir
from distributed import Client, LocalCluster

def fetch(url):
    with urllib.request.urlopen(url, timeout=20) as response:
        return response.status, response.read().decode("utf-8", "replace")

with (
    LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False,
        dashboard_address="127.0.0.1:0", memory_limit=0,
    ) as cluster,
    Client(cluster) as client,
):
    client.register_plugin(dask_memdash.MemDash())
    page = f"http://127.0.0.1:{cluster.scheduler_info['services']['dashboard']}/memdash"
    status, html = fetch(page)
    named = re.findall(r'<(?:script|link)\\b[^>]*?(?:src|href)="([^"]+)"', html)
    named = [url for url in named if not url.startswith("data:")]
    assets = {url: fetch(urllib.parse.urljoin(page, url))[0] for url in named}
    client.unregister_scheduler_plugin("memdash")
print(json.dumps({
    "package": dask_memdash.__file__, "static": str(static_dir()),
    "page": status, "assets": assets,
}))
"""


def test_installed_wheel_adds_a_command_to_dask(
    installed: Path, tmp_path: Path
) -> None:
    output = run(installed, "-I", "-m", "dask", "memdash", "--version", cwd=tmp_path)
    assert output.strip() == "dask memdash, version 0.1.0"


def test_version_is_told_by_package_and_metadata_alike() -> None:
    from importlib.metadata import version

    import dask_memdash

    assert dask_memdash.__version__ == version("dask-memdash") == "0.1.0"


# --- what importing costs ---------------------------------------------------------


def loaded_by(module: str) -> set[str]:
    """The top-level modules that an import adds in a fresh interpreter."""
    code = (
        "import sys; before = set(sys.modules); import importlib;"
        f"importlib.import_module({module!r});"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    return set(run(sys.executable, "-c", code, cwd=REPOSITORY).split())


@pytest.mark.parametrize(
    "module",
    [
        "dask_memdash",
        "dask_memdash.plugins.worker.probe",
        "dask_memdash.plugins.nanny.probe",
        "dask_memdash.cli.main",
    ],
)
def test_workers_and_the_command_line_load_no_page_libraries(module: str) -> None:
    assert not loaded_by(module) & {"bokeh", "panel", "pandas", "param"}


def test_preloading_the_package_loads_the_standard_library_only() -> None:
    assert loaded_by("dask_memdash") - sys.stdlib_module_names == {"dask_memdash"}


@pytest.mark.parametrize(
    "module",
    [
        "dask_memdash.plugins.worker.probe",
        "dask_memdash.plugins.nanny.probe",
        "dask_memdash.guard.on_worker",
        "dask_memdash.intermediates.shared.worker_side",
    ],
)
def test_what_workers_load_needs_nothing_beside_dask(module: str) -> None:
    """Installed without what it requires, as an image for workers may have it."""
    code = (
        "import sys\n"
        "for name in ('numpy', 'pandas', 'pyarrow', 'bokeh', 'panel', 'isal'):\n"
        "    sys.modules[name] = None\n"
        f"import {module}"
    )
    run(sys.executable, "-c", code, cwd=REPOSITORY)


def imports(path: Path) -> set[str]:
    """The top-level modules that a file names in imports, wherever they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_every_library_that_is_imported_is_declared() -> None:
    optional = PROJECT["project"]["optional-dependencies"]
    required = [*PROJECT["project"]["dependencies"]]
    for extra in ("redis", "xarray", "parquet", "prometheus", "storage", "terminal"):
        required += optional[extra]
    declared = {
        re.split(r"[^\w-]", requirement)[0].lower().replace("-", "_")
        for requirement in required
    }
    declared |= {"yaml"}  # as pyyaml
    declared |= {"pytest"}  # loads the module that imports it, and nothing else does
    used: set[str] = set()
    for path in (REPOSITORY / "dask_memdash").rglob("*.py"):
        used |= imports(path)
    assert used - sys.stdlib_module_names - {"dask_memdash"} <= declared


def test_the_conda_recipe_requires_what_the_project_requires() -> None:
    text = (REPOSITORY / ".ci" / "conda" / "recipe.yaml").read_text()
    recipe = yaml.safe_load(text.replace("${{ dask }}", OLDEST))
    conda = {
        "dask-core": "dask",
        "msgpack-python": "msgpack",
    }  # as they are named there
    required = {
        conda.get(name, name) + least
        for output in recipe["outputs"]
        for name, _, least in (
            requirement.partition(" ") for requirement in output["requirements"]["run"]
        )
        if name not in ("python", "${{")
    }
    assert required == set(PROJECT["project"]["dependencies"])
    assert recipe["context"] == {"version": VERSION, "dask": OLDEST}


def test_oldest_supported_version_is_the_same_everywhere() -> None:
    (required,) = (
        requirement.removeprefix("distributed>=")
        for requirement in PROJECT["project"]["dependencies"]
        if requirement.startswith("distributed")
    )
    assert f"OLDEST := {required}\n" in (REPOSITORY / "Makefile").read_text()
    assert required in (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize(
    ("module", "loader"),
    [("_tally", "tally.py"), ("_native", "native_tally.py"), ("_lines", "lines.py")],
)
def test_the_tally_is_built_under_the_name_that_it_is_loaded_by(module, loader) -> None:
    setup = (REPOSITORY / "setup.py").read_text()
    text = (REPOSITORY / "dask_memdash/measure" / loader).read_text()
    name = f"dask_memdash.measure.{module}"
    assert f'"{name}"' in setup
    assert re.findall(r'import_module\("([\w.]+)"\)', text) == [name]


@pytest.mark.parametrize(
    ("name", "folder"), [("PARTS", "native"), ("LINES_PARTS", "frames")]
)
def test_all_parts_of_native_code_are_built(name, folder) -> None:
    setup = (REPOSITORY / "setup.py").read_text()
    (parts,) = re.findall(rf"^{name} = \(([^)]*)\)", setup, re.MULTILINE)
    files = (REPOSITORY / "dask_memdash/measure" / folder).glob("*.c")
    assert sorted(re.findall(r'"(\w+)"', parts)) == sorted(path.stem for path in files)
