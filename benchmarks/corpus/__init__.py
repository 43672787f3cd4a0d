"""Simulated deaths of workers, with known truth, for the real model and analysis.

`world` says what a process holds at any instant and what a worker, its nanny and the
scheduler would tell of it; `scenarios` are the ways to die; `faults` are what happens
to evidence on its way; `judging` holds what is said against the truth.
"""
