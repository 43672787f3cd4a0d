"""One pure rule for each cause: ``rule(case) -> Iterator[Finding]``.

The weight of a finding is the share that its bytes have of what the process used
beyond an idle worker.  Rules look at one cause each and do not know of each other; what
explains what away is :mod:`dask_memdash.analysis.incidents.diagnose`'s.
"""
