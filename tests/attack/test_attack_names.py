"""Names of workers and keys that are made to do harm where they are shown.

Halves of surrogate pairs are not among them: a worker of such a name cannot start, for
Dask cannot send it.  That they do no harm is a unit test's.
"""

import asyncio
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import dask
import pytest
from distributed import KilledWorker, Nanny
from schema_check import check
from victim import victim

import dask_memdash
from dask_memdash import connect
from dask_memdash.views.table_columns import TABLES

pytestmark = [pytest.mark.attack, pytest.mark.cluster, pytest.mark.timeout(600)]

#: What a terminal obeys, what turns writing round, and halves of pairs.
OBEYED = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

#: What a browser would run; `owned` is looked for in a real one.
SCRIPT = '</script><img src=x onerror="window.owned=1"><script>window.owned=1</script>'

NAMES = [
    f"\x1b[2J\x1b]0;owned\x07\u202e\x00\r\n{SCRIPT}",
    "=cmd|' /C calc'!A0",
    "A" * 2**20,
]
KEYS = [f"{name[:2_000]}-{number}" for number, name in enumerate(NAMES)]


def exits():
    os._exit(7)


@pytest.fixture(scope="module")
def cluster():
    """Workers of these names, each of which dies over a task of such a key."""
    settings = {"distributed.scheduler.allowed-failures": 0}
    with dask.config.set(settings), victim(n_workers=1) as started:

        async def start():
            made = [
                Nanny(started.cluster.scheduler_address, name=name, nthreads=1)
                for name in NAMES
            ]
            return await asyncio.gather(*made)

        nannies = started.cluster.sync(start)
        started.client.wait_for_workers(1 + len(NAMES))
        for key, nanny in zip(KEYS, nannies, strict=True):
            future = started.client.submit(
                exits, key=key, pure=False, workers=[nanny.worker_address]
            )
            with pytest.raises(KilledWorker) as raised:
                future.result(timeout=120)
            started.errors = [*getattr(started, "errors", []), raised.value]
            started.client.wait_for_workers(1 + len(NAMES))
        kinds = [i["kind"] for i in started.api("incidents")]
        assert kinds.count("killed-worker") == len(KEYS)
        yield started

        async def close():
            await asyncio.gather(*(nanny.close() for nanny in nannies))

        started.cluster.sync(close)


def read(cluster, path):
    url = cluster.base.removesuffix("api/") + path
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode("utf-8", "strict")


def harms(text):
    """Return what of a text a terminal would obey, one after another."""
    return sorted({repr(found) for found in OBEYED.findall(text)})


@pytest.mark.quick
def test_json(cluster, tell):
    sizes, wrong = {}, []
    paths = [
        "cluster",
        "workers",
        "prefixes",
        "limits",
        "order",
        "incidents",
        "failures",
    ]
    paths += [f"incidents/{i['id']}" for i in cluster.api("incidents")]
    paths += [f"failures/{i['id']}" for i in cluster.api("failures")]
    for path in paths:
        text = read(cluster, f"api/{path}")
        sizes[path] = len(text)
        wrong += harms(text)
        check(path, json.loads(text))
    tell(
        "hostile names of workers and keys: JSON",
        f"{len(paths)} answers, the largest of {max(sizes.values()) / 1000:.0f} kB, "
        f"{len(wrong)} characters that a terminal obeys",
        not wrong and max(sizes.values()) < 200_000,
    )


@pytest.mark.quick
@pytest.mark.parametrize("table", TABLES)
def test_csv(cluster, tell, table):
    text = read(cluster, f"tables/{table}.csv")
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    formulas = [
        c
        for c in cells
        if c[:1] in tuple("=+@")
        or (c.startswith("-") and not re.fullmatch(r"-[\d.]+", c))
    ]
    tell(
        f"hostile names: {table}.csv",
        f"{len(text) / 1000:.0f} kB, {len(formulas)} formulas, {len(harms(text))} "
        "characters that a terminal obeys",
        not formulas and not harms(text) and len(text) < 100_000,
    )


