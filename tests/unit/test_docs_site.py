"""The documentation site: built without a warning, whole, and from nowhere else."""

from __future__ import annotations

import html
import posixpath
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs_site import REPOSITORY, built_site

import dask_memdash
from dask_memdash import config, errors
from dask_memdash.terms import CAUSES

sys.path.insert(0, str(REPOSITORY / "docs"))
from memdash_site import repository, tables
from memdash_site.causes import title
from memdash_site.repository import Repository

#: Elements and attributes by which a page asks for something when it is opened.
ASKS = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("object", "data"),
}

#: Kinds of <link> that are no request.
NO_REQUEST = {"canonical", "index", "search", "next", "prev", "author"}


class Page(HTMLParser):
    """What a built page has: anchors, links, and what it asks for."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.asks: list[str] = []
        self.text = file.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        kinds = set(given.get("rel", "").split())
        if tag == "link" and kinds & NO_REQUEST:
            return
        self.asks += [given[name] for of, name in ASKS if of == tag and name in given]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_site(tmp_path_factory)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html")}


def test_no_page_asks_another_host_for_anything(site: Path, pages) -> None:
    asked = [url for page in pages.values() for url in page.asks]
    assert len(asked) > 100
    foreign = {url for url in asked if urlsplit(url).scheme not in ("", "data")}
    foreign |= {url for url in asked if url.startswith("//")}
    assert not foreign
    for page in pages.values():
        assert not list(foreign_in_css(page.text)), page.file
    for style in site.rglob("*.css"):
        assert not list(foreign_in_css(style.read_text(encoding="utf-8"))), style


def foreign_in_css(text: str) -> Iterator[str]:
    """Give what a style sheet asks another host for."""
    for url in re.findall(r"url\(\s*['\"]?([^'\")]*)|@import\s+['\"]([^'\"]*)", text):
        address = "".join(url)
        if re.match(r"(https?:)?//", address):
            yield address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a { background: url('https://x.org/a.png') }", ["https://x.org/a.png"]),
        ("@import '//x.org/a.css';", ["//x.org/a.css"]),
        ("a { background: url(data:image/png;base64,AA) }", []),
        ("a { background: url(../a.png) }", []),
    ],
)
def test_foreign_in_css_finds_what_it_should(text: str, found: list[str]) -> None:
    assert list(foreign_in_css(text)) == found


def test_every_link_within_the_site_leads_to_a_page_and_an_anchor(site, pages) -> None:
    broken, looked = [], 0
    for page in pages.values():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.file.parent / unquote(parts.path)).resolve()
            target = target if parts.path else page.file
            looked += 1
            if not target.exists() or (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                broken.append((page.file.name, link))
    assert looked > 1000
    assert not broken


def test_links_to_the_repository_lead_to_files_that_are_there(pages) -> None:
    home = Repository(REPOSITORY).address
    links = {
        link
        for page in pages.values()
        for link in page.links
        if link.startswith((f"{home}/blob/main/", f"{home}/tree/main/"))
    }
    assert links
    for link in links:
        path = urlsplit(link.removeprefix(home)).path.split("/", 3)[3]
        assert (REPOSITORY / path).exists(), link


def test_everything_public_is_in_the_api(site: Path, pages) -> None:
    anchors = pages[site / "api.html"].anchors
    public = set(dask_memdash.__all__) - {"__version__"}
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.MemDashError)
    }
    assert {f"dask_memdash.{name}" for name in public} <= anchors
    assert {f"dask_memdash.errors.{name}" for name in raised} <= anchors


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_a_page_with_its_sentence(cause: str, site, pages) -> None:
    text = pages[site / "causes" / f"{cause}.html"].text
    assert title(CAUSES[cause]) in text
    words = html.unescape(re.sub(r"<[^>]+>", "", text)).replace("\n", " ")
    assert CAUSES[cause].sentence in words
    assert f'href="{cause}.html"' in pages[site / "causes" / "index.html"].text


def test_every_setting_is_in_the_configuration_with_its_default() -> None:
    told = tables.settings()
    for key in config.CHECKS:
        assert f"### `memdash.{key}`\n" in told
    assert (
        "### `memdash.page.refresh`\n\n"
        "How often an open page is brought up to date. At least 100ms.\n\n"
        "Default `1s`; text. `page__refresh` of `MemDash(…)`, "
        "`DASK_MEMDASH__PAGE__REFRESH` in the environment." in told
    )


# -- what is taken in from the repository ----------------------------------------------

README = """# Title

## One

First, [two](#two) and [a page](docs/metrics.md#on-each-worker).

```sh
## no heading, [no link](#two)
```

### Below

More.

## Two

Second.
"""


def test_a_section_ends_where_the_next_begins() -> None:
    text, level = repository.section(README, "one")
    assert level == 2
    assert text.startswith("\nFirst")
    assert text.endswith("More.\n")
    with pytest.raises(LookupError):
        repository.section(README, "three")


def test_headings_of_a_section_are_raised_outside_of_code() -> None:
    text, level = repository.section(README, "one")
    raised = repository.raised(text, level - 1)
    assert "\n## Below\n" in raised
    assert "\n## no heading" in raised


@pytest.fixture
def small(tmp_path: Path) -> Repository:
    (tmp_path / "docs" / "manual").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "docs" / "manual" / "first.md").write_text(
        "# First\n\n- [One](../../README.md#one)\n"
    )
    (tmp_path / "docs" / "manual" / "second.md").write_text(
        "# Second\n\n- [Two](../../README.md#two)\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[project.urls]\nHomepage = "https://example.org/p"\n'
    )
    return Repository(tmp_path)


def test_a_line_that_is_a_link_to_a_section_is_replaced_by_it(small) -> None:
    page = small.expanded("manual/first", "# First\n\n- [One](../../README.md#one)\n")
    assert "First, [two](/manual/second.md) and" in page
    assert "[a page](/metrics.md#on-each-worker)" in page
    assert "## no heading, [no link](#two)" in page
    assert "README" not in page


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("../README.md#below", "/manual/first.md#below"),
        ("../README.md#two", "/manual/second.md"),
        ("manual/first.md", "/manual/first.md"),
        ("#here", "/page.md#here"),
        ("page.png", "/page.png"),
        ("../other", "https://example.org/p/tree/main/other"),
        ("../setup.py", "https://example.org/p/blob/main/setup.py"),
        ("deploy/start.sh", "https://example.org/p/blob/main/docs/deploy/start.sh"),
        ("https://docs.dask.org/", "https://docs.dask.org/"),
    ],
)
def test_links_lead_into_the_site_or_to_the_repository(small, link, leads) -> None:
    text = small.expanded("page", f"See [this]({link}), `[code]({link})`.")
    assert text == f"See [this]({leads}), `[code]({link})`."


@pytest.mark.parametrize(
    "page", sorted((REPOSITORY / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_links_of_every_page_work_on_plain_git_hosting_too(page: Path) -> None:
    if "_build" in page.parts:
        pytest.skip("a built page")
    found = []
    repository.outside_code(page.read_text(), lambda t: found.append(t) or t)
    for target in re.findall(r"\]\(([^)\s]+)\)", "".join(found)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = Path(posixpath.normpath(page.parent / path)) if path else page
        assert file.exists(), target
        if anchor:
            titles = repository.headings(file.read_text())
            assert anchor in {repository.slug(t) for _, _, t in titles}, target
