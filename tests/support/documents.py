"""README and docs taken apart: blocks of code, tables, and the text between."""

import re
from pathlib import Path
from typing import NamedTuple

from paths import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page: page.read_text() for page in PAGES}
TEXT = "\n".join(TEXTS.values())


class Block(NamedTuple):
    """What stands between two fences, and on how many lines it begins."""

    page: Path
    language: str
    code: str
    line: int


class Table(NamedTuple):
    """Cells of a Markdown table, and the title of the section it is in."""

    section: str
    header: list[str]
    rows: list[list[str]]


def blocks(language: str | None = None) -> list[Block]:
    """The blocks of code, in order."""
    return [
        Block(page, found[1], found[2], text.count("\n", 0, found.start(2)))
        for page, text in TEXTS.items()
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
        if language in (None, found[1])
    ]


def text() -> str:
    """All pages without their blocks of code."""
    return re.sub(r"^```.*?^```$", "", TEXT, flags=re.S | re.M)


def tables() -> list[Table]:
    """The tables, in order."""
    found, title = [], ""
    for part in re.split(r"\n{2,}", text()):
        if heading := re.match(r"#+ (.*)", part):
            title = heading[1]
        lines = part.strip().splitlines()
        if len(lines) > 1 and re.fullmatch(r"[|:\s-]+", lines[1]):
            header, _, *rows = map(_cells, lines)
            found.append(Table(title, header, rows))
    return found


def table(*header: str) -> list[list[str]]:
    """Rows of the one table that has this header."""
    ((_, _, rows),) = [one for one in tables() if one.header == [*header]]
    return rows


def spans(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
