"""The static files: complete, ours alone, and of one mind with the views."""

import re

import pytest

from dask_memdash import terms
from dask_memdash.errors import MemDashError
from dask_memdash.views import assets, theme
from dask_memdash.views.base import environment


def text(name):
    return (assets.static_dir() / name).read_text(encoding="utf-8")


def sources():
    """Return the text of every file that a browser may get."""
    for path in sorted(assets.static_dir().rglob("*")):
        if path.suffix in {".css", ".js", ".svg", ".html"}:
            yield path.name, path.read_text(encoding="utf-8")
    loader = environment().loader
    for name in environment().list_templates():
        yield name, loader.get_source(environment(), name)[0]


def test_colours_in_css_are_those_of_the_charts():
    css = dict(re.findall(r"--md-(\w+): (#\w{6});", text("memdash.css").split("@")[0]))
    for part in terms.PARTS.values():
        assert css[part.name] == part.colour
    assert css["alarm"] == theme.ALARM
    assert css["caution"] == theme.CAUTION
    assert css["peak"] == theme.PEAK
    assert css["neutral"] == theme.NEUTRAL
    assert css["chosen"] == theme.CHOSEN


def test_nothing_is_asked_of_another_host():
    for name, content in sources():
        urls = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", content))
        assert urls - {"http://www.w3.org"} == set(), name


def test_templates_escape():
    assert environment().autoescape is True
    for name, content in sources():
        for expression in re.findall(r"{{([^}]*)\| *safe", content):
            assert name in {"page.html", "report.html", "individual.html"}, (
                name,
                expression,
            )


def test_every_class_that_templates_use_is_known():
    of_records = text("record.css")
    for name, content in sources():
        css = text("memdash.css") + of_records * (name == "record.html")
        for attribute in re.findall(r'class="([^"{]*)"', content):
            for used in set(attribute.split()) - {"md-kind-"}:
                assert re.search(rf"\.{used}\b", css), (name, used)


def test_url_of_a_file_changes_with_its_content(tmp_path, monkeypatch):
    (tmp_path / "memdash.css").write_text("a {}")
    monkeypatch.setattr(assets, "_candidates", lambda: (tmp_path,))
    before = assets.asset_url("memdash.css")
    (tmp_path / "memdash.css").write_text("b { color: red }")
    assert assets.asset_url("memdash.css") != before
    assert before.startswith("memdash/static/memdash.css?v=")


def test_installation_without_static_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "_candidates", lambda: (tmp_path / "static",))
    with pytest.raises(MemDashError, match="installation is incomplete"):
        assets.static_dir()
