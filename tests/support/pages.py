"""Pages of the documentation, taken apart: code blocks, commands, links and headings."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)(`{3,})([\w+-]*) *(.*)$")
_COMMENT = re.compile(r"^ *<!-- ([a-z]+)(?:: (.*))? -->$")
_TITLE = re.compile(r'title="([^"]+)"')
_LINK = re.compile(r"!?\[(?:[^\]\\]|\\.)*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: Where it stands.
        line: Line of its first line of content, from 1.
        language: What follows the fence; "" for nothing.
        text: The content.
        title: Name of the file it is, if it is one.
        mark: The word of the HTML comment before it: "skip", "output" or "run"; "" for none.
        reason: What the comment says after the word.
    """

    page: Path
    line: int
    language: str
    text: str
    title: str = ""
    mark: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    mark = reason = ""
    for number, line in lines:
        comment, fence = _COMMENT.match(line), _FENCE.match(line)
        if comment:
            mark, reason = comment[1], comment[2] or ""
        elif fence:
            indent, ticks, language, rest = fence.groups()
            content: list[str] = []
            for _, inside in lines:
                if inside.strip() == ticks:
                    break
                content.append(inside.removeprefix(indent))
            else:
                raise AssertionError(f"{page}:{number}: the block is not closed")
            title = _TITLE.search(rest)
            text = "\n".join(content) + "\n"
            found.append(Block(page, number + 1, language, text, title[1] if title else "", mark, reason))
        if line.strip() and not comment:
            mark = reason = ""
    return found


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"(?ms)^ *(`{3,}).*?^ *\1 *$", "", page.read_text(encoding="utf-8"))


def shell_lines(text: str) -> Iterator[list[str]]:
    """The words of each command of a block; what does not look like one is left out."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        bare = line.strip().removeprefix("$ ")
        try:
            words = shlex.split(bare, comments=True)
        except ValueError:
            continue
        if words:
            yield words


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead, inline code left out."""
    return _LINK.findall(re.sub(r"`[^`\n]*`", "code", prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown makes them."""
    found: set[str] = set()
    for line in prose(page).splitlines():
        heading = _HEADING.match(line)
        if heading:
            slug = base = slugify(heading[2])
            number = 1
            while slug in found:
                slug, number = f"{base}_{number}", number + 1
            found.add(slug)
        elif line.startswith("::: "):
            found.add(line[4:].strip())
    return found


def slugify(text: str) -> str:
    """The anchor of a heading."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "")
    plain = unicodedata.normalize("NFKD", shown).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
