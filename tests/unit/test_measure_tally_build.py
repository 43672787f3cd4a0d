"""The extension is built where it can be, and not missed where it cannot."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

#: What a build reads, so that nothing is written into the checkout.
SOURCES = (
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "dask_memdash",
    "static",
)


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the checkout."""
    folder = tmp_path / "source"
    folder.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", ".*", "*.so")
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=ignore)
        else:
            shutil.copy(path, folder / name)
    return folder


def build(source: Path, **environment: str) -> tuple[Path, str]:
    """Build a wheel; give it and what was printed."""
    out = source.parent / "wheels"
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    printed = run(*command, "--outdir", out, source, cwd=source.parent, **environment)
    (wheel,) = out.glob("*.whl")
    return wheel, printed


def extensions(wheel: Path) -> list[str]:
    return [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".so")]


def installed(wheel: Path) -> Path:
    """Unpack a wheel as an installation would."""
    folder = wheel.parent / "site"
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


ASK = """
from dask_memdash.measure import tally
import dask_memdash
print(dask_memdash.__file__)
loaded = tally.load()
print(loaded is not None and loaded.acquire(), tally.why_not())
if loaded is not None:
    loaded.release()
from dask_memdash.measure import native_tally
loaded = native_tally.load()
print(loaded is not None and loaded.acquire(), native_tally.why_not())
from dask_memdash.measure import lines
print(lines.load() is not None, lines.why_not())
"""

#: Whether this is a platform that the second generation is built for.
NATIVE = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")


@pytest.mark.slow
def test_without_a_compiler_the_package_is_pure_python(source: Path) -> None:
    nothing = shutil.which("false") or "/bin/false"
    wheel, printed = build(source, CC=nothing, CXX=nothing)
    assert "_tally" in printed  # what could not be built is told
    assert extensions(wheel) == []
    site = installed(wheel)
    out = run(sys.executable, "-c", ASK, cwd=site, PYTHONPATH=str(site))
    assert str(site) in out
    assert "False the tally was not built" in out
    assert "False the native tally was not built" in out
    assert "False the lines of allocations are not known: that part was not" in out


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler here")
def test_with_a_compiler_the_wheel_holds_a_tally_that_works(source: Path) -> None:
    wheel, printed = build(source)
    assert ".c:" not in printed  # not one warning
    assert len(extensions(wheel)) == 2 + NATIVE
    site = installed(wheel)
    out = run(sys.executable, "-c", ASK, cwd=site, PYTHONPATH=str(site))
    assert str(site) in out
    assert "True" in out


def test_without_numpy_the_first_generation_is_not_tried(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "numpy.py").write_text("raise ImportError('no NumPy here')")
    shown = run(
        sys.executable,
        "-c",
        "import setuptools, runpy; given = {};"
        "setuptools.setup = lambda **options: given.update(options);"
        "runpy.run_path('setup.py');"
        "print([e.name for e in given['ext_modules']])",
        cwd=source,
        PYTHONPATH=str(source),
    )
    assert "_tally" not in shown
    assert ("dask_memdash.measure._native" in shown) == NATIVE
