"""Shapes of what the store says of the cluster's memory of intermediates.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict


class Storing(TypedDict):
    """What workers have done for the cluster's memory so far: one, or all together."""

    stored: int
    """Values that were written."""
    stored_bytes: int
    """Bytes as they lie in the store."""
    seconds: float
    """What all those writes took together: over ``stored`` it is a write's time."""
    pending: int
    pending_bytes: int
    """Values that wait to be written or are under way; bytes in RAM."""
    failed: int
    cancelled: int
    """Writes that failed; and that were left out since the value was released."""
    read_back: int
    read_back_bytes: int
    read_back_seconds: float
    read_back_failed: int
    """Values that were loaded, bytes in RAM; and loads that failed."""
    dropped: int
    dropped_bytes: int
    """Stored values that were dropped from RAM to make room."""
    ram: int | None
    """Bytes that stored values may take in RAM; ``None`` without a share."""
    error: str | None
    """The newest error of a write."""


class NamedResults(TypedDict):
    """One name that was given with ``persist_as``."""

    name: str
    stored: int
    total: int


class StoredPrefix(TypedDict):
    """Outputs of one task prefix on workers that lie in the memory too; bytes."""

    prefix: str
    stored: int
    pending: int
    """What is to lie there."""


class Words(TypedDict):
    """How storing goes."""

    state: str
    """'empty', 'writing', 'stored', 'failing', 'unreachable' or 'missing'."""
    text: str
    advice: list[str]
    """What to do where something is wrong."""


class Figures(TypedDict):
    """What is counted of the memory that the cluster was given."""

    address: str
    objects: int
    """Objects in the store, those of other sessions too."""
    stored: int
    pending: int
    failed: int
    never: int
    """Results that are followed: how many are stored, wait, failed for now, and are
    never stored (they write elsewhere, or are ``None``)."""
    stand_ins: int
    """Of the stored ones, those whose task loads and does not compute."""
    resumed: int
    """Results that were found stored when their graph came."""
    recomputed: int
    """Loads that failed, so that the value was computed."""
    names: list[NamedResults]
    refused: list[str]
    """Why names were not given that something else has; the first few."""
    prefixes: list[StoredPrefix]
    n_prefixes: int
    """The 50 prefixes that have most in it, of how many that have any."""
    workers: Storing
    """What all workers have done together; those that have left are not in it."""
    error: str | None
    unreachable: str | None
    """What the store said instead of its list when it was asked last, if it did not
    answer."""


class Intermediates(Figures, Words):
    """The memory that the cluster was given."""