@pytest.mark.quick
def test_report(cluster, tell):
    html = read(cluster, "report.html")
    wrong = harms(html)
    tell(
        "hostile names: the report",
        f"{html.count('<img src=x')} images, {html.count('<script>window.owned')} "
        f"scripts, {len(wrong)} characters that a terminal obeys: {wrong}",
        "<img src=x" not in html and "<script>window.owned" not in html and not wrong,
    )


@pytest.mark.quick
def test_terminal(cluster, tell):
    url = cluster.base.split("/memdash")[0]
    shown = []
    for more in ([], ["--json"]):
        command = [
            *(sys.executable, "-c"),
            "from dask_memdash.cli.main import main; main()",
            *("failures", url, *more),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        shown.append(done.stdout)
    for error in cluster.errors:
        shown.append(str(dask_memdash.explain(error)))
        shown += getattr(error, "__notes__", [])
    for incident in cluster.api("incidents"):
        shown.append(str(connect(cluster.client).explain(incident["id"])))
    wrong = [harm for text in shown for harm in harms(text)]
    longest = max(map(len, shown))
    tell(
        "hostile names: the terminal (failures, explain, notes)",
        f"{len(shown)} texts, the longest of {longest:,} characters, {len(wrong)} "
        "characters that a terminal obeys",
        not wrong and longest < 50_000 and len(shown) > 10,
    )


@pytest.mark.quick
def test_notebook(cluster, tell):
    memdash = connect(cluster.client)
    shown = [memdash.explain(error)._repr_html_() for error in cluster.errors]
    frames = ("workers", "prefixes", "incidents", "failures", "limits")
    shown += [getattr(memdash, name)()._repr_html_() for name in frames]
    shown.append(repr(memdash))
    tags = sum("<img src=x" in html or "<script>" in html for html in shown)
    tell(
        "hostile names: the notebook (explanations, DataFrames)",
        f"{len(shown)} outputs, {tags} with markup of the name's",
        tags == 0 and max(map(len, shown)) < 1_000_000,
    )


def test_log(tell, caplog):
    settings = {"distributed.scheduler.allowed-failures": 0}
    with dask.config.set(settings), victim(n_workers=1) as cluster:
        caplog.clear()

        async def start():
            return await Nanny(
                cluster.cluster.scheduler_address, name=NAMES[0], nthreads=1
            )

        nanny = cluster.cluster.sync(start)
        future = cluster.client.submit(
            exits, key=KEYS[0], workers=[nanny.worker_address]
        )
        with pytest.raises(KilledWorker):
            future.result(timeout=120)
        cluster.wait_for(
            lambda: [r for r in caplog.records if r.name == "dask_memdash"], "a line"
        )
        cluster.cluster.sync(nanny.close)
    lines = [r.getMessage() for r in caplog.records if r.name == "dask_memdash"]
    tell(
        "hostile names: our log lines",
        f"{len(lines)} lines, the longest of {max(map(len, lines))} characters",
        lines
        and not any(harms(line) or "\n" in line for line in lines)
        and max(map(len, lines)) <= 200,
    )


def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("MEMDASH_CHROMIUM") or next(
        filter(None, map(shutil.which, names)), None
    )


@pytest.mark.skipif(chromium() is None, reason="no Chromium here")
def test_page(cluster, tell):
    sync_api = pytest.importorskip("playwright.sync_api")
    tabs = ("overview", "workers", "tasks", "incidents", "order", "limits")
    root = cluster.base.removesuffix("api/").rstrip("/")
    owned, seen = [], 0
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.on("dialog", lambda dialog: owned.append("dialog"))
        for tab in tabs:
            page.goto(f"{root}#{tab}")
            page.reload()
            page.wait_for_timeout(2_000)
            seen += len(page.inner_text("body"))
            owned += [tab] * bool(page.evaluate("window.owned"))
        page.goto(f"{root}/report.html")
        page.wait_for_timeout(2_000)
        owned += ["report"] * bool(page.evaluate("window.owned"))
        browser.close()
    tell(
        "hostile names: the page's tabs and the report in a browser",
        f"{len(tabs)} tabs with {seen:,} characters; scripts of the name's that ran: "
        f"{len(owned)}",
        not owned and seen > 1_000,
    )
