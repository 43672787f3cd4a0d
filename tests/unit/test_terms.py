"""One glossary: every term has its words once, and everything reads them there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dask_memdash
from dask_memdash import terms
from dask_memdash.model import incidents
from dask_memdash.terms import GLOSSARY
from dask_memdash.views.assets import static_dir
from dask_memdash.views.base import environment

PACKAGE = Path(dask_memdash.__file__).parent
README = PACKAGE.parent / "README.md"

#: Modules that build sentences of an incident from clauses of their own, which are no
#: labels: they say what was, not what a term means.
CLAUSES = {
    "analysis/incidents/describe.py",
    "analysis/incidents/finding.py",
}

ALL = [(table, term) for table, listed in GLOSSARY.items() for term in listed.values()]

#: Tables of the README → how their second column is written.
IN_README = {
    "part": lambda term: term.sentence,
    "method": lambda term: term.sentence,
    "kind": lambda term: term.sentence,
    "cause": lambda term: term.sentence,
}


def test_a_term_has_a_label_and_one_sentence():
    for table, term in ALL:
        assert GLOSSARY[table][term.name] is term
        assert term.label == term.label.strip() != "", (table, term)
        assert term.sentence.endswith("."), (table, term)
        assert not re.search(r"[.!?] [A-Z]", term.sentence), (table, term)
        assert term.sentence[0].isupper() or term.sentence[0].isdigit(), (table, term)
        assert len(term.sentence) <= 160, (table, term)


@pytest.mark.parametrize("table", GLOSSARY)
def test_no_two_terms_of_a_table_are_called_the_same(table):
    labels = [term.label for term in GLOSSARY[table].values()]
    assert len(set(labels)) == len(labels)


def test_colours_in_css_are_the_glossarys():
    css = (static_dir() / "memdash.css").read_text(encoding="utf-8").split("@")[0]
    colours = dict(re.findall(r"--md-([\w-]+): (#\w{6});", css))
    for part in terms.PARTS.values():
        assert colours[part.name] == part.colour
        assert part.family in {"storage", "execution", "overhead"}
    assert colours["managed"] == terms.BESIDE["spilled"].colour


def test_the_model_and_the_glossary_agree_on_what_a_death_is():
    # The model is pure: it may not import the glossary.
    assert incidents.DEATHS == terms.DEATHS
    assert set(terms.KINDS) >= terms.DEATHS
    assert set(terms.CAUSES) >= terms.NOT_MEMORY | terms.STORAGE_CAUSES


def test_an_identifier_that_is_not_listed_is_its_own_label():
    assert terms.label(terms.KINDS, "oom-killed").startswith("killed by the kernel")
    assert terms.label(terms.KINDS, "of-tomorrow") == "of-tomorrow"


# --- no second definition ------------------------------------------------------------


def sentences() -> set[str]:
    return {term.sentence.rstrip(".").casefold() for _, term in pairs()}


def pairs() -> Iterator[tuple[str, terms.Term]]:
    for table, listed in GLOSSARY.items():
        for term in listed.values():
            yield table, term


def repeated(text: str) -> list[str]:
    folded = " ".join(text.casefold().split())
    return [sentence for sentence in sentences() if sentence in folded]


def second_tables(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of dict literals that give words to identifiers of a table."""
    tables = [set(listed) for listed in GLOSSARY.values()]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Dict) or len(node.keys) < 3:
            continue
        keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        worded = all(
            isinstance(value, ast.Constant)
            and isinstance(value.value, str)
            and " " in value.value
            for value in node.values
        )
        if worded and any(len(keys & table) >= 3 for table in tables):
            yield node.lineno


def modules() -> list[Path]:
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "terms.py"]
    return [p for p in paths if p.relative_to(PACKAGE).as_posix() not in CLAUSES]


def definitions(path: Path) -> list[str]:
    """Return what a module says that the glossary says already."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = path.relative_to(PACKAGE)
    found = [f"{where}:{line} is a table of terms" for line in second_tables(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [f"{where}:{node.lineno} {text}" for text in repeated(node.value)]
    return found


def test_no_module_defines_a_term_a_second_time():
    found = [line for path in modules() for line in definitions(path)]
    assert len(modules()) > 100
    assert found == []


def test_no_template_or_script_defines_a_term_a_second_time():
    loader = environment().loader
    texts = {
        name: loader.get_source(environment(), name)[0]
        for name in environment().list_templates()
    }
    for path in static_dir().glob("*.js"):
        texts[path.name] = path.read_text(encoding="utf-8")
    assert {
        name: repeated(text) for name, text in texts.items() if repeated(text)
    } == {}


def test_a_second_definition_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr("test_terms.PACKAGE", tmp_path)
    table = tmp_path / "table.py"
    table.write_text(
        'X = {"pinned": "held by us", "leak": "left over", "crash": "not memory"}\n'
    )
    sentence = tmp_path / "sentence.py"
    sentence.write_text(f"X = {terms.CAUSES['leak'].sentence!r}\n")
    assert definitions(table) == ["table.py:1 is a table of terms"]
    assert len(definitions(sentence)) == 1


# --- the README reads the glossary ---------------------------------------------------


def tables_of_the_readme() -> dict[str, list[list[str]]]:
    """Return the tables that begin with a column of terms: its head → the rows."""
    found: dict[str, list[list[str]]] = {}
    head = ""
    for line in README.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = ""
        elif cells[0] in IN_README and not head:
            head = cells[0]
            found[head] = []
        elif head and not set(line) <= set("|-"):
            found[head].append(cells)
    return found


@pytest.mark.parametrize(
    ("head", "listed"),
    [
        ("part", terms.PARTS),
        ("method", terms.METHODS),
        ("kind", terms.KINDS),
        ("cause", terms.CAUSES),
    ],
)
def test_tables_of_the_readme_say_what_the_glossary_says(head, listed):
    rows = tables_of_the_readme()[head]
    expected = [[f"`{term.name}`", term.sentence] for term in listed.values()]
    assert [row[:2] for row in rows] == expected
