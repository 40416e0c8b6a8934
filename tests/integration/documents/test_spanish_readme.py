"""The Spanish README has the sections, code blocks, inline code, links, pictures and numbers of the English one."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[3]
ENGLISH, SPANISH = ROOT / "README.md", ROOT / "docs/es/README.md"


class Section(NamedTuple):
    """A heading with its hashes, and the contents below it that no translation changes.

    The lines of code blocks are compared in order. All other contents are compared as a set, because a translation
    may change the order of words and repeat a name.
    """

    heading: str
    blocks: list[str]
    links: list[str]
    others: list[str]

    @property
    def contents(self) -> list[str]:
        """Return blocks, links and others, except links between the two pages."""
        between = {f"link: {page.relative_to(ROOT)}" for page in (ENGLISH, SPANISH)}
        return self.blocks + sorted({*self.links, *self.others} - between)


def target(page: Path, link: str) -> str:
    """Return an address as it is, and a path in this repository relative to its root."""
    file, hash_sign, anchor = link.partition("#")
    if "://" in link or not file:
        return link
    return f"{(page.parent / file).resolve().relative_to(ROOT)}{hash_sign}{anchor}"


def sections_of(page: Path) -> list[Section]:
    """Return the sections of a page; raise ValueError if a link leads out of the repository."""
    sections: list[Section] = []
    tokens = MarkdownIt().enable("table").parse(page.read_text())
    for token, following in zip(tokens, [*tokens[1:], Token("end", "", 0)], strict=True):
        if token.type == "heading_open":
            sections.append(Section(f"{token.markup} {following.content}", [], [], []))
        elif token.type == "fence":
            sections[-1].blocks.extend(f"block: {line}" for line in (f"```{token.info}", *token.content.splitlines()))
        for part in token.children or ():
            if part.type == "link_open":
                sections[-1].links.append(f"link: {target(page, str(part.attrs['href']))}")
            elif part.type == "image":
                sections[-1].others.append(f"picture: {target(page, str(part.attrs['src']))}")
            elif part.type == "code_inline":
                sections[-1].others.append(f"code: {part.content}")
            elif part.type == "text":
                sections[-1].others.extend(f"number: {number}" for number in re.findall(r"\d+", part.content))
    return sections


def test_the_spanish_readme_has_the_headings_code_links_pictures_and_numbers_of_the_english_one() -> None:
    english, spanish = sections_of(ENGLISH), sections_of(SPANISH)

    headings = [[section.heading for section in sections] for sections in (english, spanish)]
    levels = [[heading.count("#") for heading in page] for page in headings]
    assert levels[0] == levels[1], "\n".join(["", "README.md:", *headings[0], "docs/es/README.md:", *headings[1]])

    differences = []
    for original, translated in zip(english, spanish, strict=True):
        lines = difflib.ndiff(original.contents, translated.contents)
        if changed := [line for line in lines if line.startswith(("- ", "+ "))]:
            differences += ["", f"{original.heading} | {translated.heading}", *changed]
    assert not differences, "\n".join(["- only in README.md, + only in docs/es/README.md", *differences])


def test_each_readme_begins_with_a_link_to_the_other() -> None:
    assert sections_of(ENGLISH)[0].links[:1] == ["link: docs/es/README.md"]
    assert sections_of(SPANISH)[0].links[:1] == ["link: README.md"]
