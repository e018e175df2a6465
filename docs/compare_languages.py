"""Differences between pages and their Chinese versions.

Usage: python docs/compare_languages.py [PAGE.md …]

Compares headings, code blocks (without comments), numbers, names in backticks, table rows, links and HTML comments of
PAGE.md and PAGE.zh-CN.md; without arguments, of all pages of the repository that have a Chinese version. Prints what
differs; exit code 1 if something differs.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUFFIX = ".zh-CN.md"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CODE_COMMENT = re.compile(r"(^|\s+)#(?!!).*$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")
NAME = re.compile(r"`([^`\n]+)`")
UNITS = {"万": 1e4, "亿": 1e8, "million": 1e6, "M": 1e6}
NUMBER = re.compile(rf"(\d(?:[\d.,]*\d)?)(?: ?({'|'.join(UNITS)})(?![a-zA-Z]))?")


def numbers(prose: str) -> Counter[str]:
    """Return the numbers of a text in one notation: 117 million, 117 M and 1.17 亿 are the same."""
    return Counter(_plain(digits, unit) for digits, unit in NUMBER.findall(prose))


def _plain(digits: str, unit: str) -> str:
    try:
        return f"{float(digits.replace(',', '')) * UNITS.get(unit, 1):.12g}"
    except ValueError:  # a version such as 2.10.0
        return digits


def outline(prose: str) -> list[str]:
    """Return the level and number of each heading, and each table row as its number of cells."""
    lines = [line for line in prose.splitlines() if line.startswith(("#", "|"))]
    return [
        re.match(r"#+ ?[\d.]*", line)[0].strip() if line.startswith("#") else f"row of {line.count('|') - 1} cells"  # type: ignore[index]
        for line in lines
    ]


def differences(english: str, chinese: str) -> Iterator[str]:
    """Yield a line for each difference between a page and its Chinese version."""
    blocks = [[CODE_COMMENT.sub("", text) for _, text in BLOCK.findall(page)] for page in (english, chinese)]
    for number, (one, other) in enumerate(zip(*blocks, strict=False), 1):
        diff = unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=0)
        yield from (f"code block {number}: {line}" for line in diff if not line.startswith(("---", "+++", "@@")))
    if len(blocks[0]) != len(blocks[1]):
        yield f"code blocks: {len(blocks[0])} in English, {len(blocks[1])} in Chinese"
    comments = [HTML_COMMENT.findall(page) for page in (english, chinese)]
    if comments[0] != comments[1]:
        yield f"HTML comments: {len(comments[0])} in English, {len(comments[1])} in Chinese, or their text differs"
    prose = [BLOCK.sub("", HTML_COMMENT.sub("", page)) for page in (english, chinese)]
    diff = unified_diff(outline(prose[0]), outline(prose[1]), lineterm="", n=0)
    yield from (f"headings and tables: {line}" for line in diff if not line.startswith(("---", "+++", "@@")))
    links = [Counter(link.replace(SUFFIX, ".md") for link in LINK.findall(text)) for text in prose]
    plain = [LINK.sub("]", text) for text in prose]
    names = [Counter(NAME.findall(text)) for text in plain]
    counts = [numbers(NAME.sub("", text)) for text in plain]
    for what, (one, other) in (("link", links), ("name", names), ("number", counts)):
        yield from (f"{what} only in English: {item}" for item in sorted((one - other).elements()))
        yield from (f"{what} only in Chinese: {item}" for item in sorted((other - one).elements()))


def pages() -> list[Path]:
    """Return the pages of the repository that have a Chinese version."""
    chinese = [*ROOT.glob(f"*{SUFFIX}"), *(ROOT / "docs").glob(f"*{SUFFIX}")]
    return sorted(path.with_name(path.name.replace(SUFFIX, ".md")) for path in chinese)


def main(arguments: Sequence[str]) -> int:
    """Compare the pages; return the exit code."""
    found = 0
    for page in [Path(argument) for argument in arguments] or pages():
        english, chinese = page, page.with_name(page.name.replace(".md", SUFFIX))
        for line in differences(english.read_text(encoding="utf-8"), chinese.read_text(encoding="utf-8")):
            print(f"{page.name}: {line}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
