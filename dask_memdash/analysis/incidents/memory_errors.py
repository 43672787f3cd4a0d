"""What is said of a task that ran out of memory: in a sentence, and as plain data.

Covers incidents of kind 'memory-error' in their four stages.  The causes are the
rules'.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dask_memdash.analysis.incidents.request_judgement import Judgement, judge
from dask_memdash.analysis.incidents.requests import GUARD, Request, parse
from dask_memdash.model.incidents import Incident
from dask_memdash.text import count, format_bytes, format_share, short

#: Characters of the error's own text in a sentence.
SAID = 120

#: What stands in a detail between an error and the input that it was raised for.
RECEIVED = ", for input "


def request_of(incident: Incident) -> Request | None:
    """Return what an incident's error asked for; None where its text does not say."""
    return parse(incident.detail)


def judged(incident: Incident) -> Judgement | None:
    """Set what was asked for against the worker's limit and its machine."""
    request = request_of(incident)
    if request is None:
        return None
    host = incident.facts.host if incident.facts is not None else None
    machine = None if host is None else host.machine
    return judge(request, incident.limit, machine)


def headline(incident: Incident) -> str:
    """Say in one or two sentences what happened, to which task and on which worker."""
    task, worker = _tasks(incident), incident.worker.name
    request, judgement = request_of(incident), judged(incident)
    if incident.stage == "refused" and judgement is not None:
        inputs = incident.tasks[0].inputs if incident.tasks else None
        many = "" if inputs is None else f" of {count(inputs.count, 'input')}"
        return (
            f"The scheduler refused to run task {task}{many} on worker {worker}. "
            f"{judgement.text}{_elsewhere(incident)} No worker died."
        )
    if request is not None and request.source == GUARD and judgement is not None:
        return (
            f"Task {task} was not run on worker {worker}. {judgement.text} No worker "
            f"died; this one used {_usage(incident)}."
        )
    if incident.stage == "child":
        return (
            f"A process that task {task} had started on worker {worker} was killed: "
            f"{_said(incident)}. The worker lives on; it used {_usage(incident)}, "
            "without its child processes."
        )
    if incident.stage == "receiving":
        said, _, what = incident.detail.rpartition(RECEIVED)
        asked = f": it asked for {request}" if request and request.bytes else ""
        return (
            f"Worker {worker} ran out of memory while it received "
            f"{f'input {what}' if said else 'an input'} for task {task}{asked}. The "
            "task may wait for ever, because Dask does not ask for the input again. "
            f"The worker used {_usage(incident)}."
        )
    if request is None or (request.bytes is None and not request.impossible):
        asked = f"{_said(incident)}. It does not say how much was asked for"
    else:
        asked = f"it asked for {request}"
    return (
        f"Task {task} ran out of memory on worker {worker}: {asked}. The worker lives "
        f"on; it used {_usage(incident)}."
    )


def details(incident: Incident) -> dict[str, Any]:
    """Return stage, text and request as the JSON API has them."""
    request, judgement = request_of(incident), judged(incident)
    asked: dict[str, Any] | None = None
    if request is not None and judgement is not None:
        asked = {
            **asdict(request),
            "shape": None if request.shape is None else list(request.shape),
            "verdict": judgement.verdict,
            "times": judgement.times,
            "text": judgement.text,
            "likely": judgement.likely,
        }
    return {
        "stage": incident.stage,
        "detail": incident.detail,
        "request": asked,
        "cluster_limit": incident.cluster_limit,
    }


def _tasks(incident: Incident) -> str:
    first = short(incident.tasks[0].key) if incident.tasks else "a task"
    more = incident.n_tasks - 1
    return f"{first} (and {count(more, 'other')} of its kind)" if more > 0 else first


def _elsewhere(incident: Incident) -> str:
    """Say that the inputs fit into the workers together, where they do."""
    request, together = request_of(incident), incident.cluster_limit
    size = None if request is None else request.bytes
    if size is None or together is None or size > together:
        return ""
    return f" All workers together have {format_bytes(together)}, so storage fits."


def _said(incident: Incident) -> str:
    return short(" ".join(incident.detail.split()), SAID).rstrip(".")


def _usage(incident: Incident) -> str:
    if incident.breakdown is None:
        return "an unknown amount of memory"
    process = incident.breakdown.process
    if not incident.limit:
        return format_bytes(process)
    share = format_share(process, incident.limit)
    return f"{format_bytes(process)} of {format_bytes(incident.limit)} ({share})"
