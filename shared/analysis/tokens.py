"""Token estimates without a tokenizer: a weighted count of character classes, exact in length and linear in time.

The weights were fitted by least squares to two public tokenizers (OpenAI's o200k_base and DeepSeek's) over English
tasks, source code, JSON, logs, tables and base64, and set by hand for other scripts from short samples. Against those
tokenizers the median of English and code is within 3%, nine texts in ten lie within 20%; compact JSON comes out about
20% low. Bytes are counted by class, at a few milliseconds per megabyte.
"""

import json
import math
import re
import string
from typing import Final

from shared.domain.chat import ChatRequest, MediaPart, Modality, ToolCallPart, ToolResultPart

MESSAGE_TOKENS: Final = 4
"""What vendors add to a turn for role and borders (about three to five)."""
IMAGE_TOKENS: Final = 1600
"""An image of the largest size that Claude does not scale down (width x height / 750); Gemini charges at most 1,120."""
PAGE_TOKENS: Final = 1500
"""A PDF page: lower end of Claude's published 1,500 to 3,000; Gemini charges less."""
AUDIO_TOKENS_PER_S: Final = 32
"""Gemini's published rate."""
VIDEO_TOKENS_PER_S: Final = 300
"""Gemini's published rate at one frame a second with sound, default resolution."""
AUDIO_BYTES_PER_S: Final = 16_000
"""Assumption where the file does not say: 128 kbit/s."""
VIDEO_BYTES_PER_S: Final = 250_000
"""Assumption: 2 Mbit/s."""
UNSEEN_TOKENS: Final = {
    Modality.IMAGE: IMAGE_TOKENS,
    Modality.DOCUMENT: 10 * PAGE_TOKENS,
    Modality.AUDIO: 60 * AUDIO_TOKENS_PER_S,
    Modality.VIDEO: 60 * VIDEO_TOKENS_PER_S,
    Modality.TEXT: 1000,
}
"""Assumption for media given by URI, whose size is not known: ten pages, one minute."""

_LETTERS_PER_BREAK: Final = 7
"""Letters beyond seven per space, line or sign belong to base64, hexadecimal and compounds, which split finely."""
_LOWER: Final = string.ascii_lowercase.encode()
_UPPER: Final = string.ascii_uppercase.encode()
_DIGITS: Final = string.digits.encode()
_ASCII: Final = bytes(range(128))
_LEAD_BYTE_WEIGHTS: Final = (
    (bytes(range(0xC2, 0xCE)), 0.4),  # accented Latin
    (bytes(range(0xCE, 0xD0)), 0.35),  # Greek
    (bytes(range(0xD0, 0xD4)), 0.16),  # Cyrillic
    (bytes(range(0xD4, 0xE0)), 0.25),  # Armenian, Hebrew, Arabic
    (bytes((0xE0, 0xE1)), 0.37),  # scripts of India and South-East Asia
    (bytes((0xE2,)), 0.7),  # typographic signs
    (bytes((0xE3,)), 0.7),  # kana
    (bytes(range(0xE4, 0xEA)), 0.62),  # Han
    (bytes(range(0xEA, 0xEE)), 0.45),  # Hangul
    (bytes(range(0xEE, 0xF0)), 0.7),  # full-width forms
    (bytes(range(0xF0, 0xF5)), 1.5),  # emoji and rare signs
)
"""Tokens per character by the first byte of its UTF-8 form, which tells the script closely enough."""

_PDF_PAGE: Final = re.compile(rb"/Type\s{0,4}/Page(?![a-zA-Z])")
_WAV_HEADER_BYTES: Final = 44


def estimate_tokens(text: str) -> int:
    """Estimated tokens of a text, rounded up; 0 for the empty text."""
    if not text:
        return 0
    data = text.encode("utf-8", "surrogatepass")
    lower, upper, digits = (_count(data, chars) for chars in (_LOWER, _UPPER, _DIGITS))
    newlines = data.count(b"\n")
    # Indentation and padding: a tokenizer takes a run of spaces as one.
    spaces = data.count(b" ") - round(0.85 * 2 * data.count(b"  "))
    signs = _count(data, _ASCII) - lower - upper - digits - newlines - data.count(b" ")
    unbroken = max(0, lower + upper - _LETTERS_PER_BREAK * (spaces + newlines + signs + 1))
    tokens = 0.05 * lower + 0.21 * upper + 0.85 * spaces + 0.57 * digits + 0.73 * signs + 1.2 * newlines
    tokens += 0.6 * unbroken
    if not text.isascii():
        tokens += sum(weight * _count(data, leads) for leads, weight in _LEAD_BYTE_WEIGHTS)
    return max(1, math.ceil(tokens))


def prompt_tokens(request: ChatRequest) -> int:
    """Estimated tokens of everything in a request: system text, tools, all turns, all attachments."""
    total = estimate_tokens(request.system)
    for tool in request.tools:
        total += MESSAGE_TOKENS + estimate_tokens(f"{tool.name} {tool.description} {_as_json(tool.parameters)}")
    if request.response_format.schema is not None:
        total += estimate_tokens(_as_json(request.response_format.schema))
    for message in request.messages:
        total += MESSAGE_TOKENS
        for part in message.parts:
            match part:
                case MediaPart():
                    total += media_tokens(part)
                case ToolCallPart():
                    total += MESSAGE_TOKENS + estimate_tokens(part.name) + estimate_tokens(part.arguments_json)
                case ToolResultPart():
                    total += MESSAGE_TOKENS + estimate_tokens(part.text)
                case _:
                    total += estimate_tokens(part.text)
    return total


def media_tokens(part: MediaPart) -> int:
    """Estimated tokens of an attachment; the module's constants say by which charge."""
    data = part.data
    if data is None:
        return UNSEEN_TOKENS[part.modality]
    match part.modality:
        case Modality.IMAGE:
            return IMAGE_TOKENS
        case Modality.AUDIO:
            return _timed_tokens(len(data), _audio_bytes_per_s(data), AUDIO_TOKENS_PER_S)
        case Modality.VIDEO:
            return _timed_tokens(len(data), VIDEO_BYTES_PER_S, VIDEO_TOKENS_PER_S)
        case _:
            text = plain_text(part)
            return PAGE_TOKENS * _pages(data) if text is None else estimate_tokens(text)


def plain_text(part: MediaPart) -> str | None:
    """The text of an attachment that is declared as text (or JSON, XML), else None."""
    mime_type = part.mime_type.split(";", 1)[0].strip().lower()
    is_text = mime_type.startswith("text/") or mime_type in {"application/json", "application/xml", "application/yaml"}
    return part.data.decode("utf-8", "replace") if is_text and part.data is not None else None


def _count(data: bytes, chars: bytes) -> int:
    return len(data) - len(data.translate(None, chars))


def _timed_tokens(size_bytes: int, bytes_per_s: int, tokens_per_s: int) -> int:
    return math.ceil(max(1.0, size_bytes / bytes_per_s) * tokens_per_s)


def _audio_bytes_per_s(data: bytes) -> int:
    """Byte rate of a WAV file from its header (offset 28), the assumed rate for compressed audio."""
    if len(data) < _WAV_HEADER_BYTES or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return AUDIO_BYTES_PER_S
    return int.from_bytes(data[28:32], "little") or AUDIO_BYTES_PER_S


def _pages(data: bytes) -> int:
    """Pages of a PDF: page objects where they are in the clear, else one per 50 KB."""
    return sum(1 for _ in _PDF_PAGE.finditer(data)) or max(1, math.ceil(len(data) / 50_000))


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
