"""Pages of causes: title and sentence from the glossary, the example from its files."""

from __future__ import annotations

import ast
from pathlib import Path

from dask_memdash.terms import CAUSES, NOT_MEMORY, STORAGE_CAUSES, Term

#: What of a program comes before what its page shows.
BEGIN = "from __future__ import annotations\n"

#: Who is named as responsible, by the kind of cause.
STORED = (
    "It is a cause of storage: the prefix whose outputs are stored is responsible. The "
    "tasks that were running are suspects, no more."
)
NO_MEMORY = "It is not about memory, so it has no relief."


def title(term: Term) -> str:
    """Return what a cause's page is called."""
    return term.label[0].upper() + term.label[1:]


def cause_page(name: str, text: str, examples: Path) -> str:
    """Return a cause's page as Sphinx reads it.

    Parameters
    ----------
    name
        The cause, as in the JSON API.
    text
        How it is told apart, and what to change: Markdown.
    examples
        The folder with its program, what `explain` said of it, and a picture.

    Raises
    ------
    KeyError
        There is no such cause.
    """
    term = CAUSES[name]
    parts = [f"# {title(term)}", f"`{name}`: {term.sentence}"]
    if name in STORAGE_CAUSES:
        parts.append(STORED)
    if name in NOT_MEMORY:
        parts.append(NO_MEMORY)
    parts += [text.strip(), "## An example", *_example(name, examples)]
    return "\n\n".join(parts) + "\n"


def program_of(name: str, examples: Path) -> Path:
    """Return the program that makes a cause; it need not exist."""
    return examples / f"{name.replace('-', '_')}.py"


def _example(name: str, examples: Path) -> list[str]:
    program = program_of(name, examples)
    told, picture = (examples / "told" / f"{name}.{end}" for end in ("txt", "png"))
    if not told.exists():
        return ["No example was run."]
    tree = ast.parse(program.read_text())
    command = f"python docs/examples/{program.name}"
    alt = f"The story of the first incident; its cause: {CAUSES[name].label}"
    parts = [
        ast.get_docstring(tree) or "",
        f"```python\n{program.read_text().partition(BEGIN)[2].strip()}\n```",
        f"`{command}` runs it on a small cluster of its own, where the first death is "
        "enough to fail, and prints what `explain` says:",
        f"```{{literalinclude}} /examples/told/{told.name}\n:language: text\n```",
    ]
    if picture.exists():
        shown = f"![{alt}](/examples/told/{picture.name})"
        parts.append(f"The story of the first death on the page:\n\n{shown}")
    if is_mended(tree):
        parts.append(
            f"`{command} --mended` runs it mended: no worker dies. A test runs both."
        )
    return parts


def is_mended(program: ast.Module) -> bool:
    """Tell whether a program's call of `main` says how it is mended."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "main"
        and len(node.args) > 1
        for node in ast.walk(program)
    )
