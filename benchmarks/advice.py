"""Advice that is followed: workloads that fail, before and after their first advice.

The workloads are those of ``tests/cluster/advice_workloads.py``.  Each runs on a real
cluster, fails, and runs again with the line that its first advice says to paste.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import header, parser, progress, row, sized

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))

from advice_workloads import WORKLOADS, Followed, follow_first_advice


def main() -> int:
    """Run all, or those whose names have one of the words; 1 if too few complete."""
    options = parser(__doc__)
    options.add_argument("words", nargs="*", help="words of the names of workloads")
    chosen = options.parse_args()
    workloads = [
        w
        for w in WORKLOADS
        if not chosen.words or any(x in w.name for x in chosen.words)
    ]
    workloads = workloads[: sized(chosen, None, 6, 1)]
    header("workload", "cause", "relief", "first advice", "before", "after")
    helped = 0
    for workload in workloads:
        progress(workload.name)
        followed = follow_first_advice(workload)
        helped += followed.helped
        print_row(followed)
    print(f"\n{helped} of {len(workloads)} complete with the first advice followed.")
    return int(helped * 12 < len(workloads) * 10)


def print_row(followed: Followed) -> None:
    """Print one workload's row of the table."""
    diagnosis = followed.before.diagnosis
    after = followed.after
    row(
        followed.workload.name,
        diagnosis.get("cause", "no failure"),
        diagnosis.get("relief") or "–",
        followed.advice or "none",
        str(followed.before),
        followed.why if after is None else str(after),
    )


if __name__ == "__main__":
    sys.exit(main())
