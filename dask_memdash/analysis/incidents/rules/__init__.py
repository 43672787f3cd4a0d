"""One pure rule for each cause: ``rule(case) -> Iterator[Finding]``, a module each.

The weight of a finding is the share that its bytes have of what the process used
beyond an idle worker.  Rules look at one cause each and do not know of each other; how
they are weighed is :mod:`dask_memdash.analysis.incidents.diagnose`'s, and why nothing
relieved the memory :mod:`dask_memdash.analysis.incidents.relief`'s.
"""
