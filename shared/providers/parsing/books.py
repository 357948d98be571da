"""OpenDocument texts (ISO/IEC 26300) and EPUB books (https://www.w3.org/TR/epub-33/)."""

import posixpath
import zipfile
from typing import Final
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from shared.domain.documents import BlockKind, DocumentUnreadable
from shared.providers.parsing import archives
from shared.providers.parsing.draft import Draft, table_text
from shared.providers.parsing.encodings import decoded
from shared.providers.parsing.markup import read_markup
from shared.providers.parsing.xml_parts import local, parsed

MAX_CHAPTERS: Final = 5000
_TEXT: Final = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_STYLE: Final = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"
_FO: Final = "{urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0}"
_SKIPPED: Final = frozenset({"tracked-changes", "annotation", "annotation-end", "sequence-decls", "forms"})
_DAMAGED: Final = "The book is damaged: it lists no chapters. Export it again and send that."
_PAGES: Final = frozenset({"application/xhtml+xml", "text/html"})


def read_odt(content: bytes, draft: Draft) -> None:
    """Read an OpenDocument text; hidden text and comments are left out.

    Raises:
        DocumentUnreadable: it is damaged, protected or too large.
    """
    with archives.opened(content) as archive:
        if b"encryption-data" in (archives.part(archive, "META-INF/manifest.xml") or b""):
            raise DocumentUnreadable("It is protected with a password. Send it without one.")
        root = parsed(archives.part(archive, "content.xml") or b"")
        meta = archives.part(archive, "meta.xml")
    if meta:
        draft.title = next((found.text or "" for found in parsed(meta).iter() if local(found) == "title"), "")
    body = next((found for found in root.iter() if local(found) == "text" and len(found)), root)
    _OdtWalk(draft, _hidden_styles(root)).read(body)


def _hidden_styles(root: Element) -> frozenset[str]:
    found = set()
    for style in root.iter(f"{_STYLE}style"):
        for properties in style.iter(f"{_STYLE}text-properties"):
            is_white = (properties.get(f"{_FO}color") or "").lower() == "#ffffff"
            is_bare = properties.get(f"{_FO}background-color") in {None, "transparent", "#ffffff"}
            if properties.get(f"{_TEXT}display") == "none" or (is_white and is_bare):
                found.add(style.get(f"{_STYLE}name") or "")
    return frozenset(found)


class _OdtWalk:
    """Visits what an OpenDocument text is made of."""

    def __init__(self, draft: Draft, hidden: frozenset[str]) -> None:
        self._draft = draft
        self._hidden = hidden

    def read(self, body: Element) -> None:
        """All blocks below an element."""
        for child in body:
            name = local(child)
            if name in _SKIPPED or child.get(f"{_TEXT}style-name") in self._hidden:
                self._draft.hide(name == "annotation" or name not in _SKIPPED)
            elif name == "h":
                level = child.get(f"{_TEXT}outline-level", "1")
                self._draft.add(BlockKind.HEADING, self._text(child), level=int(level) if level.isdecimal() else 1)
            elif name == "p":
                self._draft.add(BlockKind.PARAGRAPH, self._text(child))
            elif name == "list":
                items = [self._text(item) for item in child if local(item) in {"list-item", "list-header"}]
                self._draft.add(BlockKind.LIST, "\n".join(f"- {item.strip()}" for item in items if item.strip()))
            elif name == "table":
                rows = [row for row in child.iter() if local(row) == "table-row"]
                cells = [[self._text(cell) for cell in row if local(cell) == "table-cell"] for row in rows]
                self._draft.add(BlockKind.TABLE, table_text(cells))
            else:
                self.read(child)

    def _text(self, element: Element) -> str:
        parts = [element.text or ""]
        for child in element:
            name = local(child)
            if name in _SKIPPED or child.get(f"{_TEXT}style-name") in self._hidden:
                self._draft.hide()
            elif name == "s":
                parts.append(" ")
            elif name in {"tab", "line-break"}:
                parts.append("\n" if name == "line-break" else "\t")
            else:
                parts += ["\n" if name in {"p", "list-item"} and any(parts) else "", self._text(child)]
            parts.append(child.tail or "")
        return "".join(parts)


def read_epub(content: bytes, draft: Draft) -> int:
    """Read a book, chapter by chapter in the order of its spine; returns how many there are.

    Raises:
        DocumentUnreadable: it is damaged, protected or too large.
    """
    with archives.opened(content) as archive:
        if archives.part(archive, "META-INF/encryption.xml"):
            raise DocumentUnreadable("It is protected against copying. Send a book without that.")
        package, folder = _package(archive)
        draft.title = next((found.text or "" for found in package.iter() if local(found) == "title"), "")
        entries = {found.get("id"): found for found in package.iter() if local(found) == "item"}
        spine = [entries.get(found.get("idref")) for found in package.iter() if local(found) == "itemref"]
        chapters = [found for found in spine if found is not None and found.get("media-type") in _PAGES]
        for number, chapter in enumerate(chapters[:MAX_CHAPTERS], 1):
            path = posixpath.normpath(posixpath.join(folder, unquote(chapter.get("href") or "")))
            text, _ = decoded(archives.part(archive, path) or b"")
            read_markup(text, draft, page=number)
    if not chapters:
        raise DocumentUnreadable(_DAMAGED)
    return len(chapters)


def _package(archive: zipfile.ZipFile) -> tuple[Element, str]:
    container = parsed(archives.part(archive, "META-INF/container.xml") or b"")
    path = next((found.get("full-path") for found in container.iter() if local(found) == "rootfile"), None)
    content = archives.part(archive, path) if path else None
    if path is None or content is None:
        raise DocumentUnreadable(_DAMAGED)
    return parsed(content), posixpath.dirname(path)
