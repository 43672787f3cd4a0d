"""Answers beneath ``what-if``: whether a run would have lived otherwise."""

from __future__ import annotations

from typing import Any

from dask_memdash.counterfactual.alternatives import alternatives
from dask_memdash.counterfactual.answer import answer
from dask_memdash.counterfactual.change import Change, ChangeError
from dask_memdash.counterfactual.evidence import LIVE_POINTS, gather
from dask_memdash.store.base import Store
from dask_memdash.web.query import BadRequestError, Query

#: What may be different.
CHANGES = ("limit", "threads", "chunks", "spilling", "workers")


def what_if(store: Store, query: Query) -> Any:
    """Answer ``what-if``: of one change, for all that ran or for one failure."""
    query.accept("failure", *CHANGES)
    try:
        change = Change(
            limit=_or_as_it_was(query.number("limit")),
            threads=query.natural("threads"),
            chunks=_or_as_it_was(query.number("chunks")),
            spilling=query.yes_or_no("spilling"),
            workers=query.integer("workers", 0),
        )
    except ChangeError as error:
        raise BadRequestError(str(error)) from None
    return answer(gather(store, query.text("failure"), LIVE_POINTS), change).to_dict()


def would_have_lived(store: Store, query: Query, failure_id: str) -> Any:
    """Answer ``what-if/<id>``: with what the run of a failure would have lived."""
    query.accept()
    return alternatives(store, failure_id, LIVE_POINTS).to_dict()


def _or_as_it_was(multiple: float | None) -> float:
    return 1.0 if multiple is None else multiple
