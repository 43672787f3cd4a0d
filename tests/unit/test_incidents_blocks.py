"""What an incident, its diagnosis and its JSON say of a task's largest block."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import MiB, executing
from cases import case, parts, suspect

from dask_memdash.analysis.incidents.blocks import in_one_block, worth_telling
from dask_memdash.analysis.incidents.diagnose import diagnose
from dask_memdash.model.event_parts import Executing, LargestBlock
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.incidents import rank_suspects
from dask_memdash.store.block_shapes import block_shape

BLOCK = LargestBlock(240 * MiB, "app/model.py", 42, "regrid", "np.concatenate")
LINE = "app/model.py:42 in np.concatenate"
TOLD = f"240 MiB of it in one block, allocated at {LINE}"


@pytest.mark.parametrize(
    ("held", "limit", "block", "told"),
    [
        (300, 1000, BLOCK, TOLD),
        (300, None, BLOCK, TOLD),
        (300, 2401, BLOCK, ""),  # less than a tenth of the limit
        (300, 1000, None, ""),
        (
            100,
            1000,
            BLOCK,
            f"its largest block of 240 MiB allocated at {LINE}",
        ),
        (
            300,
            1000,
            replace(BLOCK, file="", line=None, function="", called=""),
            "240 MiB of it in one block, allocated in a thread outside Python",
        ),
        (
            300,
            1000,
            replace(BLOCK, called=""),
            "240 MiB of it in one block, allocated at app/model.py:42 in regrid",
        ),
    ],
)
def test_a_block_is_told_where_it_says_something(held, limit, block, told) -> None:
    task = replace(suspect("hog-1", held), block=block)
    assert in_one_block(task, limit and limit * MiB) == told
    assert (worth_telling(task, limit and limit * MiB) is None) == (told == "")


def test_the_diagnosis_of_one_task_names_the_line() -> None:
    task = replace(suspect("hog-1", 850), block=replace(BLOCK, size=700 * MiB))
    found = diagnose(case(breakdown=parts(executing=850), suspects=(task,)))
    assert found.cause == "task-too-large"
    assert f"700 MiB of it was one block, allocated at {LINE}." in found.text


def test_the_diagnosis_of_many_names_the_line_of_the_largest() -> None:
    tasks = [replace(suspect(f"hog-{n}", 200 + n), block=BLOCK) for n in range(4)]
    tasks[3] = replace(tasks[3], block=replace(BLOCK, size=203 * MiB, line=43))
    found = diagnose(case(breakdown=parts(executing=810), suspects=tuple(tasks)))
    assert found.cause == "too-many-at-once"
    assert (
        "Of the largest, 203 MiB was one block, allocated at app/model.py:43 in "
        "np.concatenate." in found.text
    )


def test_a_block_beyond_what_the_task_held_is_not_said_to_be_part_of_it() -> None:
    task = replace(suspect("hog-1", 850), block=replace(BLOCK, size=900 * MiB))
    found = diagnose(case(breakdown=parts(executing=850), suspects=(task,)))
    assert f"Its largest block, 900 MiB, was allocated at {LINE}." in found.text
    tasks = tuple(replace(suspect(f"hog-{n}", 200), block=BLOCK) for n in range(4))
    found = diagnose(case(breakdown=parts(executing=800), suspects=tasks))
    assert f"The largest block of the largest, 240 MiB, was allocated at {LINE}." in (
        found.text
    )


def test_a_block_travels_with_its_task_and_may_be_missing() -> None:
    sent = executing("hog-1", 300 * MiB, block=BLOCK)
    assert from_dict(Executing, to_dict(sent)) == sent
    older = to_dict(sent)
    del older["block"]
    assert from_dict(Executing, older).block is None


@pytest.mark.parametrize("size", [0, -1, 2**60])
def test_a_block_that_no_process_can_have_is_left_out(size) -> None:
    sent = executing("hog-1", 300 * MiB, block=replace(BLOCK, size=size))
    (known,) = rank_suspects((sent,), {}, 2**30, GraphIndex(), rss=2**30)
    assert (known.bytes, known.block) == (300 * MiB, None)


def test_the_json_tells_what_is_known_and_null_for_what_is_not() -> None:
    assert block_shape(None) is None
    assert block_shape(BLOCK) == {
        "bytes": 240 * MiB,
        "file": "app/model.py",
        "line": 42,
        "function": "regrid",
        "called": "np.concatenate",
        "text": LINE,
    }
    outside = LargestBlock(240 * MiB, "", None, "", "")
    assert block_shape(outside) == {
        "bytes": 240 * MiB,
        "file": None,
        "line": None,
        "function": None,
        "called": None,
        "text": "in a thread outside Python",
    }
