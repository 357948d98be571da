"""Web pages: what a reader would see of them, in reading order. Also the second half of Word documents and books."""

import re
from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from shared.domain.documents import BlockKind
from shared.providers.parsing.draft import Draft, table_text
from shared.providers.parsing.encodings import decoded

_META_CHARSET: Final = re.compile(
    rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w-]{1,40})|<\?xml[^>]{0,100}encoding=[\"']([\w-]{1,40})", re.IGNORECASE
)
_NEVER_TEXT: Final = frozenset(
    {
        "script", "style", "noscript", "template", "head", "svg", "iframe", "object", "embed", "canvas", "nav",
        "datalist", "select", "textarea", "map", "audio", "video", "math",
    }
)  # fmt: skip
"""Programs, pictures and menus: not counted as hidden."""
_MENUS: Final = frozenset({"navigation", "menu", "menubar", "search"})
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_BLOCKS: Final = frozenset(
    {
        "p", "div", "section", "article", "main", "header", "footer", "aside", "blockquote", "address", "figure",
        "figcaption", "form", "fieldset", "details", "summary", "dl", "dt", "dd", "body", "html", "center", "hr", "td",
        "th", "tr", "tbody", "thead", "caption", "li",
    }
)  # fmt: skip
_ZERO: Final = r"\s*:\s*[-+]?0*(?:\.0+)?(?:px|pt|em|rem|%|vh|vw)?\s*(?:;|!|$)"
_HIDING: Final = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|(?<![\w-])font-size" + _ZERO
    + r"|(?<![\w-])opacity" + _ZERO
    + r"|(?<![\w-])font-size\s*:\s*0*(?:\.\d+|1)px|clip\s*:\s*rect\(\s*0|clip-path\s*:\s*inset\(\s*(?:50|100)%"
    r"|(?<![\w-])(?:left|top|right|bottom|text-indent|margin-left|margin-top)\s*:\s*-\d{4,}"
    r"|transform\s*:\s*scale\(\s*0*(?:\.0+)?\s*\)",
    re.IGNORECASE,
)  # fmt: skip
_CLIPPED: Final = re.compile(r"overflow\s*:\s*hidden", re.IGNORECASE)
_NO_ROOM: Final = re.compile(r"(?<![\w-])(?:max-)?(?:height|width)" + _ZERO, re.IGNORECASE)
_COLOUR: Final = re.compile(r"(?<![\w-])color\s*:\s*([^;!]+)", re.IGNORECASE)
_BACKGROUND: Final = re.compile(r"(?<![\w-])background(?:-color|-image)?\s*:\s*([^;!]+)", re.IGNORECASE)
_WHITE: Final = re.compile(
    r"\s*(?:white|#fff|#ffffff|#fefefe|rgba?\(\s*25[345]\s*,\s*25[345]\s*,\s*25[345]\s*(?:,[^)]*)?\))\s*", re.IGNORECASE
)
_NO_COLOUR: Final = re.compile(r"\s*(?:transparent|none|inherit|initial|unset)\s*", re.IGNORECASE)
_RULE: Final = re.compile(r"([^{}@]{1,300})\{([^{}]{0,2000})\}")
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_SPACES: Final = re.compile(r"\s+")
_MAX_RULES: Final = 300
_MAX_DEPTH: Final = 200
_MIN_ALT_CHARS: Final = 4


def read_html(content: bytes, draft: Draft) -> None:
    """Read a page's bytes.

    Raises:
        DocumentUnreadable: it is no text, or too long.
    """
    found = _META_CHARSET.search(content[:4096])
    declared = next((group.decode() for group in found.groups() if group), None) if found else None
    text, warning = decoded(content, declared)
    if warning:
        draft.warn(warning)
    read_markup(text, draft)


def read_markup(text: str, draft: Draft, *, page: int | None = None) -> None:
    """Read a page's text.

    Raises:
        DocumentUnreadable: it is too long.
    """
    # The parser stops at NUL.
    tree = LexborHTMLParser(text.replace("\0", ""))
    title = tree.css_first("head > title") or tree.css_first("title")
    if title is not None and not draft.title:
        draft.title = title.text(deep=True)
    hidden = _hidden_by_rules(tree)
    root = tree.body or tree.root
    if root is not None:
        _Walk(draft, hidden, page).read(root)


