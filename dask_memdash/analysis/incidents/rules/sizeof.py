"""Stored outputs that are much larger than Dask believes."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.advice import types_of
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, format_bytes


def sizeof(case: Case) -> Iterator[Finding]:
    """Yield outputs that are much larger than Dask believes."""
    hidden = give_out(case).hidden
    if not hidden:
        return
    prefix = largest(hidden)[0]
    weighed = case.facts.expected[prefix].weighed
    each = max(1, weighed.count)
    believed, measured = weighed.believed / each, weighed.left / each
    yield Finding(
        cause="sizeof",
        weight=sum(hidden.values()) / case.above,
        text=f"Dask believes the outputs of {code(prefix)} to be "
        f"{format_bytes(believed)} each, and {format_bytes(measured)} were measured. "
        f"It does not see {format_bytes(hidden[prefix])} on this worker, and so does "
        "not spill it in time.",
        prefix=prefix,
        advice=(_advice(case, prefix, measured),),
    )


def _advice(case: Case, prefix: str, measured: float) -> str:
    because = case.facts.expected[prefix].weighed.because
    if because.startswith("views"):
        return (
            f"Let {code(prefix)} return a copy of what it needs, as in "
            "`x[:100].copy()`: a view keeps all of the array alive that it is of, "
            f"here {format_bytes(measured)} for each."
        )
    known = sorted(types_of(case, prefix))
    name = known[0].rpartition(".")[2] if len(known) == 1 else "Type"
    if not name.isidentifier():
        name = "Type"
    return (
        f"Tell Dask the size of what {code(prefix)} returns, on the workers: "
        f"`client.run(lambda: dask.sizeof.sizeof.register({name}, lambda x: "
        f"{measured:.0f}))`. It "
        f"then counts {format_bytes(measured)} for each, and spills them in time."
    )
