"""The page as a person sees it, in a real browser."""

import operator
import os
import re
import shutil
import subprocess
import threading
import time
from urllib.parse import urlsplit

import dask
import fake_parts
import fake_store
import pytest
from distributed import Event, KilledWorker
from fake_parts import HOSTILE
from reverse_proxy import reverse_proxy
from stories import MiB

pytestmark = pytest.mark.browser


def tooltip(page, name, across, down):
    """Hover over a chart; give what the tooltips say.

    Parameters
    ----------
    across, down
        Where, as shares of the chart's width and height.
    """
    chart = page.locator(f"[data-chart={name}]")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] * down)
    shown = page.locator(".bk-Tooltip .bk-tooltip-content").first
    shown.wait_for()
    return shown.inner_text()


# --- real clusters -------------------------------------------------------------------


@pytest.mark.slow
def test_cluster_without_workers_says_how_to_start_one(look, cluster):
    _, url = cluster(n_workers=0)
    page = look(url)
    shown = page.locator("[data-tab=overview]")
    shown.get_by_text("No workers are connected.").wait_for()
    shown.get_by_text("dask worker <scheduler address>").wait_for()
    shown.get_by_text("No tasks yet.").wait_for()
    assert page.title() == "MemDash"
    for tab, said in (
        ("Workers", "No workers are connected."),
        ("Tasks", "No tasks yet."),
        ("Failures", "No incidents."),
        ("Order", "No graph yet."),
        ("Limits", "No limits to check yet."),
    ):
        page.get_by_role("navigation", name="Sections").get_by_text(tab).click()
        name = {"Failures": "incidents"}.get(tab, tab.lower())
        page.locator(f"[data-tab={name}]").get_by_text(said).wait_for()


def test_busy_cluster_shows_what_is_stored_and_where(look, cluster):
    client, url = cluster(n_workers=2, memory_limit="1GiB")
    kept = client.submit(operator.mul, b"x", 100 * MiB, key="kept-1")
    page = look(url.replace("/memdash", "/status"), ready=False)
    page.get_by_role("link", name="Memdash").click()
    page.wait_for_selector("html[data-memdash=ready]")
    page.get_by_text("in 2 workers").wait_for()
    managed = page.locator(".md-part", has_text="outputs kept in memory")
    managed.get_by_text("100 MiB").wait_for()
    page.get_by_role("link", name="All prefixes as a table").click()
    row = page.locator("[data-table=tasks] tr", has_text="kept")
    row.get_by_text("100 MiB").first.wait_for()
    page.get_by_role("navigation", name="Sections").get_by_text("Workers").click()
    rows = page.locator("[data-table=workers] .md-rows tr")
    rows.nth(1).wait_for()
    assert rows.count() == 2
    rows.first.get_by_role("link").click()
    page.get_by_role("heading", name=re.compile("^worker [01]$")).wait_for()
    page.locator("[data-chart=worker] canvas").first.wait_for()
    page.get_by_role("navigation", name="Sections").get_by_text("Overview").click()
    del kept
    managed.get_by_text(re.compile(r"^0( B)?$")).wait_for()


def fill_memory(seconds):
    """Hold 90 MiB until told to go on, then take more until somebody ends it."""
    taken = [bytearray(b"x") * (90 * MiB)]
    Event("seen").wait(timeout=seconds)
    for _ in range(int(seconds / 0.1)):
        taken.append(bytearray(os.urandom(1)) * (30 * MiB))
        time.sleep(0.1)
    return len(taken)


