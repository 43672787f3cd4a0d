"""Where the page is, as a user's browser reaches it.

Imports the standard library only, for the scheduler and the client both ask here.
"""

from __future__ import annotations

from urllib.parse import quote


def page_link(
    dashboard: str | None,
    path: str | None,
    incident_id: str | None = None,
    *,
    failure_id: str | None = None,
) -> str | None:
    """Return the address of the page, open at an incident or a failure.

    Parameters
    ----------
    dashboard
        Link to Dask's dashboard as the configuration or the cluster gives it, which
        knows of proxies; None where there is none.
    path
        Path of the page on the scheduler's own server; None without a page.
    incident_id
        The incident that shall be open.
    failure_id
        The failure that shall be open.

    Returns
    -------
    str or None
        None where no address can be given.
    """
    if not dashboard or path is None:
        return None
    base = dashboard.removesuffix("/").removesuffix("/status")
    prefix, _, page = path.rpartition("/")
    if not base.endswith(prefix):
        base += prefix
    anchor = "" if incident_id is None else f"#incident-{quote(incident_id)}"
    if failure_id is not None:
        anchor = f"#failure-{quote(failure_id)}"
    return f"{base}/{page}{anchor}"
