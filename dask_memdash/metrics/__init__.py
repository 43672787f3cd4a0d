"""What Prometheus can scrape: MemDash's figures on the pages that Dask serves them on.

``family`` is a metric without the library, ``worker`` and ``scheduler`` make them,
``largest_prefixes`` says which prefixes have series of their own, ``counters`` counts
what has happened, and ``registry`` alone meets ``prometheus_client``.
"""
