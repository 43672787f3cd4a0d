"""What of the repository outside ``docs/`` becomes part of the site, and where it is.

Markdown in, Markdown out: no Sphinx.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

#: A line that is only this link is replaced by what it leads to.
TAKEN_IN = re.compile(r"^- \[[^\]]*\]\((?P<target>[^)\s]+\.md(?:#[\w-]+)?)\)$", re.M)

#: A link or picture, outside of code.
LINK = re.compile(r"(\]\()([^)\s]+)(\))")

#: A fenced block, or code in a line.
CODE = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[ ]*$|`[^`\n]+`", re.M | re.S)

HEADING = re.compile(r"^(#+) (.+)$")


def slug(title: str) -> str:
    """Return a heading's anchor, as Git hosting makes it."""
    return re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-")


def headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Give the index of each heading's line, its level and its title."""
    fenced = False
    for index, line in enumerate(text.splitlines()):
        if line.startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and (match := HEADING.match(line)):
            yield index, len(match[1]), match[2]


def section(text: str, anchor: str) -> tuple[str, int]:
    """Return what stands below a heading, and that heading's level.

    Without an anchor: below the first.

    Raises
    ------
    LookupError
        There is no such heading.
    """
    found = list(headings(text))
    for place, (index, level, title) in enumerate(found):
        if not anchor or slug(title) == anchor:
            later = (i for i, other, _ in found[place + 1 :] if other <= level)
            lines = text.splitlines()
            return "\n".join(lines[index + 1 : next(later, len(lines))]), level
    raise LookupError(f"there is no heading #{anchor}")


def raised(text: str, by: int) -> str:
    """Return a text with its headings so many levels higher."""
    lines = text.splitlines()
    for index, level, title in headings(text):
        lines[index] = "#" * max(2, level - by) + " " + title
    return "\n".join(lines)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return a text of which `change` has changed all but code."""
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


class Repository:
    """The files of the repository, and which page of the site has what of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        #: Where files are that are no page.
        self.address = str(project["urls"]["Homepage"])
        #: File and anchor → page of the site, as a link from its root.
        self._homes = dict(self._taken_in())

    def expanded(self, name: str, text: str) -> str:
        """Return a page with what it takes in, and with links that lead somewhere.

        Parameters
        ----------
        name
            Of the page below ``docs/``, without its ending.
        text
            Its Markdown.
        """
        page = f"docs/{name}.md"
        text = outside_code(text, lambda part: self._relinked(part, page))
        return TAKEN_IN.sub(lambda match: self._section(match, page), text)

    def _taken_in(self) -> Iterator[tuple[str, str]]:
        for page in sorted((self._root / "docs").rglob("*.md")):
            name = page.relative_to(self._root / "docs").as_posix()
            if name.startswith("_build/"):
                continue
            for match in TAKEN_IN.finditer(page.read_text()):
                file, anchor = self._path(match["target"], f"docs/{name}")
                if file.startswith("docs/"):
                    continue
                yield f"{file}#{anchor}", f"/{name}"
                below, _ = section((self._root / file).read_text(), anchor)
                for _, _, title in headings(below):
                    yield f"{file}#{slug(title)}", f"/{name}#{slug(title)}"

    def _path(self, target: str, page: str) -> tuple[str, str]:
        """Return the file that a link leads to, from the root, and the anchor."""
        path, _, anchor = target.partition("#")
        folder = posixpath.dirname(page)
        return posixpath.normpath(
            posixpath.join(folder, path)
        ) if path else page, anchor

    def _relinked(self, text: str, page: str) -> str:
        """Return a file's text with links as the site has them."""

        def link(match: re.Match[str]) -> str:
            line_start = text.rfind("\n", 0, match.start()) + 1
            if self._is_taken_in(text, line_start, page):
                return match[0]
            return match[1] + self._link(match[2], page) + match[3]

        return LINK.sub(link, text)

    def _is_taken_in(self, text: str, start: int, page: str) -> bool:
        """Tell whether a line stands for a file outside ``docs/``."""
        match = TAKEN_IN.match(text, start)
        if match is None or "://" in match["target"] or match["target"][0] == "/":
            return False
        return not self._path(match["target"], page)[0].startswith("docs/")

    def _link(self, target: str, page: str) -> str:
        if "://" in target or target.startswith(("mailto:", "/")):
            return target
        file, anchor = self._path(target, page)
        known = self._homes.get(f"{file}#{anchor}")
        if known is not None:
            return known
        inside = file.removeprefix("docs/")
        if inside != file and file.endswith((".md", ".png", ".webp")):
            return f"/{inside}" + (f"#{anchor}" if anchor else "")
        kind = "tree" if (self._root / file).is_dir() else "blob"
        return f"{self.address}/{kind}/main/{file}" + (f"#{anchor}" if anchor else "")

    def _section(self, match: re.Match[str], page: str) -> str:
        """Return what a line that stands for a file or its section is replaced by."""
        if not self._is_taken_in(match.string, match.start(), page):
            return match[0]
        file, anchor = self._path(match["target"], page)
        below, level = section((self._root / file).read_text(), anchor)
        return outside_code(raised(below, level - 1), lambda t: self._relinked(t, file))
