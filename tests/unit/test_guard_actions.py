"""What a guard did: told once, and never without end."""

from dask_memdash.guard.actions import MOST, OPENED, WAITED, Actions
from dask_memdash.model.event_parts import GuardAction


def test_what_was_done_is_taken_once_the_oldest_first():
    actions = Actions()
    actions.note(WAITED, "load-1", now=5.0, need=300, room=400, seconds=1.5)
    actions.note(OPENED, ("join-ab", 2), now=6.0, need=300, room=-100)
    assert actions.take() == (
        GuardAction(5.0, "waited", "load-1", "load", 300, 400, 1.5),
        GuardAction(6.0, "opened", "('join-ab', 2)", "join-ab", 300, -100, 0.0),
    )
    assert actions.take() == ()


def test_of_too_many_the_newest_are_told():
    actions = Actions()
    for number in range(MOST + 5):
        actions.note(WAITED, f"load-{number}", now=float(number))
    told = actions.take()
    assert (len(told), told[0].key, told[-1].key) == (
        MOST,
        "load-5",
        f"load-{MOST + 4}",
    )
