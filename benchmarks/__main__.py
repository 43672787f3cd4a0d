"""Run the benchmarks: all of them, or those that are named first.

``python benchmarks [NAME …] [options]``: options are handed on to each, so with more
than one only ``--quick`` and ``--tiny`` make sense.  A benchmark is any module beside
this one that has a ``main`` and is not a library of the others.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

#: Modules that others import; `kinds` is also a program, but no benchmark.
LIBRARIES = {
    *("__main__", "common", "kinds", "library_kinds", "peers", "simulated"),
    *("counterfactual_cases", "counterfactual_runs", "preflight_cases"),
}


def main() -> int:
    """Run them one after the other; give the number of those that failed."""
    every = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in LIBRARIES)
    arguments = sys.argv[1:]
    named = []
    while arguments and not arguments[0].startswith("-"):
        named.append(arguments.pop(0))
        if named[-1] not in every:
            raise SystemExit(f"there is no {named[-1]!r} among {', '.join(every)}")
    failed = []
    for name in named or every:
        print(f"\n## {name} {' '.join(arguments)}\n", flush=True)
        program = [sys.executable, str(HERE / f"{name}.py"), *arguments]
        if subprocess.run(program, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