#: What :func:`fill_memory` holds first, and some that a first task loads beside it.
EXECUTING = re.compile(r"^(9\d(\.\d)?|10\d) MiB$")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(1400, "light"), pytest.param(800, "dark", marks=pytest.mark.corpora)],
)
def test_death_of_a_worker_is_read_off_the_page(look, cluster, width, scheme):
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        client, url = cluster(n_workers=2, memory_limit="400MiB")
    page = look(f"{url}#incidents", width, scheme)
    page.get_by_text("No incidents.").wait_for()
    on_every_tab(
        page,
        {
            "overview": "no incidents",
            "workers": "worker",
            "tasks": "No tasks yet",
            "order": "No graph yet",
            "limits": "From the machine to the worker",
        },
    )
    culprit = client.submit(fill_memory, 60, key="fill-memory-1", pure=False)
    on_every_tab(
        page,
        {
            "overview": EXECUTING,
            "workers": EXECUTING,
            "tasks": "fill-memory",
            "order": "No graph yet",  # one submitted task is none
            "limits": "From the machine to the worker",
            "incidents": "No incidents.",
        },
    )
    Event("seen", client).set()
    with pytest.raises(KilledWorker):
        culprit.result(timeout=60)

    page.get_by_role("link", name="terminated by its nanny").first.wait_for()
    failure = page.get_by_role("region", name="Table of failures")
    failure.get_by_role("link", name="task given up (KilledWorker)").focus()
    page.keyboard.press("Enter")
    story = page.get_by_role("article")
    story.get_by_text("Failure 1:").wait_for()
    story.get_by_text("What to change").wait_for()
    assert page.url.endswith("#failure-1")
    incidents = page.get_by_role("region", name="Table of incidents")
    incidents.get_by_role("link", name="task given up (KilledWorker)").focus()
    page.keyboard.press("Enter")
    story.get_by_role("heading", name=re.compile(r"^Incident \d")).wait_for()
    story.get_by_text("fill-memory-1").first.wait_for()
    assert "#incident-" in page.url
    story.get_by_role("link", name=re.compile(r"incident \d")).first.click()
    story.get_by_role("heading", name="Tasks that were running").wait_for()
    suspect = story.locator("tbody tr")
    told = suspect.filter(has_text="fill-memory-1").first.inner_text()
    assert "MiB" in told
    page.get_by_role("link", name="Close").click()
    story.wait_for(state="detached")
    on_every_tab(
        page,
        {
            "overview": re.compile(r"^1 failure, \d incidents$"),
            "workers": "left",
            "tasks": "fill-memory",
            "order": "No graph yet",  # one submitted task is none
            "limits": "From the machine to the worker",
        },
    )


def on_every_tab(page, said):
    """Go from tab to tab as a reader does, and wait for what each one says."""
    for tab, text in said.items():
        title = {"incidents": "Failures"}.get(tab, tab.capitalize())
        link = page.get_by_role("navigation", name="Sections").get_by_text(title)
        link.focus()
        page.keyboard.press("Enter")
        shown = page.locator(f"[data-tab={tab}]")
        shown.get_by_text(text).filter(visible=True).first.wait_for()


# --- made-up stores ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        *(
            pytest.param(800, "dark", marks=pytest.mark.slow),
            (1400, "light"),
            pytest.param(800, "light", marks=pytest.mark.corpora),
        ),
        pytest.param(1400, "dark", marks=pytest.mark.corpora),
        *(
            pytest.param(2500, scheme, marks=pytest.mark.corpora)
            for scheme in ("light", "dark")
        ),
    ],
)
def test_page_fits_its_window_and_is_readable(look, show, width, scheme):
    store = fake_store.after_incident()
    store.all_graphs = [fake_parts.graph(1)]
    store.all_limits = fake_store.wrong_limits().all_limits
    url = show(store)
    page = look(url, width, scheme)
    for tab, part in (
        *(("overview", ".md-big"), ("overview", ".md-brief"), ("overview", ".md-hint")),
        *(("overview", ".md-answer dd"), ("overview", ".md-answer-what a")),
        *(("overview", ".md-answer-when"), ("overview", ".md-each")),
        *(("workers", "tbody th a"), ("workers", "h2"), ("tasks", ".md-groups th")),
        *(("incident-4", ".md-lead"), ("incident-4", ".md-facts .md-dim")),
        *(("order", ".md-badge"), ("order", ".md-lead"), ("limits", ".md-change")),
        *(("limits", ".md-badge"), ("prefix-sum", ".md-gauge"), ("tasks", ".md-dim")),
    ):
        page.evaluate("tab => { location.hash = tab; }", tab)
        shown = page.locator("[data-tab]:visible").locator(part)
        shown.first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        assert contrast(page, shown) >= 4.5, (tab, part)


