"""A document while it is read: blocks are cleaned, counted and kept within bounds as they come."""

import re
from typing import Final

from shared.domain.documents import Block, BlockKind, DocumentUnreadable, ParsedDocument

MAX_CHARS: Final = 5_000_000
"""Of a document's text, about 2,500 pages."""
MAX_BLOCKS: Final = 200_000
_MAX_TITLE_CHARS: Final = 300
_MAX_WARNINGS: Final = 20

_UNSEEN: Final = re.compile(r"[\U000e0000-\U000e007f\u2061-\u2064\u206a-\u206f\U000e0100-\U000e01ef]+")
"""Characters that no font draws and that can spell instructions (Unicode tags, variation selectors' supplement)."""
_CONTROLS: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ufffe\uffff\u00ad\u202a-\u202e\u2066-\u2069"
    r"\ud800-\udfff]"
)
"""What text does not need: controls, zero-width spaces, soft hyphens, overrides of direction, halves of characters."""
_LINE_ENDS: Final = re.compile(r"\r\n?|\x85|\u2028|\u2029")
_BLANK_LINES: Final = re.compile(r"\n{3,}")


class Draft:
    """Collects what a reader finds."""

    def __init__(self) -> None:
        self.title = ""
        self.hidden = 0
        self._warnings: list[str] = []
        self._blocks: list[Block] = []
        self._chars = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not self._blocks

    def add(self, kind: BlockKind, text: str, *, page: int | None = None, level: int = 0) -> None:
        """Add a block; one without text is left out.

        Raises:
            DocumentUnreadable: the document is too long.
        """
        text = self.clean(text)
        if not text.strip():
            return
        text = text.strip("\n") if kind in {BlockKind.CODE, BlockKind.TABLE} else text.strip()
        if kind is BlockKind.HEADING:
            text = " ".join(text.split())
        self._blocks.append(Block(kind, text, self._chars, page, level if kind is BlockKind.HEADING else 0))
        self._chars += len(text) + 2
        if self._chars > MAX_CHARS or len(self._blocks) > MAX_BLOCKS:
            raise DocumentUnreadable(
                f"It is too long: more than {MAX_CHARS:,} characters or {MAX_BLOCKS:,} paragraphs. Send it in parts."
            )

    def clean(self, text: str) -> str:
        """Text as it is kept; what can hide something is counted as hidden."""
        text, unseen = _UNSEEN.subn("", text)
        self.hidden += unseen
        text = _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))
        return _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in text.split("\n")))

    def hide(self, count: int = 1) -> None:
        """Note that something was left out because no reader would see it."""
        self.hidden += count

    def warn(self, text: str) -> None:
        """Note what is missing."""
        if text not in self._warnings and len(self._warnings) < _MAX_WARNINGS:
            self._warnings.append(text)

    def finished(self, *, pages: int | None = None) -> ParsedDocument:
        """The document."""
        title = " ".join(self.clean(self.title).split())[:_MAX_TITLE_CHARS]
        return ParsedDocument(tuple(self._blocks), title, pages, self.hidden, tuple(self._warnings))


def table_text(rows: list[list[str]]) -> str:
    """Rows as lines, cells between bars; rows and columns without content are left out."""
    cells = [[" ".join(cell.replace("|", "/").split()) for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    width = max(map(len, cells), default=0)
    used = [place for place in range(width) if any(place < len(row) and row[place] for row in cells)]
    return "\n".join(f"| {' | '.join(row[place] if place < len(row) else '' for place in used)} |" for row in cells)
