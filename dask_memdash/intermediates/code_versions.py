"""The source of the user's own functions, by which a changed one is noticed.

Dask's keys do not change when the body of an imported function does: its token is its
name.  So every stored value is filed under its key *and* a hash of the functions of the
user's own that its task and the tasks before it call: the *edition*.

Covers: functions, classes, bound methods and partials that tasks call, and the
functions, classes and plain constants of the user's own modules that those name, to any
depth.  Comments, layout and docstrings do not count.  Does not cover: what is looked up
at run time (``getattr``, registries), data files, and installed packages: for those
there is the memory's `version`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import sysconfig
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Packages that are nobody's own code, wherever they are installed from.
NOT_THE_USERS = {"dask", "distributed", "dask_memdash", "numpy", "pandas", "xarray"}

#: Folders of installed packages and of the standard library.
_INSTALLED = ("site-packages", "dist-packages")
_STANDARD = tuple(
    path
    for name in ("stdlib", "platstdlib")
    if (path := sysconfig.get_paths().get(name)) is not None
)

#: Functions followed at most, and objects looked at within one task.
MOST_FUNCTIONS = 1000
MOST_OBJECTS = 2000

#: Letters of a function's hash, and of an edition.
DIGITS = 12

Plain = (int, float, complex, str, bytes, bool, type(None))


def edition(functions: Mapping[str, str], version: str | None) -> str:
    """Return what beside the key decides about a value, as a short hash.

    Empty for neither functions of the user's own nor a version.
    """
    if not functions and version is None:
        return ""
    text = repr((version, sorted(functions.items())))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


class CodeVersions:
    """Hashes of functions, each worked out once."""

    def __init__(self) -> None:
        self._of_roots: dict[int, tuple[Any, dict[str, str]]] = {}

    def of(self, function: Any) -> dict[str, str]:
        """Return name → hash of a function's own and of all it names; maybe none."""
        known = self._of_roots.get(id(function))
        if known is None:
            # the function is kept, so that its id stays its own
            known = self._of_roots[id(function)] = function, _follow(function)
        return known[1]


def callables_in(task: Any) -> Iterator[Any]:
    """Yield the functions that a node of a graph calls or hands on."""
    stack, looked = [task], 0
    while stack and looked < MOST_OBJECTS:
        part = stack.pop()
        looked += 1
        if isinstance(part, Plain):
            continue
        if callable(part) and not isinstance(part, type(task)):
            yield part
        elif isinstance(part, dict):
            stack.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            stack.extend(part)
        else:
            stack.extend(getattr(part, "args", None) or ())
            stack.extend((getattr(part, "kwargs", None) or {}).values())
            function = getattr(part, "func", None)
            if function is not None:
                stack.append(function)


def _follow(root: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    stack: list[Any] = [root]
    seen: set[int] = set()
    while stack and len(seen) < MOST_FUNCTIONS:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, functools.partial):
            stack.extend([part.func, *part.args, *part.keywords.values()])
        elif isinstance(part, types.MethodType):
            stack.extend([part.__func__, type(part.__self__)])
        elif isinstance(part, types.FunctionType):
            wrapped = getattr(part, "__wrapped__", None)
            if wrapped is not None:
                stack.append(wrapped)
            if is_users(part):
                found[_name(part)] = _hash(part)
                stack.extend(_named_by(part))
            stack.extend(_cells(part))
        elif isinstance(part, type):
            if is_users(part):
                found[_name(part)] = _hash(part)
                stack.extend(getattr(m, "__func__", m) for m in vars(part).values())
                stack.extend(part.__bases__)
        elif callable(part) and is_users(type(part)):
            stack.append(type(part))
    return found


def is_users(thing: Any) -> bool:
    """Return whether a function or class is the user's own, not an installed one."""
    module = getattr(thing, "__module__", None)
    if not isinstance(module, str):
        return False
    top = module.partition(".")[0]
    if top == "__main__":
        return True
    if top in NOT_THE_USERS or top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return False
    return not file.startswith(_STANDARD) and not any(
        f"/{folder}/" in file for folder in _INSTALLED
    )


def _named_by(function: types.FunctionType) -> Iterator[Any]:
    """Yield the functions and classes of the user's own that a function names."""
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType):
            for attribute in _names(function.__code__):
                member = getattr(value, attribute, None)
                if isinstance(member, types.FunctionType | type) and is_users(member):
                    yield member
        elif isinstance(value, types.FunctionType | type | functools.partial):
            yield value


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _cells(function: types.FunctionType) -> Iterable[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _hash(thing: Any) -> str:
    text = _source(thing)
    if isinstance(thing, types.FunctionType):
        constants = {
            name: value
            for name in sorted(_names(thing.__code__))
            if _is_plain(value := thing.__globals__.get(name))
        }
        text += repr(constants)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:DIGITS]


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) <= 100 and all(map(_is_plain, value))
    return value is not None and isinstance(value, Plain) and len(repr(value)) <= 1000


def _source(thing: Any) -> str:
    """Return the text of a function or class without comments, layout, docstrings."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError, ValueError):
        # a lambda within a line, a shell: what was compiled has to do
        code = getattr(thing, "__code__", None)
        return repr(_compiled(code)) if code is not None else _name(thing)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ):
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _compiled(code: types.CodeType) -> tuple[Any, ...]:
    constants = tuple(
        _compiled(part)
        if isinstance(part, types.CodeType)
        else repr(sorted(map(repr, part)))
        if isinstance(part, frozenset)
        else repr(part)
        for part in code.co_consts
    )
    return code.co_code, code.co_names, code.co_varnames, constants
