"""What the guard's sides say to each other."""

from __future__ import annotations

#: Stream operation by which the scheduler tells workers what it has learnt: only those
#: that have said that they have a guard, since an unknown one ends a worker's stream.
EXPECT = "memdash-expect"
