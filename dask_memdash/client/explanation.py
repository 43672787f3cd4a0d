"""What happened, why, and what to change: one incident as text and as HTML.

Takes the dicts of the JSON API, so it serves live and recorded clusters.  Whatever is
not known is left out rather than made up.  The HTML is written by a template, which
escapes everything.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dask_memdash.terms import CAUSES, EVIDENCE, KINDS, PARTS, REASONS, label
from dask_memdash.text import (
    UNKNOWN,
    count,
    format_bytes,
    format_duration,
    format_parts,
    format_share,
    plain,
    plain_lines,
    short,
)

if TYPE_CHECKING:
    from dask_memdash.analysis.incidents.last_seconds import Scene

#: Characters of a line of prose.
WIDTH = 96

#: Rows shown of each table, and tasks of a list.
MAX_ROWS = 8

#: Characters of a key in a table, and of a text of the user's own.
MAX_KEY = 60
MAX_TEXT = 1_000

#: Characters of an error's own words.
MAX_SAID = 200

#: Thresholds that are drawn: colour and dashes.
THRESHOLDS = (("terminate", "#c8372d", ""), ("pause", "#8a5fbf", ""))

#: Samples from which a worker's memory before an incident is drawn.
LEAST_POINTS = 3

Cells = list[list[str]]


class Explanation:
    """One incident, and what it rests on.

    Parameters
    ----------
    incident
        As ``incidents/<id>`` of the JSON API gives it.
    deaths
        The deaths behind a 'killed-worker', oldest first, in the same form.
    page
        Address of the incident on the page, None without one.
    lived
        With what it would have lived, in sentences; none where that is no question.
    """

    def __init__(
        self,
        incident: Mapping[str, Any],
        deaths: Sequence[Mapping[str, Any]] = (),
        page: str | None = None,
        lived: Sequence[str] = (),
    ) -> None:
        #: The incident, as the JSON API has it.
        self.incident = dict(incident)
        #: The deaths behind a 'killed-worker', oldest first.
        self.deaths = [dict(death) for death in deaths]
        #: Address of its page, None without one.
        self.page = page
        #: Whether it would have lived with something changed, in sentences.
        self.lived = list(lived)

    @property
    def id(self) -> str:
        """The incident's id."""
        return str(self.incident["id"])

    @property
    def kind(self) -> str:
        """What it is, such as 'terminated' or 'killed-worker'."""
        return str(self.incident["kind"])

    @property
    def cause(self) -> str:
        """The dominant cause; 'unknown' where the evidence is not enough."""
        return str(self._verdict["diagnosis"]["cause"])

    @property
    def confidence(self) -> float:
        """How sure the cause is, from 0 to 1."""
        return float(self._verdict["diagnosis"]["confidence"] or 0.0)

    @property
    def advice(self) -> list[str]:
        """What to change, most effective first."""
        return [str(text) for text in self._verdict["diagnosis"]["advice"]]

    @property
    def _verdict(self) -> dict[str, Any]:
        """The incident whose diagnosis counts: a death's where it alone has one."""
        known = [
            incident
            for incident in (self.incident, *reversed(self.deaths))
            if incident["diagnosis"]["cause"] != "unknown"
        ]
        if not known or known[0] is self.incident:
            return self.incident
        return max(known, key=lambda i: i["diagnosis"]["confidence"] or 0.0)

    @property
    def _scene(self) -> dict[str, Any]:
        """The incident whose suspects and storage are shown: the last with any."""
        verdict = self._verdict
        if verdict["suspects"] or verdict["storage"]:
            return verdict
        known = [d for d in self.deaths if d["suspects"] or d["storage"]]
        return known[-1] if known else self.incident

    def __str__(self) -> str:
        told = [self._title(), *_wrapped(self._told())]
        cause = [line for text in self._cause_lines() for line in _wrapped(text)]
        parts = [told, cause]
        for heading, columns, rows in self._tables():
            parts.append([heading, *_aligned([columns, *rows])])
        for heading, items in self._lists():
            lines = [line for item in items for line in _wrapped(item, "  - ")]
            parts.append([heading, *lines])
        parts.append(self._last_lines())
        return plain_lines("\n\n".join("\n".join(part) for part in parts if part))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from dask_memdash.client.notebook import page_piece

        return plain_lines(
            page_piece("explanation.html").render(
                title=self._title(),
                chart=_timeline(self._scene),
                told=self._told(),
                cause=self._cause_lines(),
                tables=self._tables(),
                lists=self._lists(),
                last=self._last_lines(page=False),
                page=self.page,
            )
        )

    # -- parts -----------------------------------------------------------------

    def _title(self) -> str:
        when = datetime.fromtimestamp(self.incident["time"], UTC)
        what = label(KINDS, self.kind)
        return f"Incident {self.id}: {what}, {when:%Y-%m-%d %H:%M:%S} UTC"

    def _told(self) -> str:
        return str(self.incident["diagnosis"]["text"])[:MAX_TEXT]

    def _cause_lines(self) -> list[str]:
        verdict = self._verdict
        diagnosis = verdict["diagnosis"]
        if diagnosis["cause"] == "unknown":
            lines = [f"Cause: unknown. {CAUSES['unknown'].sentence}"]
        else:
            responsible = diagnosis["responsible"]
            who = _code(responsible["prefix"])
            if who and responsible["key"]:
                who += f", task {short(str(responsible['key']), MAX_KEY)}"
            by = f"; responsible: {who}" if who else ""
            lines = [
                f"Cause: {label(CAUSES, self.cause)} "
                f"({self.cause}, confidence {format_share(self.confidence)}){by}"
            ]
        if verdict is not self.incident:
            lines.append(f"At death {verdict['id']}: {verdict['diagnosis']['text']}")
        return [line[:MAX_TEXT] for line in lines]

    def _tables(self) -> list[tuple[str, list[str], Cells]]:
        scene = self._scene
        at = "" if scene is self.incident else f" at death {scene['id']}"
        tables = []
        if self.deaths:
            columns = ["incident", "kind", "worker", "memory", "cause", "was running"]
            tables.append(("Deaths", columns, [_death(d) for d in self.deaths]))
        if scene["suspects"]:
            columns = [
                *("task", "memory", "peak", "share of limit", "usual peak (95 %)"),
                *("ran for", "place in order", "also ran at"),
            ]
            suspects = scene["suspects"][:MAX_ROWS]
            rows = [_suspect(suspect) for suspect in suspects]
            if any(suspect.get("largest_block") for suspect in suspects):
                columns.append("largest block")
                for row, suspect in zip(rows, suspects, strict=True):
                    row.append(_block(suspect.get("largest_block")))
            rows += _more(scene["suspects"], len(columns) - 1)
            tables.append((f"Tasks that were running{at}", columns, rows))
        if scene["storage"]:
            rows = [_stored(s) for s in scene["storage"][:MAX_ROWS]]
            columns = ["prefix", "in memory", "spilled", "outputs", "needed for"]
            rows += _more(scene["storage"], len(columns) - 1)
            tables.append((f"Outputs that the worker stored{at}", columns, rows))
        return tables

    def _lists(self) -> list[tuple[str, list[str]]]:
        scene, verdict = self._scene, self._verdict
        innocent = scene["innocent"]
        lists = [
            ("What it asked for", _asked(self.incident)),
            ("Findings", [_finding(f) for f in verdict["findings"]]),
            ("What to change", self.advice),
            ("Would it have lived?", [line[:MAX_TEXT] for line in self.lived]),
        ]
        if innocent["count"]:
            named = [short(str(k), MAX_KEY) for k in innocent["keys"][:MAX_ROWS]]
            more = innocent["count"] - len(named)
            others = [f"and {count(more, 'other')}"] if more > 0 else []
            heading = "Not to blame: assigned to the worker, but not running"
            lists.append((heading, [*named, *others]))
        return [(heading, items) for heading, items in lists if items]

    def _last_lines(self, *, page: bool = True) -> list[str]:
        lines = []
        memory = _memory(self._scene)
        if memory:
            lines.append(f"Memory: {memory}")
        cost = _cost([self.incident, *self.deaths])
        if cost:
            lines.append(f"Cost: {cost}")
        lines.append(f"Known from: {_evidence(self._scene)}")
        if page and self.page:
            lines.append(f"Page: {self.page}")
        return lines