def _hidden_by_rules(tree: LexborHTMLParser) -> frozenset[int]:
    """Nodes that the page's own style sheets hide."""
    found: set[int] = set()
    sheets = _COMMENT.sub("", "\n".join(node.text(deep=True) for node in tree.css("style")))[: 2**20]
    # White text hides on a white page only; what colours the page may have is not known from elsewhere.
    is_white_page = tree.css_first("link[rel~=stylesheet]") is None and not _paints(sheets)
    rules = [rule for rule in _RULE.findall(sheets) if _hides(rule[1]) or (is_white_page and _is_white(rule[1]))]
    for selector, _ in rules[:_MAX_RULES]:
        if ":" in selector:  # states such as :hover, and pseudo-elements
            continue
        try:
            found.update(node.mem_id for node in tree.css(selector.strip()))
        except (SelectolaxError, ValueError):
            continue
    return frozenset(found)


def _hides(style: str) -> bool:
    return bool(_HIDING.search(style) or (_CLIPPED.search(style) and _NO_ROOM.search(style)))


def _is_white(style: str) -> bool:
    """Whether it writes in white, or in no colour, and paints nothing behind that."""
    colour = _COLOUR.search(style)
    if colour is None or _paints(style):
        return False
    return bool(_WHITE.fullmatch(colour[1]) or re.fullmatch(r"\s*transparent\s*", colour[1], re.IGNORECASE))


def _paints(style: str) -> bool:
    """Whether some background is neither white nor nothing."""
    return any(not (_WHITE.fullmatch(b) or _NO_COLOUR.fullmatch(b)) for b in _BACKGROUND.findall(style))


def _is_painted(node: LexborNode) -> bool:
    """Whether the node or something around it has a background, as far as its own attributes tell."""
    here: LexborNode | None = node
    for _ in range(_MAX_DEPTH):
        if here is None:
            return False
        attributes = here.attributes or {}
        if attributes.get("bgcolor") or attributes.get("background") or _paints(attributes.get("style") or ""):
            return True
        here = here.parent
    return True


