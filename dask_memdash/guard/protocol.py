"""What the guard's sides say to each other."""

from __future__ import annotations

#: Stream operation by which the scheduler tells workers what it has learnt: only those
#: that have said that they have a guard, since an unknown one ends a worker's stream.
EXPECT = "memdash-expect"

#: Stream operation by which a worker tells the scheduler that it has stopped a task,
#: just before it says that the task is to run again.
BRAKED = "memdash-braked"