def _timeline(incident: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a chart of the worker's memory before an incident; None without any."""
    from dask_memdash.analysis.incidents.last_seconds import scene
    from dask_memdash.client.svg_chart import LIMIT, Chart, Level, Series, geometry

    shown = scene(incident)
    if len(shown.before) < LEAST_POINTS:
        return None
    limit, lines = incident.get("limit"), incident.get("thresholds") or {}
    name = plain(str(incident["worker"]["name"]), MAX_KEY)
    worker = f"worker {name}" if name.isdigit() else name
    levels = [Level("limit", limit, LIMIT)] if limit else []
    levels += [
        Level(name, lines[name], colour, dashes)
        for name, colour, dashes in THRESHOLDS
        if lines.get(name)
    ]
    colour = PARTS["baseline"].colour
    return geometry(
        Chart(
            title=f"Memory of {worker} before the incident",
            across="seconds",
            series=[Series("its process", colour, shown.before, shown.process)],
            levels=levels,
            span=(max(shown.before[0], -shown.seconds), 0.0),
            stripes=_stripes(shown),
            mark="death" if shown.over_time else "",
        )
    )


def _stripes(shown: Scene) -> list[Any]:
    """Return what the process was made of over time; empty where that is not known."""
    from dask_memdash.client.svg_chart import Stripe

    return [
        Stripe(
            band.what,
            band.name,
            band.colour,
            band.hatch,
            band.sizes,
            band.said,
        )
        for band in shown.bands
        if band.sizes
    ]


def _asked(incident: Mapping[str, Any]) -> list[str]:
    """Say what a task needed that ran out of memory, and what there was."""
    if incident["kind"] != "memory-error":
        return []
    request = incident["request"] or {}
    told = [str(request["text"]), str(request["likely"])] if request else []
    inputs = (incident.get("task") or {}).get("inputs")
    if inputs and inputs["count"]:
        many = count(inputs["count"], "input")
        came = f", of which other workers hold {_size(inputs['fetched'])}"
        told.append(
            f"It has {many} of {_size(inputs['size'])}"
            f"{came if inputs['n_fetched'] else ''}."
        )
    if incident["stage"] != "refused":
        said = " ".join(str(incident["detail"]).split())
        told.append(f"The error says: {short(said, MAX_SAID)}")
    elif incident["cluster_limit"]:
        told.append(f"All workers together have {_size(incident['cluster_limit'])}.")
    return [text for text in told if text]


def _death(death: Mapping[str, Any]) -> list[str]:
    suspects = [short(str(s["key"]), MAX_KEY) for s in death["suspects"]]
    more = f" and {len(suspects) - 1} more" if len(suspects) > 1 else ""
    return [
        str(death["id"]),
        label(KINDS, str(death["kind"])),
        str(death["worker"]["name"]),
        _of(death["breakdown"]["process"], death["limit"]),
        label(CAUSES, str(death["diagnosis"]["cause"])),
        f"{suspects[0]}{more}" if suspects else "no task",
    ]


def _suspect(suspect: Mapping[str, Any]) -> list[str]:
    expected = suspect.get("expected") or {}
    share, place = suspect["share"], suspect["order_position"]
    return [
        short(str(suspect["key"]), MAX_KEY),
        _size(suspect["bytes"]),
        _size(suspect["peak"]),
        "" if share is None else format_share(share),
        _size(expected.get("p95")),
        format_duration(suspect["seconds"]),
        "" if place is None else f"{place:,} of {suspect['order_total']:,}",
        ", ".join(_attempt(attempt) for attempt in suspect["attempts"]),
    ]


def _block(block: Mapping[str, Any] | None) -> str:
    """Say how large a task's largest block is, and which line allocated it."""
    if not block:
        return UNKNOWN
    at = "at " if block["file"] else ""
    return f"{format_bytes(block['bytes'])} {at}{plain(str(block['text']))}"


def _attempt(attempt: Any) -> str:
    if isinstance(attempt, Mapping):
        kind = label(KINDS, str(attempt["kind"]))
        return f"incident {attempt['incident']} ({kind})"
    return str(attempt)


def _stored(stored: Mapping[str, Any]) -> list[str]:
    return [
        short(str(stored["prefix"]), MAX_KEY),
        _size(stored["managed"]),
        _size(stored["spilled"]),
        f"{stored['count']:,}",
        ", ".join(_because(reason) for reason in stored["because"] or ()),
    ]


def _because(reason: Any) -> str:
    if not isinstance(reason, Mapping):
        return short(str(reason), MAX_KEY)
    why = label(REASONS, str(reason["why"]))
    if reason.get("prefix"):
        why += f" ({_code(reason['prefix'])})"
    return f"{why}: {_size(reason['bytes'])}"


def _finding(finding: Mapping[str, Any]) -> str:
    weight = finding.get("weight")
    sure = "" if weight is None else f" ({format_share(weight)})"
    cause = label(CAUSES, str(finding["cause"]))
    return f"{cause}{sure}: {finding['text']}"[:MAX_TEXT]


def _memory(incident: Mapping[str, Any]) -> str:
    """Write a worker's memory as the sum of its parts; empty where it is not known."""
    breakdown = incident.get("breakdown") or {}
    process = breakdown.get("process")
    if process is None:
        return ""
    sizes = {name: breakdown.get(name) for name in PARTS}
    written = format_parts(sizes, process)
    parts = [f"{PARTS[name].label} {written[name]}" for name in PARTS if sizes[name]]
    limit = incident.get("limit")
    of = f" (limit {format_bytes(limit)})" if limit else ""
    return f"{format_bytes(process)} = {' + '.join(parts)}{of}"


def _cost(incidents: Iterable[Mapping[str, Any]]) -> str:
    """Say what incidents have cost together; empty where that was nothing."""
    costs = [incident["cost"] for incident in incidents]
    keys = _sum(cost["keys_lost"] for cost in costs)
    lost = _sum(cost["bytes_lost"] for cost in costs)
    again = _sum(cost["seconds_recomputed"] for cost in costs)
    away = [a for cost in costs if (a := cost.get("seconds_away")) is not None]
    parts = []
    if keys:
        size = f" of {_size(lost)}" if lost else ""
        parts.append(f"{count(int(keys), 'stored output')}{size} lost")
    stored = _sum(cost.get("keys_stored") for cost in costs)
    if keys and stored:
        kept = _sum(cost.get("bytes_stored") for cost in costs)
        size = f" of {_size(kept)}" if kept else ""
        which = "all" if stored >= keys else f"{int(stored):,}{size}"
        parts.append(f"{which} stored and not computed again")
    if again:
        parts.append(f"{format_duration(again)} of work to repeat")
    if away:
        parts.append(f"a worker was back after {format_duration(max(away))}")
    closed = [c for cost in costs if (c := cost.get("nanny_closed_after")) is not None]
    if closed:
        after = format_duration(max(closed))
        which = "another did not come back" if away else "no worker came back"
        parts.append(f"{which}: its nanny was closed after {after}")
    return ", ".join(parts)


def _evidence(incident: Mapping[str, Any]) -> str:
    text = label(EVIDENCE, str(incident["evidence"]))
    if not incident.get("settled", True):
        text += "; the nanny's report has not arrived yet"
    offset = incident["timeline"].get("clock_offset")
    if offset:
        off = format_duration(abs(offset))
        text += f"; the worker's clock was {off} off and is corrected for"
    return text


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _of(size: int | None, limit: int | None) -> str:
    return f"{_size(size)} of {_size(limit)}" if size and limit else _size(size)


def _size(size: float | None) -> str:
    return "" if size is None else format_bytes(size)


def _code(prefix: str | None) -> str:
    return short(str(prefix), MAX_KEY) if prefix else ""


def _more(items: Sequence[Any], columns: int) -> Cells:
    more = len(items) - MAX_ROWS
    return [[f"… and {more:,} more", *[""] * columns]] if more > 0 else []


def _wrapped(text: str, bullet: str = "") -> list[str]:
    """Break a text into lines; addresses and keys stay whole."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _aligned(rows: Cells) -> list[str]:
    """Write rows of cells as lines, each column as wide as its widest cell."""
    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    used = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in used}
    return [
        "  " + "  ".join(row[i].ljust(widths[i]) for i in used).rstrip() for row in rows
    ]
