"""Retrieved text as data: what could pass for a turn, an order of the template or the end of the data is taken apart.

A document is written by anybody, and a model reads it in the same stream as its orders. Marks that cannot stand in the
text around it, and the word that what is between them is data, are the delimiting of Hines et al., "Defending against
indirect prompt injection attacks with spotlighting" (2024), https://arxiv.org/abs/2403.14720. It lowers the odds of an
attack and ends none: what looks like one is reported besides, and dropped where the policy says so.

Words stay as they are: only marks, and characters that nobody sees, are changed.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

HIDDEN: Final = "hidden_characters"
"""Nobody sees them, models read them: tags, variation selectors as carriers, direction overrides, escape sequences."""
TEMPLATE: Final = "template_marker"
"""Marks of chat templates, which some servers turn into real turns."""
ROLE: Final = "role_line"
"""A line that begins as a turn does."""
FENCE: Final = "fence"
"""Our own marks."""
IMAGE: Final = "image_link"
"""A picture that a reader's browser would fetch, with what stands in its address."""

_HIDDEN: Final = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b."
    "|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
    "|[\ud800-\udfff\U000e0000-\U000e0fff]"
)
_ANGLED: Final = re.compile(r"<([|\uff5c][^<>\n]{0,64}[|\uff5c])>")
_NAMED: Final = re.compile(
    r"<(/?(?:start_of_turn|end_of_turn|s|bos|eos|pad|unk|think|tool_call|tool_response|function_calls|function_results"
    r"|system|assistant|user|human|instructions?))(\s[^<>\n]{0,80})?>",
    re.IGNORECASE,
)
_BRACKETED: Final = re.compile(r"\[(/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS))\]|<<(/?SYS)>>")
_OUR_MARKS: Final = re.compile(r"[<\uff1c\ufe64](\s*/?\s*passages?\b)", re.IGNORECASE)
_ROLE_LINE: Final = re.compile(
    r"^([ \t]*(?:#{1,6}[ \t]*|\*\*)?)(system|developer|assistant|human|user|ai)((?:\*\*)?[ \t]*:)",
    re.IGNORECASE | re.MULTILINE,
)
_IMAGE: Final = re.compile(r"!\[(?=[^\]]{0,300}\]\s?[(\[])")


@dataclass(frozen=True, slots=True)
class Defused:
    """A text that may stand between our marks.

    Attributes:
        counts: of what was taken apart, by kind; empty when nothing was.
    """

    text: str
    counts: Mapping[str, int]


def defused(text: str) -> Defused:
    """The text without what could end its fence, forge a turn or hide; running it again changes nothing."""
    counts: Counter[str] = Counter()
    text = _replaced(_HIDDEN, "", text, counts, HIDDEN)
    text = _replaced(_OUR_MARKS, "\u2039\\1", text, counts, FENCE)
    text = _replaced(_ANGLED, "\u2039\\1\u203a", text, counts, TEMPLATE)
    text = _replaced(_NAMED, lambda found: f"\u2039{found[1]}{found[2] or ''}\u203a", text, counts, TEMPLATE)
    text = _replaced(_BRACKETED, lambda found: f"({found[1] or found[2]})", text, counts, TEMPLATE)
    text = _replaced(_ROLE_LINE, "\\1\u201c\\2\u201d\\3", text, counts, ROLE)
    text = _replaced(_IMAGE, "! [", text, counts, IMAGE)
    return Defused(text, dict(counts))


def attribute(text: str, limit: int) -> str:
    """A text as a quoted attribute of a mark: one line, without quotes."""
    return " ".join(defused(text).text.replace('"', "'").split())[:limit]


def _replaced(
    pattern: re.Pattern[str],
    replacement: str | Callable[[re.Match[str]], str],
    text: str,
    counts: Counter[str],
    kind: str,
) -> str:
    text, found = pattern.subn(replacement, text)
    if found:
        counts[kind] += found
    return text
