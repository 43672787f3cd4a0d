"""What scheduler and workers of a shared storage say to each other."""

from __future__ import annotations

#: Version of what they say.
PROTOCOL = 1

#: Name of the plugin, on scheduler and workers.
NAME = "memdash-storage"

#: Scheduler to worker: store the value of a key.
STORE = "memdash-store"

#: Worker to scheduler: it takes orders; a value is stored; it is not.
READY = "memdash-storage-ready"
STORED = "memdash-stored"
STORE_FAILED = "memdash-store-failed"

#: Worker to scheduler: what it had dropped from RAM cannot be read back.
LOST = "memdash-lost"

#: Scheduler to worker, with an answer: is this the same store?
CHECK = "memdash_storage_check"

#: Client to scheduler, with an answer: what is stored and what is pending.
STATE = "memdash_storage_state"

#: Annotation that gives what is persisted a name.
PERSIST_AS = "persist_as"
