"""The guard: tasks start when they fit, so that workers live.  Opt-in.

``decision`` is the rule itself, a pure function of a snapshot; ``expectation`` is what
tasks of a prefix are expected to take; ``reading`` reads what the snapshot is made of;
``gate`` stands in for the methods of the worker's state machine that start tasks;
``stillness`` says whether what runs gets on; ``transfers`` is the rule of what is
fetched and sent, ``moves`` does it, with ``sending``, ``fetching`` and ``making_room``;
``on_worker`` and ``on_scheduler`` put these together.  Nothing of it is loaded where
``memdash.guard`` is off.
"""
