"""Links of a folder of HTML pages: does each lead to a file, and to an anchor that is there?"""

from dataclasses import dataclass
from html.parser import HTMLParser
from os.path import normpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Found", "check"]

_LOADED = {"script": "src", "img": "src", "link": "href", "source": "src", "iframe": "src"}
"""What a browser asks for by itself: none of it may be elsewhere."""


@dataclass(frozen=True)
class Found:
    """What was looked at.

    Attributes:
        pages: that were read.
        links: within the folder.
        broken: page and link, in words.
    """

    pages: int
    links: int
    broken: list[str]


class _Page(HTMLParser):
    """Anchors and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in _LOADED and given.get("rel") not in ("canonical", "search", "author"):
            self.loaded.append(given.get(_LOADED[tag], ""))


def check(folder: Path) -> Found:
    """Look for every link of every page.

    Args:
        folder: of the pages.
    """
    files = sorted(f for f in folder.rglob("*.html") if not {"_static", "_downloads"} & {*f.parts})
    pages = {file: _Page(file.read_text(encoding="utf-8")) for file in files}
    broken, count = [], 0
    for file, page in pages.items():
        for link in page.loaded:
            if urlsplit(link).scheme in ("http", "https") or link.startswith("//"):
                broken.append(f"{file.relative_to(folder)} loads {link}, which is not in the site")
        for link in dict.fromkeys([*page.links, *page.loaded]):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            aim = Path(normpath(file.parent / unquote(parts.path))) if parts.path else file
            known = pages[aim].anchors if aim in pages else None
            lost = known is not None and parts.fragment and unquote(parts.fragment) not in known
            if not aim.is_file() or lost:
                broken.append(f"{file.relative_to(folder)} → {link}")
    return Found(len(files), count, broken)
