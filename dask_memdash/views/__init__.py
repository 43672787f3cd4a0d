"""The page: one module per view, each of which reads a store and nothing else.

A view takes a :class:`~dask_memdash.store.base.Store` and offers ``root`` (a Panel
object) and ``update()``, which does nothing while ``store.version`` stands.  No view
imports ``distributed`` or reads Dask's configuration, so that the same views serve a
live cluster and a recorded one.  Bokeh and Panel are imported here and nowhere else
but :mod:`dask_memdash.web`, where the page is put on the scheduler's server.
"""
