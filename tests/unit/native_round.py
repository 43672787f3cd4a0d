"""One round of all that the native tally does, for a run under valgrind; no test."""

import gc

from dask_memdash.measure import native_tally, trial


def main() -> None:
    """Go through the trial twice: whatever is put in is taken out and put in again."""
    gc.disable()  # as the trial's own child: what a collection frees is nothing of it
    tally = native_tally.load()
    if tally is None:
        raise SystemExit(native_tally.why_not())
    for _ in range(2):
        wrong = trial.outcome(tally)
        if wrong:
            raise SystemExit(wrong)


if __name__ == "__main__":
    main()
