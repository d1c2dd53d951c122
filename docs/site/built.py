"""What can be wrong with the pages that were built: links to nothing, pictures without words, requests to other places."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHING = ("stylesheet", "preload", "icon", "preconnect", "modulepreload", "dns-prefetch")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "audio": "src", "video": "src", "embed": "src"}
FETCHED = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])(https?:)?//")
WITHOUT_PICTURE = ("genindex.html", "search.html", "py-modindex.html", "index.html")  # made by Sphinx


class Page(HTMLParser):
    """Links, anchors and what is loaded of one page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loads: list[str] = []
        self.pictures: list[str] = []  # their alternative texts
        self.bare: list[str] = []  # pictures without any
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one tag says."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") in FETCHING:
            self.loads.append(given.get("href", ""))
        if tag in LOADED and given.get(LOADED[tag]):
            self.loads.append(given[LOADED[tag]])
        if tag == "img":
            self.picture(given.get("alt", ""), given.get("src", "img"))
        if tag == "svg" and given.get("role") == "img":
            self.picture(given.get("aria-label", ""), "svg")

    def picture(self, words: str, name: str) -> None:
        """One picture and its alternative text."""
        (self.pictures if words.strip() else self.bare).append(words.strip() or name)


def is_outside(address: str) -> bool:
    """Whether an address leads to another host."""
    return bool(urlsplit(address).netloc) or address.startswith("//")


def broken(html: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Internal links to a file or an anchor that is not there."""
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.exists():
                yield f"{path.relative_to(html)}: link to {link}, which is not there"
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors:
                yield f"{path.relative_to(html)}: link to {link}, where there is no such place"


def faults(html: Path) -> list[str]:
    """Everything wrong with the pages under a folder, in words."""
    html = html.resolve()
    pages = {path: Page(path.read_text()) for path in sorted(html.rglob("*.html"))}
    found = list(broken(html, pages))
    for path, page in pages.items():
        name = path.relative_to(html).as_posix()
        found += [f"{name}: picture {source} has no alternative text" for source in page.bare]
        found += [f"{name}: loads {address} from elsewhere" for address in page.loads if is_outside(address)]
        if not page.pictures and name not in WITHOUT_PICTURE:
            found.append(f"{name}: no picture")
    for path in sorted([*html.rglob("*.css"), *html.rglob("*.html")]):
        found += [f"{path.relative_to(html)}: loads {m[0]}... from elsewhere" for m in FETCHED.finditer(path.read_text())]
    return found
