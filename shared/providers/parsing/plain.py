"""Plain text and Markdown (https://spec.commonmark.org/, as far as it shapes blocks)."""

import re
from collections.abc import Iterator
from typing import Final

from shared.domain.documents import BlockKind
from shared.providers.parsing.draft import Draft, table_text
from shared.providers.parsing.encodings import decoded

_PARAGRAPHS: Final = re.compile(r"\n[ \t]*\n\s*")
_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
_ITEM: Final = re.compile(r"[ \t]{0,40}(?:[-*+]|\d{1,9}[.)])[ \t]+\S")
_ROW: Final = re.compile(r"\s{0,3}\|?.*\|")
_DIVIDER: Final = re.compile(r"\s{0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-*:?[ \t]*)*\|?[ \t]*$")
_MAX_DIVIDER_CHARS: Final = 2000
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n(.{0,5000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE: Final = re.compile(r"^title:[ \t]*[\"']?(.{1,300}?)[\"']?[ \t]*$", re.MULTILINE)
_LINK: Final = re.compile(
    r"!?\[([^\[\]]{0,500})\]\((?:[^()\s]|\([^()\s]{0,200}\)){0,2000}(?:[ \t]+\"[^\"]{0,300}\")?\)"
)


def read_text(content: bytes, draft: Draft) -> None:
    """Read plain text: paragraphs between blank lines.

    Raises:
        DocumentUnreadable: it is no text, or too long.
    """
    for paragraph in _PARAGRAPHS.split(_text(content, draft)):
        draft.add(BlockKind.PARAGRAPH, paragraph)


def read_markdown(content: bytes, draft: Draft) -> None:
    """Read Markdown.

    Raises:
        DocumentUnreadable: it is no text, or too long.
    """
    markdown(_text(content, draft), draft)


def markdown(text: str, draft: Draft, *, page: int | None = None) -> None:
    """Read Markdown's text; comments are hidden text.

    Raises:
        DocumentUnreadable: it is too long.
    """
    front = _FRONT_MATTER.match(text)
    if front is not None:
        title = _FRONT_TITLE.search(front[1])
        draft.title = draft.title or (title[1] if title else "")
        text = text[front.end() :]
    first: str | None = None
    for kind, written, level in _blocks(text.split("\n")):
        block = written
        if kind is not BlockKind.CODE:
            block, comments = _COMMENT.subn("", written)
            draft.hide(comments)
            block = _LINK.sub(r"\1", block)
        if kind is BlockKind.HEADING and level == 1 and first is None:
            first = block
        draft.add(kind, block, page=page, level=level)
    if not draft.title and first is not None:
        draft.title = first


def _text(content: bytes, draft: Draft) -> str:
    text, warning = decoded(content)
    if warning:
        draft.warn(warning)
    return draft.clean(text)


def _blocks(lines: list[str]) -> Iterator[tuple[BlockKind, str, int]]:
    """Blocks with their levels."""
    at = 0
    paragraph: list[str] = []
    while at < len(lines):
        line = lines[at]
        underline = _UNDERLINE.match(line) if paragraph else None
        if underline:
            yield BlockKind.HEADING, " ".join(paragraph), 1 if underline[1][0] == "=" else 2
            paragraph, at = [], at + 1
            continue
        block, end = _block_at(lines, at)
        if end > at or not line.strip():
            if paragraph:
                yield _kind(paragraph), "\n".join(paragraph), 0
            if block is not None:
                yield block
            paragraph, at = [], max(end, at + 1)
        else:
            paragraph.append(line)
            at += 1
    if paragraph:
        yield _kind(paragraph), "\n".join(paragraph), 0


def _block_at(lines: list[str], at: int) -> tuple[tuple[BlockKind, str, int] | None, int]:
    """The block that begins at a line by its own form, and the line after it; `at` itself where there is none."""
    line = lines[at]
    if fence := _FENCE.match(line):
        end = _fence_end(lines, at, fence[1])
        return (BlockKind.CODE, "\n".join(lines[at + 1 : end]), 0), end + 1
    if heading := _HEADING.match(line):
        return (BlockKind.HEADING, heading[2] or "", len(heading[1])), at + 1
    if line.lstrip().startswith("<!--"):
        end = next((place for place in range(at, len(lines)) if "-->" in lines[place]), len(lines) - 1)
        return (BlockKind.PARAGRAPH, "\n".join(lines[at : end + 1]), 0), end + 1
    if _starts_table(lines, at):
        end = at + 2
        while end < len(lines) and lines[end].strip() and _ROW.match(lines[end]):
            end += 1
        return (BlockKind.TABLE, table_text([_cells(row) for row in [line, *lines[at + 2 : end]]]), 0), end
    return None, at


def _kind(lines: list[str]) -> BlockKind:
    return BlockKind.LIST if _ITEM.match(lines[0]) else BlockKind.PARAGRAPH


def _fence_end(lines: list[str], at: int, fence: str) -> int:
    """Place of the closing fence; a block that is never closed ends with the document."""
    for place in range(at + 1, len(lines)):
        found = _FENCE.match(lines[place])
        if found and found[1].startswith(fence) and not found[2].strip():
            return place
    return len(lines)


def _starts_table(lines: list[str], at: int) -> bool:
    if at + 1 >= len(lines) or "|" not in lines[at] or len(lines[at + 1]) > _MAX_DIVIDER_CHARS:
        return False
    return "-" in lines[at + 1] and _DIVIDER.match(lines[at + 1]) is not None


def _cells(line: str) -> list[str]:
    return [
        cell.replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    ]
