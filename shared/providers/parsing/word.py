"""Word documents: mammoth makes a page of them, after what Word would not show was taken out."""

import io
import re
import zipfile
import zlib
from typing import Final
from xml.etree.ElementTree import Element, register_namespace, tostring
from xml.parsers.expat import ExpatError

import mammoth

from shared.domain.documents import DocumentUnreadable
from shared.providers.parsing import archives
from shared.providers.parsing.draft import Draft
from shared.providers.parsing.markup import read_markup
from shared.providers.parsing.xml_parts import local, parsed

_BODY: Final = "word/document.xml"
_W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_NAMESPACE: Final = re.compile(rb"xmlns:([A-Za-z]\w{0,20})=[\"']([^\"']{1,200})[\"']")
_LEAST_HALF_POINTS: Final = 3
"""Sizes are in half points: 1 is what hides text, nobody reads below this."""
_WHITE: Final = frozenset({"FFFFFF", "FEFEFE"})
_DAMAGED: Final = "The Word document is damaged. Open it in Word, save it again and send that."
_BROKEN: Final = (
    zipfile.BadZipFile, zlib.error, ExpatError, ValueError, LookupError, AttributeError, TypeError, OSError, EOFError,
    RecursionError, NotImplementedError,
)  # fmt: skip
"""What mammoth is known to raise for broken files; it has no error of its own."""


def read_docx(content: bytes, draft: Draft) -> None:
    """Read a Word document, with its text boxes, foot and end notes; review comments are left out.

    Raises:
        DocumentUnreadable: it is damaged, protected or too large.
    """
    with archives.opened(content) as archive:
        body = archives.part(archive, _BODY)
        if body is None:
            raise DocumentUnreadable(_DAMAGED)
        core = archives.part(archive, "docProps/core.xml")
        comments = archives.part(archive, "word/comments.xml")
        for name in (entry for entry in archive.namelist() if entry.startswith("word/") and entry.endswith(".xml")):
            if name != _BODY and (other := archives.part(archive, name)):
                parsed(other)  # no entities anywhere
        root = parsed(body)
        hidden = _without_hidden(root)
        if hidden:
            draft.hide(hidden)
            for prefix, uri in _NAMESPACE.findall(body[:20_000]):
                _register(prefix.decode(), uri.decode("utf-8", "replace"))
            content = archives.rewritten(archive, _BODY, tostring(root, encoding="utf-8", xml_declaration=True))
    if core:
        draft.title = next((found.text or "" for found in parsed(core) if local(found) == "title"), "")
    if comments and (count := sum(local(found) == "comment" for found in parsed(comments))):
        draft.hide(count)
        draft.warn(f"{count} review comments were left out.")
    try:
        page = mammoth.convert_to_html(
            io.BytesIO(content),
            convert_image=mammoth.images.img_element(lambda _: {"src": ""}),
            style_map="p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => h2:fresh",
        ).value
    except _BROKEN:
        raise DocumentUnreadable(_DAMAGED) from None
    read_markup(page, draft)


def _without_hidden(root: Element) -> int:
    """Take out runs that are marked hidden, tiny, or white on nothing; returns how many held text."""
    count = 0
    for parent in list(root.iter()):
        for run in [child for child in parent if child.tag == f"{_W}r"]:
            style = run.find(f"{_W}rPr")
            if style is not None and _is_hidden(style):
                count += any((text.text or "").strip() for text in run.iter(f"{_W}t"))
                parent.remove(run)
    return count


def _is_hidden(style: Element) -> bool:
    for mark in ("vanish", "specVanish", "webHidden"):
        found = style.find(f"{_W}{mark}")
        if found is not None and found.get(f"{_W}val", "true") not in {"0", "false", "off"}:
            return True
    size = style.find(f"{_W}sz")
    if size is not None and _number(size.get(f"{_W}val")) < _LEAST_HALF_POINTS:
        return True
    colour = style.find(f"{_W}color")
    is_white = colour is not None and (colour.get(f"{_W}val") or "").upper() in _WHITE
    return is_white and style.find(f"{_W}shd") is None and style.find(f"{_W}highlight") is None


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return float("inf")


def _register(prefix: str, uri: str) -> None:
    try:
        register_namespace(prefix, uri)
    except ValueError:  # ns0 and the like are the library's own
        return
