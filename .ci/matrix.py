#!/usr/bin/env python3
"""Runs the tests on every Python and every stack that this machine has.

    .ci/matrix.py                 all of it: an hour and more
    .ci/matrix.py --list          what there is to run, and what is missing
    .ci/matrix.py newest          the newest Python alone, with its newest stack
    .ci/matrix.py --quick         of each the tests that differ between versions
    .ci/matrix.py prereleases     dask and distributed as they will be

Each environment is made once, under .venv-matrix.  The last lines are a table; the exit
status is 1 if one that counts has failed.  Pre-releases only warn.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".venv-matrix"

#: The Pythons that are supported; the first is the one that `make test` runs on.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OLDEST = "2025.11.0"

#: What differs most between versions of Python: what is read of it, and what
#: the page is made with.
QUICK = (
    *("tests/unit/test_measure_tally.py", "tests/unit/test_measure_tally_numpy.py"),
    *("tests/unit/test_measure_native.py", "tests/unit/test_measure_lines.py"),
    *("tests/unit/test_views.py", "tests/unit/test_web_mount.py"),
)

#: The newest Python that is here, where that is not the oldest.
NEWEST = "newest"

#: What keeps long tests out.
SHORT = "not demos and not corpora and not attack"


@dataclass(frozen=True)
class Environment:
    """A Python, what is installed in it, and what runs."""

    name: str
    python: str
    install: tuple[str, ...]
    #: pytest's arguments; without any, workers of this environment run tasks.
    tests: tuple[str, ...]
    #: Whether it failing fails the matrix.
    counts: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of one environment."""

    name: str
    verdict: str
    line: str
    seconds: float


def interpreters() -> dict[str, str]:
    """Return the programs of the supported Pythons that can be run here, by version."""
    found: dict[str, str] = {}
    homes = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]
    for version in PYTHONS:
        candidates = [shutil.which(f"python{version}")]
        for home in homes:
            candidates += map(str, sorted(home.glob(f"versions/{version}*/bin/python")))
        for program in filter(None, candidates):
            if runs(program, version):
                found[version] = program
                break
    return found


def runs(program: str, version: str) -> bool:
    """Say whether a program is that Python, and can make environments."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run(
        [program, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode == 0 and done.stdout.strip() == version


def environments(pythons: dict[str, str], *, quick: bool) -> Iterator[Environment]:
    """Yield what there is to run, the most telling first."""
    hooks = ("-m", f"hooks and {SHORT}")
    side_by_side = ("-n", os.environ.get("JOBS", "4"), "--dist", "worksteal")
    units = QUICK if quick else ("tests/unit",)
    first, newest = PYTHONS[0], max(pythons, key=PYTHONS.index)
    for version in sorted(pythons, key=PYTHONS.index, reverse=True):
        name = NEWEST if version == newest != first else f"python{version}"
        more = ("-m", "not slow") if quick else (*with_hooks(), "-m", SHORT)
        yield Environment(
            name,
            pythons[version],
            ("--editable", ".[demo,test]"),
            (*side_by_side, *units, *more),
        )
    if first in pythons:
        yield Environment(
            "numpy1",
            pythons[first],
            (
                "--editable",
                ".[demo,test]",
                f"distributed=={OLDEST}",
                f"dask=={OLDEST}",
                "numpy<2",
                "pyarrow<23",  # newer ones need NumPy 2
            ),
            (*side_by_side, *(units if quick else (*hooks, *with_hooks()))),
        )
        # a worker's image, which has Dask and this package without what it requires
        yield Environment("worker-alone", pythons[first], ("distributed",), ())
    yield Environment(
        "prereleases",
        pythons[newest],
        ("--pre", "--editable", ".[demo,test]", "dask>=2026", "distributed>=2026"),
        (*side_by_side, *hooks, *with_hooks()),
        counts=False,
    )


def with_hooks() -> tuple[str, ...]:
    """Return the files that have tests of what differs between versions of Dask."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return tuple(
        str(file.relative_to(ROOT))
        for file in files
        if "mark.hooks" in file.read_text() and "unit" not in file.parts
    )


def run(environment: Environment, *, tests: bool = True) -> Outcome:
    """Make an environment if need be, and run its tests."""
    started = time.monotonic()
    place = PLACE / environment.name
    python = place / "bin" / "python"
    try:
        if not python.exists():
            call(environment.python, "-m", "venv", str(place))
        pip = (str(python), "-m", "pip", "install", "--quiet", "--no-compile")
        call(*pip, *environment.install)
        if not tests:
            line = "installed"
        elif environment.tests:
            line = pytest(str(python), environment)
        else:
            call(*pip, "--no-deps", ".")
            own = str(ROOT / ".venv" / "bin" / "python")
            line = told(own, str(ROOT / ".ci" / "worker_alone.py"), str(python))
        verdict = "ok"
    except subprocess.CalledProcessError as error:
        verdict = "FAILED" if environment.counts else "warning"
        line = last_line(error.output or "") or f"{error.cmd[1:4]} failed"
    return Outcome(environment.name, verdict, line, time.monotonic() - started)


def pytest(python: str, environment: Environment) -> str:
    """Run tests; what has failed beside others runs once more, alone."""
    cache = ("-o", f"cache_dir=.pytest_cache/{environment.name}")
    command = (python, "-m", "pytest", "-q", *cache)
    try:
        return told(*command, *environment.tests)
    except subprocess.CalledProcessError:
        return told(*command, "--last-failed", "--last-failed-no-failures", "none")


def call(*command: str) -> None:
    """Run a command that says nothing unless it fails."""
    subprocess.run(command, cwd=ROOT, check=True)


def told(*command: str) -> str:
    """Run a command, pass on what it says, and return its last line."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command, "".join(lines))
    return last_line("".join(lines))


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="environments; all unless given")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--quick", action="store_true", help="what differs most")
    parser.add_argument("--install", action="store_true", help="make them, no tests")
    arguments = parser.parse_args()
    pythons = interpreters()
    missing = [version for version in PYTHONS if version not in pythons]
    known = list(environments(pythons, quick=arguments.quick)) if pythons else []
    for version in missing:
        print(f"Python {version} is not on this machine: not run", file=sys.stderr)
    if arguments.list:
        for environment in known:
            print(f"{environment.name:<14} {environment.python}")
        return 0
    names = set(arguments.names)
    if NEWEST in names and NEWEST not in {environment.name for environment in known}:
        print(f"no Python newer than {PYTHONS[0]} is on this machine", file=sys.stderr)
        return 0
    if wrong := names - {environment.name for environment in known}:
        print(f"nothing here is called {', '.join(sorted(wrong))}", file=sys.stderr)
        return 2
    chosen = [e for e in known if not names or e.name in names]
    outcomes = []
    for environment in chosen:
        print(f"\n== {environment.name} ({environment.python})", flush=True)
        outcomes.append(run(environment, tests=not arguments.install))
    print()
    for done in outcomes:
        print(f"{done.name:<14} {done.verdict:<8} {done.seconds:5.0f} s  {done.line}")
    return int(any(done.verdict == "FAILED" for done in outcomes))


if __name__ == "__main__":
    sys.exit(main())
