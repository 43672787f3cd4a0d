"""MemDash on the scheduler's own HTTP server: the page, the JSON API, static files.

:mod:`~dask_memdash.web.mount` puts them there and takes them away again,
:mod:`~dask_memdash.web.api` answers in JSON, :mod:`~dask_memdash.views.assets` finds
the static files.  What the page shows is the business of :mod:`dask_memdash.views`.
"""