class _Walk:
    """Visits a page's nodes in order and puts what it finds together to blocks."""

    def __init__(self, draft: Draft, hidden: frozenset[int], page: int | None) -> None:
        self._draft = draft
        self._hidden = hidden
        self._page = page
        self._line: list[str] = []

    def read(self, root: LexborNode) -> None:
        """Read all below a node."""
        self._children(root, 0)
        self._flush()

    def _children(self, node: LexborNode, depth: int) -> None:
        for child in node.iter(include_text=True):
            self._visit(child, depth + 1)

    def _visit(self, node: LexborNode, depth: int) -> None:
        tag = node.tag or ""
        if tag == "-text":
            self._line.append(_SPACES.sub(" ", node.text_content or ""))
        elif tag in _NEVER_TEXT or node.attributes.get("role") in _MENUS:
            return
        elif tag == "-comment" or self._is_hidden(node):
            self._draft.hide()
        elif tag == "br":
            self._line.append("\n")
        elif tag == "img":
            self._picture(node)
        elif depth > _MAX_DEPTH:
            self._line.append(self._inline(node))
        else:
            self._element(tag, node, depth)

    def _element(self, tag: str, node: LexborNode, depth: int) -> None:
        if tag in _HEADINGS:
            self._block(BlockKind.HEADING, self._inline(node), _HEADINGS[tag])
        elif tag == "pre":
            self._block(BlockKind.CODE, self._inline(node, keep=True))
        elif tag in {"ul", "ol"}:
            self._block(BlockKind.LIST, "\n".join(self._items(node, tag == "ol", 0)))
        elif tag == "table":
            self._table(node, depth)
        elif tag in _BLOCKS:
            self._flush()
            self._children(node, depth)
            self._flush()
        else:
            self._children(node, depth)

    def _table(self, node: LexborNode, depth: int) -> None:
        # The node itself is the first of them.
        if len(node.css("table")) > 1 or (rows := self._cells(node)) is None:
            self._flush()
            self._children(node, depth)
            self._flush()
            return
        caption = node.css_first("caption")
        if caption is not None:
            self._block(BlockKind.PARAGRAPH, self._inline(caption))
        self._block(BlockKind.TABLE, table_text(rows))

    def _cells(self, table: LexborNode) -> list[list[str]] | None:
        """What stands in a table; None when it has one column, so that it only lays out a page."""
        found = [[cell for cell in row.iter() if cell.tag in {"td", "th"}] for row in table.css("tr")]
        if max(map(len, found), default=0) < 2:  # noqa: PLR2004 - columns
            return None
        return [[self._inline(cell) for cell in row.iter() if self._is_cell(cell)] for row in self._rows(table)]

    def _is_cell(self, node: LexborNode) -> bool:
        if node.tag not in {"td", "th"}:
            return False
        if self._is_hidden(node):
            self._draft.hide()
            return False
        return True

    def _rows(self, table: LexborNode) -> Iterator[LexborNode]:
        for row in table.css("tr"):
            if self._is_hidden(row):
                self._draft.hide()
            else:
                yield row

    def _items(self, node: LexborNode, numbered: bool, depth: int) -> Iterator[str]:
        number = 0
        for item in node.iter():
            if item.tag != "li":
                continue
            if self._is_hidden(item):
                self._draft.hide()
                continue
            number += 1
            inner = [child for child in item.iter() if child.tag in {"ul", "ol"}]
            text = " ".join(self._inline(item, skip=frozenset(child.mem_id for child in inner)).split())
            if text:
                yield f"{'  ' * min(depth, 8)}{f'{number}.' if numbered else '-'} {text}"
            if depth < _MAX_DEPTH:
                for child in inner:
                    yield from self._items(child, child.tag == "ol", depth + 1)

    def _inline(self, node: LexborNode, *, keep: bool = False, skip: frozenset[int] = frozenset()) -> str:
        """All visible text below a node."""
        parts: list[str] = []
        waiting = list(node.iter(include_text=True))[::-1]
        while waiting:
            child = waiting.pop()
            tag = child.tag or ""
            if tag == "-text":
                text = child.text_content or ""
                parts.append(text if keep else _SPACES.sub(" ", text))
            elif tag in _NEVER_TEXT or child.mem_id in skip:
                continue
            elif tag == "-comment" or self._is_hidden(child):
                self._draft.hide()
            elif tag == "br":
                parts.append("\n")
            elif tag == "img":
                self._picture(child)
            else:
                if tag in _BLOCKS and parts:
                    parts.append("\n")
                waiting.extend(list(child.iter(include_text=True))[::-1])
        whole = "".join(parts)
        return whole if keep else _folded(whole)

    def _picture(self, node: LexborNode) -> None:
        alt = " ".join((node.attributes.get("alt") or "").split())
        if len(alt) >= _MIN_ALT_CHARS and not self._is_hidden(node):
            self._line.append(f" [{alt}] ")

    def _is_hidden(self, node: LexborNode) -> bool:
        attributes = node.attributes
        if not attributes:
            return node.mem_id in self._hidden
        if "hidden" in attributes or node.mem_id in self._hidden:
            return True
        if node.tag == "input":
            return True
        style = attributes.get("style") or ""
        if _hides(style) or (_is_white(style) and not _is_painted(node)):
            return True
        if node.tag != "font":
            return False
        is_white = _WHITE.fullmatch(attributes.get("color") or "") is not None
        return attributes.get("size") == "0" or (is_white and not _is_painted(node))

    def _block(self, kind: BlockKind, text: str, level: int = 0) -> None:
        self._flush()
        self._draft.add(kind, text, page=self._page, level=level)

    def _flush(self) -> None:
        text = _folded("".join(self._line))
        self._line = []
        self._draft.add(BlockKind.PARAGRAPH, text, page=self._page)


def _folded(text: str) -> str:
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))
