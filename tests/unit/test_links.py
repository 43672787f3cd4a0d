"""The page's address, as a user's browser reaches it."""

import pytest

from dask_memdash.links import page_link


@pytest.mark.parametrize(
    ("dashboard", "path", "incident", "link"),
    [
        ("http://h:8787/status", "/memdash", None, "http://h:8787/memdash"),
        ("http://h:8787/status", "/memdash", "3", "http://h:8787/memdash#incident-3"),
        ("http://h:8787/x/status", "/x/memdash", None, "http://h:8787/x/memdash"),
        ("http://h:8787/status", "/x/memdash", None, "http://h:8787/x/memdash"),
        (
            "/user/me/proxy/8787/status",
            "/memdash",
            "1",
            "/user/me/proxy/8787/memdash#incident-1",
        ),
        (
            "https://hub/proxy/8787/status/",
            "/memdash",
            None,
            "https://hub/proxy/8787/memdash",
        ),
        (None, "/memdash", "3", None),
        ("", "/memdash", "3", None),
        ("http://h:8787/status", None, "3", None),
    ],
)
def test_the_link_follows_from_the_dashboards_and_the_path(
    dashboard, path, incident, link
):
    assert page_link(dashboard, path, incident) == link


def test_what_is_no_id_is_quoted():
    link = page_link("http://h/status", "/memdash", '"><script>')
    assert link == "http://h/memdash#incident-%22%3E%3Cscript%3E"
