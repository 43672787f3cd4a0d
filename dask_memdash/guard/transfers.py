"""The rule of transfers: which inputs are fetched now, and which outputs are sent.

Both take memory that no task holds.  An input is there twice for a moment, where it
comes from and where it goes; an output that was put on disk is read back to be sent.
So

- an input is fetched if it fits beside what is there and what is still to come;
- an output is sent if it is in memory already, or fits once it is read back;
- what does not fit waits while something runs that gets on, and while something else
  is being sent or received; what is stored goes to disk for it meanwhile;
- no longer than `LONGEST`, and where nothing runs, than `PATIENCE`: then one goes.

So it delays, and never forbids.  Pure functions of a :class:`Snapshot`; sizes are
integers in bytes, times are seconds.
"""

from __future__ import annotations

from dask_memdash.guard.decision import Snapshot

#: Seconds for which a transfer waits for others, and in all.
PATIENCE = 10.0
LONGEST = 60.0


def may_fetch(now: Snapshot, size: int, *, ready: bool, waited: float) -> bool:
    """Say whether an input of `size` bytes may be fetched.

    Parameters
    ----------
    ready
        Whether a task is ready: it needs no input, and comes first.
    waited
        For how long no input has been fetched although one was wanted.
    """
    if size <= now.room or waited >= LONGEST:
        return True
    if now.gets_on:
        return False
    others = ready or now.incoming or now.outgoing or now.evictable
    return not others or waited >= PATIENCE


def may_send(now: Snapshot, read_back: int, *, waited: float) -> bool:
    """Say whether outputs may be sent of which so much must be read back from disk.

    Parameters
    ----------
    waited
        For how long nothing has been sent although somebody asked.
    """
    if read_back <= now.room + now.owed or not read_back or waited >= LONGEST:
        return True
    if now.gets_on:
        return False
    others = now.incoming or now.outgoing or now.evictable
    return not others or waited >= PATIENCE
