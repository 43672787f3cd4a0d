"""Whatever the evidence: no part exceeds its whole, and accounts sum."""

from builders import MiB
from cases import case, expected, facts, held, stored, suspect
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.analysis.incidents.diagnose import diagnose
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.need import beside, execution
from dask_memdash.analysis.incidents.together import diagnose_together
from dask_memdash.model.breakdown import Reading, break_down
from dask_memdash.model.event_parts import ActorRow, GraphRow, TaskInputs, Thresholds
from dask_memdash.model.incidents import DEATHS
from dask_memdash.terms import CAUSES, NOT_MEMORY, RELIEFS

SIZE = st.integers(0, 1500)
PREFIX = st.sampled_from(["sum", "open", "x-rechunk-transfer", "<b>&"])


@st.composite
def suspects(draw):
    known = draw(st.lists(st.tuples(PREFIX, st.none() | SIZE, SIZE), max_size=4))
    return tuple(
        suspect(
            f"{prefix}-{n}",
            size,
            prefix=prefix,
            peak=None if size is None else (size + draw(SIZE)) * MiB,
            grown=draw(st.none() | SIZE.map(lambda n: n * MiB)),
            inputs=draw(st.none() | SIZE.map(lambda n: TaskInputs(1, n * MiB, 0, 0))),
            method=draw(st.sampled_from(["exact", "estimated", "hwm"])),
        )
        for n, (prefix, size, _) in enumerate(known)
    )


@st.composite
def cases(draw):
    running = draw(suspects())
    reading = Reading(
        time=0.0,
        rss=draw(SIZE) * MiB,
        managed_claimed=draw(SIZE) * MiB,
        shuffle=draw(SIZE) * MiB,
        free=draw(SIZE) * MiB,
        base=draw(SIZE) * MiB,
        live=sum(s.bytes or 0 for s in running),
        busy=bool(running),
        actors=draw(st.none() | SIZE.map(lambda n: n * MiB)),
        graph=draw(st.none() | SIZE.map(lambda n: n * MiB)),
        inputs=draw(st.none() | SIZE.map(lambda n: n * MiB)),
        spilled=draw(st.none() | SIZE.map(lambda n: n * MiB)),
    )
    rows = draw(st.dictionaries(PREFIX, st.tuples(SIZE, SIZE), max_size=3))
    whys = draw(st.dictionaries(PREFIX, st.tuples(SIZE, SIZE, SIZE), max_size=3))
    return case(
        draw(st.sampled_from([*sorted(DEATHS), "memory-error", "spill-failed"])),
        limit=draw(st.none() | st.integers(1, 1500).map(lambda n: n * MiB)),
        breakdown=draw(st.just(break_down(reading)) | st.none()),
        evidence=draw(st.sampled_from(["flight-recorder", "heartbeat", "scheduler"])),
        suspects=running,
        storage=tuple(stored(p, a, b) for p, (a, b) in rows.items()),
        detail=draw(st.sampled_from(["", "Unable to allocate 2. GiB", "disk-full: x"])),
        at_least=draw(st.dictionaries(PREFIX, SIZE.map(lambda n: n * MiB))),
        instant=1.0,
        facts=facts(
            nthreads=draw(st.integers(0, 4)),
            thresholds=draw(
                st.sampled_from([Thresholds(), Thresholds(terminate=900 * MiB)])
            ),
            baseline=draw(st.lists(SIZE, max_size=4)),
            held={
                p: held(awaited=a, pinned=b, replica=c) for p, (a, b, c) in whys.items()
            },
            claimed=draw(st.dictionaries(PREFIX, SIZE, max_size=3)),
            expected={
                p: expected(draw(st.integers(0, 9)), draw(st.none() | SIZE), left=size)
                for p, size in draw(st.dictionaries(PREFIX, SIZE, max_size=3)).items()
            },
            graph=draw(
                st.dictionaries(PREFIX, SIZE.map(lambda n: GraphRow(n, n * MiB, n)))
            ),
            actors=draw(
                st.dictionaries(PREFIX, SIZE.map(lambda n: ActorRow(1, n, n * MiB)))
            ),
        ),
    )


@given(cases())
def test_parts_sum_and_none_exceeds_its_whole(known):
    growth = give_out(known)
    named = (
        *(growth.graph, growth.actors, growth.hidden),
        *(growth.moved, growth.leaked, growth.charged, growth.ended),
    )
    given_out = sum(sum(sizes.values()) for sizes in named)
    given_out += growth.unaccounted + growth.untold
    parts = known.parts
    assert given_out == (known.grown + known.unexplained + parts.actors + parts.graph)
    assert sum(growth.actors.values()) >= parts.actors
    assert sum(growth.graph.values()) >= parts.graph
    whole = known.idle + parts.managed + parts.transfer + parts.retained
    assert whole + known.counted + known.in_use + given_out == parts.process
    assert all(size >= 0 for sizes in named for size in sizes.values())
    assert min(growth.unaccounted, growth.untold) >= 0
    assert sum(s.bytes or 0 for s in known.running) == known.counted or (
        known.breakdown is None
    )
    assert known.counted <= known.parts.executing
    assert 0 <= execution(known) <= known.parts.process
    assert 0 <= beside(known) <= known.parts.process
    assert sum(known.in_memory().values()) <= known.parts.managed + known.in_use


@given(cases())
def test_every_evidence_has_a_diagnosis_of_one_instant(known):
    for said in (diagnose(known), diagnose_together([known, known])):
        assert said.cause in CAUSES
        assert 0.0 <= said.confidence <= 1.0
        assert all(0.0 <= finding.weight <= 1.0 for finding in said.findings)
        assert said.instant == 1.0
        if said.cause in NOT_MEMORY:
            assert said.relief is None
        else:
            assert said.relief in RELIEFS
        if said.cause in ("task-too-large", "too-many-at-once") and known.suspects:
            assert said.prefix in {s.prefix for s in known.suspects}
