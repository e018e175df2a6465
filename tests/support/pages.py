"""Pages of the documentation: their code blocks, commands, sessions and anchors."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

READMES = ("README.md", "README.zh-CN.md")
PAGES = (*READMES, "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def read(name: str) -> str:
    """Return the text of a page by its path in the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str]]:
    """Return (language, text) of each code block, in order."""
    return BLOCK.findall(page)


def prose(page: str) -> str:
    """Return a page without its code blocks and HTML comments."""
    return BLOCK.sub("", HTML_COMMENT.sub("", page))


def commands(page: str) -> list[str]:
    """Return the lines of code blocks that call gpt1, with continued lines joined."""
    lines = "\n".join(text for _, text in blocks(page)).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?(gpt1|torchrun|msrun) \S", line)]


def sessions(page: str) -> list[list[tuple[str, list[str]]]]:
    """Return the `console` blocks as [(command, lines below it)]."""
    return [session(text) for kind, text in blocks(page) if kind == "console"]


def session(text: str) -> list[tuple[str, list[str]]]:
    """Return [(command, lines below it)] of a block."""
    found: list[tuple[str, list[str]]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return found


def section(page: str, heading: str) -> str:
    """Return a section of the second level, without its heading."""
    return page.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
