"""A page as elements with their attributes and text."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "wbr", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Elements with their attributes and the text below them; refuses tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(text)
        assert not self._open, f"not closed: {[tag for tag, _ in self._open]}"

    def handle_starttag(self, tag, attrs):
        texts: list[str] = []
        self.elements.append((tag, dict(attrs), texts))
        if tag not in VOID:
            self._open.append((tag, texts))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        for _, texts in self._open:
            texts.append(data)

    def all(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attrs, " ".join("".join(texts).split()))
            for found, attrs, texts in self.elements
            if found == tag and all(value in (attrs.get(name) or "").split() for name, value in wanted.items())
        ]
