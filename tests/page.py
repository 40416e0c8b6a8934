"""The tags and the visible text of an HTML page."""

from __future__ import annotations

from html.parser import HTMLParser

BLOCKS = ("dt", "dd", "li", "p", "td", "th", "caption", "h1", "h2", "h3")


class Page(HTMLParser):
    """The tags with their attributes, and the text that a reader sees, with single blanks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        self.text += " " * (tag in BLOCKS)

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def attributes_of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def scripts(self) -> list[str]:
        """Everything on the page that could run: script elements and attributes such as onclick."""
        handlers = [name for _, attributes in self.tags for name in attributes if name.startswith("on")]
        return ["script"] * len(self.attributes_of("script")) + handlers
