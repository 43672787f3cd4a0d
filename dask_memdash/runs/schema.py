"""The tables of a recorded run: version, views, and what makes a segment.

A run is a directory of segments (:mod:`dask_memdash.runs.directory`), each a SQLite
file with all tables of :mod:`dask_memdash.runs.tables`; those that are not of its kind
are empty.  ``docs/runs.md`` is written from them, and a test compares.

All sizes are integers in bytes, all instants are seconds since the Unix epoch,
``NULL`` is what is not known.  A column ``answer`` holds what the store of a living
cluster answered at that instant, in the shapes of ``dask_memdash/store/*_shapes.py``:
text where it is JSON as it is, a blob where it is compressed
(:func:`dask_memdash.runs.packing.pack`).

Imports the standard library only, and not ``sqlite3``.
"""

from __future__ import annotations

from dataclasses import dataclass

from dask_memdash.runs.tables import BY_NAME, TABLES

__all__ = [
    "APPLICATION_ID",
    "BY_NAME",
    "INDEXES",
    "SCHEMA_VERSION",
    "TABLES",
    "VIEWS",
    "statements",
]

#: Version of these tables.  It grows when a column or table changes its meaning or
#: goes; what is added changes nothing for readers.
SCHEMA_VERSION = 1

#: ``PRAGMA application_id`` of every segment: "DMRR".
APPLICATION_ID = 0x444D5252

#: The process of a breakdown that stands for the whole cluster.
CLUSTER = 0


@dataclass(frozen=True, slots=True)
class View:
    """One view for people."""

    name: str
    text: str
    query: str

    @property
    def ddl(self) -> str:
        """The statement that makes the view."""
        return f"CREATE VIEW {self.name} AS {self.query}"


#: Kinds of incidents that are deaths, as a list of SQL.
_DEATHS = "'terminated', 'oom-killed', 'killed', 'crashed', 'exited', 'lost'"

VIEWS: tuple[View, ...] = (
    View(
        "peaks",
        "What a task of each prefix takes: `select * from peaks order by p95 desc`.",
        "SELECT prefix, peak_p50 AS p50, peak_p95 AS p95, peak_max AS max, "
        "peak_at_least AS at_least, peak_error AS error, finished, method "
        "FROM prefix_states s WHERE rowid = (SELECT max(rowid) FROM prefix_states n "
        "WHERE n.prefix = s.prefix)",
    ),
    View(
        "storage",
        "The most that was stored of each prefix, and what there was last.",
        "SELECT prefix, max(managed) AS most_managed, max(spilled) AS most_spilled, "
        "max(count) AS most_outputs, max(output_max) AS largest_output, "
        "max(pinned) AS most_pinned FROM prefix_states GROUP BY prefix",
    ),
    View(
        "deaths",
        "Workers that died, oldest first, and why.",
        "SELECT opened AS time, worker_name, worker, kind, cause, relief, prefix, "
        f"task, text FROM incidents WHERE kind IN ({_DEATHS}) ORDER BY opened",
    ),
    View(
        "worst_workers",
        "Workers by the share of their limit that they filled.",
        "SELECT w.name, w.address, max(s.process_bytes) AS most_memory, "
        "max(s.limit_bytes) AS memory_limit, "
        "max(1.0 * s.process_bytes / s.limit_bytes) AS share, "
        "max(s.n_pauses) AS pauses, (SELECT count(*) FROM incidents i WHERE "
        f"i.worker = w.address AND i.kind IN ({_DEATHS})) AS deaths "
        "FROM worker_states s JOIN workers w ON w.id = s.worker GROUP BY w.id "
        "ORDER BY deaths DESC, share DESC",
    ),
    View(
        "timeline",
        "What happened, oldest first.",
        "SELECT opened AS time, 'failure' AS what, kind AS detail, text FROM failures "
        "UNION ALL SELECT opened, 'incident', kind, text FROM incidents "
        "UNION ALL SELECT arrived, 'graph', verdict, name FROM graphs "
        "UNION ALL SELECT added, 'worker added', name, address FROM workers "
        "UNION ALL SELECT left, 'worker left', name, address FROM workers "
        "WHERE left IS NOT NULL "
        "UNION ALL SELECT p.began, 'pause', w.name, w.address FROM pauses p "
        "JOIN workers w ON w.id = p.worker "
        "UNION ALL SELECT time, 'guard', kind, key FROM guard_actions "
        "UNION ALL SELECT since, 'notice', place, text FROM notices ORDER BY time",
    ),
)

#: Made as a segment closes: a live one is only appended to.
INDEXES = (
    "CREATE INDEX breakdown_of ON breakdown (process, time)",
    "CREATE INDEX worker_states_of ON worker_states (worker, time)",
    "CREATE INDEX prefix_states_of ON prefix_states (prefix, time)",
    "CREATE INDEX limits_of ON limits (worker, time)",
    "CREATE INDEX graph_progress_of ON graph_progress (graph, time)",
)


def statements() -> list[str]:
    """Return what makes an empty segment, one statement each."""
    return [
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {SCHEMA_VERSION}",
        *(table.ddl for table in TABLES),
        *(view.ddl for view in VIEWS),
    ]
