"""The dashboard and the alert rules in docs/deploy ask for metrics that there are."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from builders import T0, MiB, added, executing, finished, reported, row

from dask_memdash import terms
from dask_memdash.metrics import registry
from dask_memdash.metrics.scheduler import SchedulerFigures
from dask_memdash.metrics.worker import worker_families
from dask_memdash.model.breakdown import Reading, break_down
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import SelfCost
from dask_memdash.model.events import SchedulerLooked, Ticked

prometheus_client = pytest.importorskip("prometheus_client")
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "memdash.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "memdash-rules.yml").read_text())
PROMTOOL = shutil.which("promtool")


class Made:
    """A collector of what is there."""

    def __init__(self, metrics):
        self.collect = lambda: metrics


def exposition() -> str:
    """Return the pages of a scheduler and of a worker, of which all is known."""
    model = ClusterModel()
    model.handle(added())
    model.handle(
        reported(
            rows={"sum": row(MiB, MiB)},
            reading={"spilled": 1, "spilled_disk": 1},
            executing=(executing(),),
            finished={"sum": finished(MiB)},
            cost=SelfCost(0.1, 1),
            nanny_cost=SelfCost(0.1, 1),
        )
    )
    model.handle(Ticked(T0 + 2, SelfCost(0.1, 1)))
    model.handle(
        SchedulerLooked(T0 + 2, "tcp://s:1", 1, MiB, 9 * MiB, MiB, None, None, 0)
    )
    breakdown = break_down(Reading(T0, 500 * MiB, spilled=1))
    pages = {
        "scheduler": SchedulerFigures(model).families(),
        "worker": worker_families(breakdown, 10**9, 1, SelfCost(0.1, 1)),
    }
    own = prometheus_client.CollectorRegistry()
    for subsystem, families in pages.items():
        collector = registry.Collector(subsystem)
        own.register(Made([collector._translate(family) for family in families]))
    return prometheus_client.generate_latest(own).decode()


#: Name of a sample → its labels and their values.
SAMPLES: dict[str, dict[str, set[str]]] = {}
for metric in text_string_to_metric_families(exposition()):
    for sample in metric.samples:
        known = SAMPLES.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            known.setdefault(label, set()).add(value)

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
    *(rule["expr"] for group in RULES["groups"] for rule in group["rules"]),
]
ASKED = re.compile(r"(dask_\w+)(?:\{([^}]*)\})?")
CONDITION = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')


def test_the_pages_have_something_of_everything():
    assert len(SAMPLES) == 33
    assert SAMPLES["dask_scheduler_memdash_memory_bytes"]["type"] == set(terms.PARTS)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_asks_for_metrics_and_labels_that_there_are(query):
    asked = ASKED.findall(query)
    assert asked
    for name, conditions in asked:
        assert name in SAMPLES
        for label, how, value in CONDITION.findall(conditions):
            if label == "instance":  # Prometheus itself adds it
                continue
            values = value.split("|") if how == "=~" else [value]
            assert set(values) <= SAMPLES[name][label]
    for labels in re.findall(r"by \(([^)]*)\)|ignoring \(([^)]*)\)", query):
        for label in "".join(labels).split(","):
            assert any(label.strip() in SAMPLES[name] for name, _ in asked)


def test_every_figure_but_a_few_is_on_the_dashboard_or_in_an_alert():
    asked = {name for query in QUERIES for name, _ in ASKED.findall(query)}
    left = {name.rpartition("_memdash_")[2] for name in set(SAMPLES) - asked}
    assert left == {
        *("info", "memory_error_bytes", "self_memory_bytes", "self_cpu_cores"),
        *("worker_limit_ratio_gcount", "worker_limit_ratio_gsum"),
        *("managed_claimed_bytes", "spilled_bytes"),
    }


def test_legends_name_labels_of_their_query():
    for panel in PANELS:
        for target in panel["targets"]:
            names = [name for name, _ in ASKED.findall(target["expr"])]
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert any(label in SAMPLES[name] for name in names), panel["title"]


def test_the_dashboard_holds_together():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", json.dumps(DASHBOARD)))
    assert used == variables == {"datasource", "scheduler", "worker"}
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
    for one, other in itertools.combinations(DASHBOARD["panels"], 2):
        a, b = one["gridPos"], other["gridPos"]
        assert a["x"] + a["w"] <= 24
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (one["title"], other["title"])


def test_parts_have_the_pages_colours():
    found = [
        override
        for panel in PANELS
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] in terms.PARTS
    ]
    assert len(found) == 3 * len(terms.PARTS)
    for override in found:
        colour = override["properties"][0]["value"]["fixedColor"]
        assert colour == terms.PARTS[override["matcher"]["options"]].colour


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(PROMTOOL), *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=DEPLOY / "prometheus",
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on the PATH")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "memdash-rules.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "memdash-rules-test.yml"),
    ],
)
def test_promtool_finds_rules_configuration_and_alerts_right(arguments):
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on the PATH")
def test_promtool_finds_nothing_wrong_with_the_pages():
    done = promtool("check", "metrics", text=exposition())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_alert_is_tried_and_explained():
    tried = (DEPLOY / "prometheus" / "memdash-rules-test.yml").read_text()
    docs = (DEPLOY.parent / "alerts.md").read_text()
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert f"alertname: {rule['alert']}" in tried
            assert f"`{rule['alert']}`" in docs
            assert rule["annotations"]["description"].endswith(".")
