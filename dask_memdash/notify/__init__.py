"""Alerts: one message when a computation fails for memory, and one when that is over.

``targets`` says where to, ``message`` what, ``alerts`` decides what is sent and what is
too much, ``sender`` sends in a thread of its own, ``transport`` over HTTP and to a
command.  Nothing of this is loaded where no target is configured.
"""
