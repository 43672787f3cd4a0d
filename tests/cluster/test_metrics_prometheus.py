"""A real Prometheus scrapes a real cluster and answers every panel of the dashboard."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import Session, wait_for
from distributed import KilledWorker

pytest.importorskip("prometheus_client")

PROMETHEUS = shutil.which("prometheus")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not on the PATH"),
]

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "memdash.json").read_text())

#: Panels that have nothing to show before a failure is over.
MAY_BE_EMPTY = {"Failures by cause"}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def targets(session: Session) -> list[str]:
    def port(dask_worker: Any) -> int:
        return int(dask_worker.http_server.port)

    ports = [session.cluster.scheduler.http_server.port]
    return [f"127.0.0.1:{p}" for p in (*ports, *session.client.run(port).values())]


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Any]:
    """Start a server that scrapes what a file says, with our rules; give its API."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "targets.json").write_text("[]")
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "prometheus" / "memdash-rules.yml")],
        "scrape_configs": [
            {
                "job_name": "dask",
                "file_sd_configs": [
                    {"files": ["targets.json"], "refresh_interval": "1s"}
                ],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [
                str(PROMETHEUS),
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def ask(path: str, **arguments: str) -> Any:
        url = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success"
        return found["data"]

    def ready() -> bool:
        try:
            return bool(ask("status/buildinfo"))
        except OSError:
            return False

    ask.scrape = lambda hosts: (  # type: ignore[attr-defined]
        (tmp_path / "targets.json").write_text(json.dumps([{"targets": hosts}]))
    )
    try:
        wait_for(ready, "Prometheus to be ready")
        yield ask
    finally:
        server.terminate()
        server.wait(timeout=20)


def too_much(size: int) -> int:
    import time

    import numpy as np

    block = np.ones(size // 8)
    time.sleep(5)
    return len(block)


def test_every_panel_has_figures_and_a_failure_raises_its_alert(start, prometheus):
    session = start()
    hosts = targets(session)
    kept = session.client.map(bytes, [20_000_000 + n for n in range(4)], key="kept")
    session.client.gather(kept)
    prometheus.scrape(hosts)

    def up() -> bool:
        found = prometheus("query", query="up == 1")["result"]
        return {series["metric"]["instance"] for series in found} == set(hosts)

    wait_for(up, "all targets to be scraped")
    died = session.client.submit(too_much, 600_000_000)
    assert isinstance(died.exception(timeout=60), KilledWorker)
    session.client.wait_for_workers(2, timeout=60)
    hosts = targets(session)  # the workers are new
    prometheus.scrape(hosts)

    def fires() -> bool:
        alerts = prometheus("alerts")["alerts"]
        return {"DaskFailureOpen", "DaskTasksGivenUp"} <= {
            alert["labels"]["alertname"]
            for alert in alerts
            if alert["state"] == "firing"
        }

    wait_for(fires, "the alerts of the failure", 60)
    worker = hosts[-1]

    def answer(query: str) -> list[Any]:
        for variable, value in (
            ("$scheduler", ".*"),
            ("$worker", worker),
            ("$__rate_interval", "1m"),
            ("$__range", "1m"),
        ):
            query = query.replace(variable, value)
        return list(prometheus("query", query=query)["result"])

    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            if panel["title"] not in MAY_BE_EMPTY:
                series = wait_for(
                    lambda target=target: answer(target["expr"]),
                    f"{panel['title']}: {target['expr']}",
                )
                assert all(float(s["value"][1]) >= 0 for s in series)
            else:
                answer(target["expr"])
    assert (
        float(answer("sum(dask_scheduler_memdash_failures_open)")[0]["value"][1]) == 1
    )
    for variable in DASHBOARD["templating"]["list"][1:]:
        name = variable["query"]["query"].partition("(")[2].partition(",")[0]
        assert prometheus("query", query=name)["result"]
