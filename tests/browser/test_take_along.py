"""What can be taken along from the page, and its charts elsewhere."""

import csv
import json
import urllib.request

import dask
import fake_parts
import fake_store
import pytest
from distributed import Client, LocalCluster
from fake_parts import HOSTILE

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_table_is_saved_as_csv_as_it_was_searched_and_sorted(look, show):
    page = look(show(fake_store.busy(60)) + "#workers")
    page.get_by_role("searchbox", name="Search workers").fill("worker-1")
    page.get_by_role("button", name="Process", exact=True).click()
    page.get_by_text("11 that match").or_(page.get_by_text("of 11")).first.wait_for()
    with page.expect_download() as download:
        page.locator("[data-table=workers]").get_by_text("Save CSV").click()
    assert download.value.suggested_filename == "memdash-workers.csv"
    with download.value.path().open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["Worker"] for row in rows} == {
        "worker-1",
        *(f"worker-{i}" for i in range(10, 20)),
    }
    sizes = [int(row["Process (bytes)"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
def test_chart_is_saved_as_a_picture(look, show):
    page = look(show(fake_store.busy()))
    page.get_by_text("in 4 workers").wait_for()
    button = page.get_by_role("button", name="Save chart as PNG: Over time")
    with page.expect_download() as download:
        button.focus()
        page.keyboard.press("Enter")
    content = download.value.path().read_bytes()
    assert download.value.suggested_filename == "memdash-history.png"
    assert content.startswith(b"\x89PNG")
    width = int.from_bytes(content[16:20], "big")
    assert width > 1000
    assert len(content) > 5000, "something is drawn"


def test_report_opens_without_a_network(look, show, browser, tmp_path):
    store = fake_store.hostile()
    store.all_graphs = [fake_parts.graph(1, name=HOSTILE)]
    store.all_limits = fake_store.wrong_limits().all_limits
    page = look(show(store))
    with page.expect_download() as download:
        page.get_by_role("link", name="Save report").click()
    path = tmp_path / "report.html"
    download.value.save_as(path)
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    requests, errors = [], []
    try:
        report = context.new_page()
        report.on("request", lambda request: requests.append(request.url))
        report.on("pageerror", lambda error: errors.append(str(error)))
        report.on(
            "console", lambda m: errors.append(m.text) if m.type == "error" else None
        )
        report.goto(path.as_uri())
        report.locator("canvas").nth(3).wait_for()
        report.get_by_text("in 4 workers").wait_for()
        report.get_by_text("Tasks that were running").first.wait_for()
        report.get_by_text("What if").wait_for()
        report.get_by_text("Start each worker with --memory-limit").first.wait_for()
        report.locator("th", has_text="Projected").wait_for()
        assert report.locator("td", has_text="<img src=x").count() > 5
        assert report.locator("img").count() == 0
        assert report.evaluate("document.documentElement.scrollWidth") <= 1200
        assert "owned" not in report.title()
    finally:
        context.close()
    assert requests == [path.as_uri()]
    assert errors == []


def individual(url):
    """Return the dashboard's list of single charts, and their common root."""
    root = url.removesuffix("/memdash")
    with urllib.request.urlopen(f"{root}/individual-plots.json") as answer:
        listed = json.load(answer)
    return root, {url for url in listed.values() if "memdash" in url}, listed


@pytest.mark.slow
def test_charts_stand_in_the_list_that_jupyterlab_reads(look, show):
    root, ours, listed = individual(show(fake_store.busy()))
    assert ours == {
        "/individual-memdash-memory-over-time",
        "/individual-memdash-workers",
        "/individual-memdash-task-prefixes",
        "/individual-memdash-order",
    }
    assert "/individual-progress" in listed.values()
    for path in ours:
        page = look(root + path, width=500, ready=False)
        page.get_by_role("heading", name="MemDash:").wait_for(state="attached")
        page.get_by_text("2.87 GiB of 4 GiB").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("preloaded", [False, True])
def test_charts_are_listed_preloaded_and_registered_late(cluster, preloaded):
    preload = ["dask_memdash"] if preloaded else []
    with dask.config.set({"distributed.scheduler.preload": preload}):
        client, url = cluster(register=not preloaded, n_workers=0)
    assert len(individual(url)[1]) == 4
    client.unregister_scheduler_plugin("memdash")
    left = individual(url)[1]
    for _ in range(100):
        if not left:
            break
        client.run_on_scheduler(lambda: None)
        left = individual(url)[1]
    assert left == set()


def test_notebook_shows_the_running_cluster():
    from dask_memdash import MemDash

    plugin = MemDash()
    assert "Not connected" in plugin._repr_html_()
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as running,
        Client(running) as client,
    ):
        client.register_plugin(plugin)
        html = plugin._repr_html_()
    assert "<span>0 workers</span>" in html
    assert "No worker is connected." in html
    assert '/memdash"' in html
