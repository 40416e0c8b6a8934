"""The tags, the visible text and the blocks of an HTML page."""

from __future__ import annotations

from html.parser import HTMLParser

BLOCKS = ("dt", "dd", "li", "p", "td", "th", "caption", "h1", "h2", "h3")


class Page(HTMLParser):
    """The tags with their attributes, and the text that a reader sees, with single blanks.

    rows: the cells of each table row.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self._blocks: list[tuple[str, str]] = []
        self._block_start = 0
        self._inside = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag in BLOCKS:
            self._block_start = len(self.text)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        if tag in BLOCKS:
            block = " ".join(self.text[self._block_start :].split())
            self._blocks.append((tag, block))
            if tag in ("td", "th"):
                self.rows[-1].append(block)
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def texts_of(self, block: str) -> list[str]:
        """Return the text of each block with this tag, such as li."""
        return [text for tag, text in self._blocks if tag == block]

    def attributes_of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def scripts(self) -> list[str]:
        """Everything on the page that could run: script elements and attributes such as onclick."""
        handlers = [name for _, attributes in self.tags for name in attributes if name.startswith("on")]
        return ["script"] * len(self.attributes_of("script")) + handlers