def contrast(page, part):
    """Return the contrast of a text against the card it is on (WCAG 2)."""
    ink = part.first.evaluate("e => getComputedStyle(e).color")
    ground = page.locator(".md-card:visible").first.evaluate(
        "e => getComputedStyle(e).backgroundColor"
    )

    def luminance(colour):
        channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
        linear = [
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
            for c in channels
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
def test_hovering_explains_each_part_in_words(look, show):
    page = look(show(fake_store.busy()))
    assert "a worker keeps in memory" in tooltip(page, "workers", 0.25, 0.15)
    page.mouse.move(0, 0)
    said = tooltip(page, "history", 0.5, 0.5)
    for part in ("managed", "in transfer", "executing", "retained", "baseline"):
        assert part in said
    assert "process\n1.93 GiB" in said
    assert "managed\n0.77 GiB" in said


def test_hostile_names_appear_as_text_in_tooltips_and_tables(look, show):
    store = fake_store.hostile()
    store.all_graphs = [fake_parts.graph(1, id=HOSTILE, name=HOSTILE, covered=HOSTILE)]
    page = look(show(store))
    page.get_by_text("in 4 workers").wait_for()
    assert HOSTILE in tooltip(page, "workers", 0.25, 0.15)
    page.mouse.move(0, 0)
    row = page.locator(".md-holders tbody th").first
    assert HOSTILE.replace(" ", "") in row.get_attribute("title").replace(" ", "")
    for tab in ("workers", "tasks", "incidents", "graphs"):
        page.evaluate(
            "tab => { location.hash = tab; }", {"graphs": "order"}.get(tab, tab)
        )
        row = page.locator(f"[data-table={tab}] .md-rows tr").first
        row.get_by_text("<img src=x").first.wait_for()
        if tab != "graphs":  # chosen already
            row.get_by_role("link").first.click()
        page.locator("[data-tab]:visible h3", has_text="<img").or_(
            page.locator("[data-tab]:visible article")
        ).first.wait_for()
    assert page.title() == "MemDash"
    assert page.locator("img").count() == 1, "our icon"
    assert page.locator("mjx-container").count() == 0


@pytest.mark.slow
def test_open_page_follows_the_store_without_growing(look, show):
    store = fake_store.after_incident()
    page = look(show(store))
    models = page.evaluate("Bokeh.documents[0].all_models.size")
    assert models > 100
    elements = count_elements(page)
    for step in range(1, 31):
        for worker in store.all_workers:
            worker["breakdown"] = fake_parts.breakdown(step * MiB, *[0] * 5, 10 * MiB)
        store.points.append(store.points[step])
        store.change()
        shown = re.compile(rf"^{4 * step}(\.0+)? MiB$")  # as its sum is written
        page.get_by_text(shown).first.wait_for()
    assert page.evaluate("Bokeh.documents[0].all_models.size") == models
    assert count_elements(page) - elements <= 20


def count_elements(page):
    return page.evaluate(
        """() => { const count = (node) => { let n = 0;
             for (const e of node.querySelectorAll("*")) {
               n += 1 + (e.shadowRoot ? count(e.shadowRoot) : 0); }
             return n; };
           return count(document); }"""
    )


@pytest.mark.slow
def test_store_is_left_alone_when_nobody_looks(look, show):
    options = {"unused_session_lifetime_milliseconds": 100}
    options["check_unused_sessions_milliseconds"] = 100
    key = "distributed.scheduler.dashboard.bokeh-application"
    store = fake_store.busy()
    with dask.config.set({key: {**dask.config.get(key), **options}}):
        page = look(show(store))
    store.change()
    page.get_by_text("in 4 workers").wait_for()
    page.context.close()
    asked, since = -1, 0.0
    deadline = time.monotonic() + 30
    while time.monotonic() < since + 1 or asked != len(store.asked):
        assert time.monotonic() < deadline, "the store is still being read"
        if asked != len(store.asked):
            asked, since = len(store.asked), time.monotonic()
        store.change()
        threading.Event().wait(0.05)


@pytest.mark.slow
def test_incident_has_an_address_that_can_be_shared(look, show):
    url = show(fake_store.after_incident())
    page = look(f"{url}#incident-2")
    page.get_by_role("heading", name="Incident 2: killed by the kernel").wait_for()
    page.evaluate("location.hash = '#incident-99'")
    page.get_by_text("Incident 99 is not known.").wait_for()
    page.go_back()
    page.get_by_role("heading", name="Incident 2").wait_for()


# --- where it is served --------------------------------------------------------------


@pytest.mark.slow
def test_prefix_of_the_dashboard_is_honoured(look, show):
    url = show(fake_store.busy(), http_prefix="/some/where")
    assert urlsplit(url).path == "/some/where/memdash"
    page = look(url)
    page.get_by_text("in 4 workers").wait_for()
    page.get_by_text("Dask", exact=True).click()
    page.get_by_role("link", name="Status").click()
    page.wait_for_url("**/some/where/status")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "/inner"])
def test_reverse_proxy_under_a_path_needs_no_setting(look, show, prefix):
    url = urlsplit(show(fake_store.after_incident(), http_prefix=prefix or "/"))
    with reverse_proxy(url.port, "/user/proxy") as proxy:
        page = look(f"{proxy}/user/proxy{url.path}")
        page.get_by_text("in 4 workers").wait_for()
        assert "a worker keeps in memory" in tooltip(page, "workers", 0.25, 0.15)
        page.get_by_role("link", name="5 incidents").click()
        page.get_by_role("link", name="terminated by its nanny").first.click()
        page.get_by_role("heading", name="Tasks that were running").wait_for()
        page.context.close()


@pytest.mark.slow
def test_dashboard_behind_tls(look, show, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command = [*command.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = "distributed.scheduler.dashboard.tls"
    with dask.config.set({f"{tls}.key": str(key), f"{tls}.cert": str(certificate)}):
        url = show(fake_store.busy())
    assert url.startswith("https://")
    page = look(url)
    page.get_by_text("in 4 workers").wait_for()
