"""Token estimates without a tokenizer, by tokenizer family: text by counted runs, attachments by the vendors' charges.

Text: `shared.analysis.text_runs` counts, and the weights that were fitted to real tokenizers multiply
(`infra/training/tokens.py`); docs/analysis.md says how near that comes. All text is counted, whatever its length.
Attachments: see the constants. What a header does not tell is assumed, rather too high than too low.
"""

import json
import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from shared.analysis.artefacts import tokens_v1 as artefact
from shared.analysis.text_runs import run_counts
from shared.domain.chat import ChatRequest, MediaPart, Modality, ToolCallPart, ToolResultPart
from shared.domain.features import AttachmentFeatures, TokenEstimate, TokenizerFamily

MESSAGE_TOKENS: Final = 4
"""What vendors add to a turn for role and borders (about three to five)."""
GEMINI_IMAGE_TOKENS: Final = 1120
"""Gemini 3 by default, whatever the size (https://ai.google.dev/gemini-api/docs/media-resolution). Gemini 2 charged 258
a tile of 768 x 768; no model of the registry does any more."""
GEMINI_PAGE_TOKENS: Final = 560
"""A PDF page for Gemini 3 by default (same page; Gemini 2: 258). The page's text is not charged besides."""
GEMINI_AUDIO_TOKENS_PER_S: Final = 32
"""https://ai.google.dev/gemini-api/docs/tokens"""
GEMINI_VIDEO_TOKENS_PER_S: Final = 300
"""At one frame a second with sound (https://ai.google.dev/gemini-api/docs/video-understanding): what Gemini 2 takes;
its page on tokens says 263. Gemini 3 takes about 100, which no header tells apart."""
CLAUDE_PIXELS_PER_TOKEN: Final = 750
CLAUDE_IMAGE_TOKENS: Final = 1600
"""Claude charges width x height / 750 and scales down what is more than 1,568 pixels wide or high, or more than about
this many tokens (https://docs.anthropic.com/en/docs/build-with-claude/vision)."""
CLAUDE_LONGEST_SIDE: Final = 1568
PAGE_TOKENS: Final = 1500
"""A PDF page for Claude and whoever else takes text and picture of it: lower end of the published 1,500 to 3,000
(https://docs.anthropic.com/en/docs/build-with-claude/pdf-support)."""
OPENAI_BASE_TOKENS: Final = 85
OPENAI_TILE_TOKENS: Final = 170
"""OpenAI: 85, and 170 a tile of 512 x 512 after scaling into 2,048 x 2,048 and the shorter side to 768; with low detail
85 alone (https://platform.openai.com/docs/guides/images-vision)."""
AUDIO_BYTES_PER_S: Final = 16_000
"""Assumption where the file does not say: 128 kbit/s."""
VIDEO_BYTES_PER_S: Final = 250_000
"""Assumption: 2 Mbit/s."""
PAGE_BYTES: Final = 50_000
"""Assumption for a document whose pages are not told."""
UNSEEN_PAGES: Final = 10
UNSEEN_S: Final = 60
"""Assumptions for media given by URI."""
UNSEEN_TEXT_TOKENS: Final = 1000

FAMILIES: Final = tuple(TokenizerFamily(name) for name in artefact.FAMILIES)
_WEIGHTS: Final = np.array([row[1:] for row in artefact.WEIGHTS])


def text_tokens(text: str, language: str = "und") -> tuple[int, ...]:
    """Estimated tokens of a text for each of `FAMILIES`, rounded up; 0 for the empty text only.

    Args:
        text: any text.
        language: ISO 639-1 code of most of it; some languages are cut finer than English in the same script.
    """
    if not text:
        return (0,) * len(FAMILIES)
    return tuple(max(1, math.ceil(tokens)) for tokens in run_counts(text, language) @ _WEIGHTS)


def estimate_tokens(text: str, language: str = "und") -> int:
    """Estimated tokens of a text for a tokenizer that is not known."""
    return text_tokens(text, language)[FAMILIES.index(TokenizerFamily.GENERIC)]


def prompt_estimates(
    request: ChatRequest, attachments: tuple[AttachmentFeatures, ...], language: str
) -> tuple[TokenEstimate, ...]:
    """Estimated tokens of everything in a request by family: system text, tools, all turns, all attachments.

    Args:
        request: the request.
        attachments: what its media are, in the order of `ChatRequest.media`.
        language: of its text.
    """
    # NUL separates without counting, so that one pass reads all texts.
    pieces = list(_pieces(request))
    text = text_tokens("\0".join(pieces), language)
    turns = len(request.messages) + len(request.tools)
    turns += sum(isinstance(p, ToolCallPart | ToolResultPart) for m in request.messages for p in m.parts)
    media = [(part, of) for part, of in zip(request.media(), attachments, strict=True) if plain_text(part) is None]
    return tuple(
        TokenEstimate(family, tokens + turns * MESSAGE_TOKENS, sum(media_tokens(p, of, family) for p, of in media))
        for family, tokens in zip(FAMILIES, text, strict=True)
    )


def _pieces(request: ChatRequest) -> Iterator[str]:
    yield request.system
    for tool in request.tools:
        yield f"{tool.name} {tool.description} {_as_json(tool.parameters)}"
    if request.response_format.schema is not None:
        yield _as_json(request.response_format.schema)
    for message in request.messages:
        for part in message.parts:
            match part:
                case MediaPart():
                    yield plain_text(part) or ""
                case ToolCallPart():
                    yield f"{part.name} {part.arguments_json}"
                case _:
                    yield part.text


def media_tokens(part: MediaPart, of: AttachmentFeatures, family: TokenizerFamily) -> int:
    """Estimated tokens of an attachment that is not text; the module's constants say by which charge."""
    match part.modality:
        case Modality.IMAGE:
            return _image_tokens(part, of, family)
        case Modality.AUDIO:
            return math.ceil(_seconds(part, of, AUDIO_BYTES_PER_S) * GEMINI_AUDIO_TOKENS_PER_S)
        case Modality.VIDEO:
            return math.ceil(_seconds(part, of, VIDEO_BYTES_PER_S) * GEMINI_VIDEO_TOKENS_PER_S)
        case Modality.DOCUMENT:
            pages = UNSEEN_PAGES if part.data is None else of.pages or max(1, math.ceil(of.size_bytes / PAGE_BYTES))
            return pages * (GEMINI_PAGE_TOKENS if family is TokenizerFamily.GEMMA else PAGE_TOKENS)
        case Modality.TEXT:
            return UNSEEN_TEXT_TOKENS


def _image_tokens(part: MediaPart, of: AttachmentFeatures, family: TokenizerFamily) -> int:
    if family is TokenizerFamily.GEMMA:
        return GEMINI_IMAGE_TOKENS
    if of.width is None or of.height is None:
        return CLAUDE_IMAGE_TOKENS
    if family is TokenizerFamily.O200K:
        return OPENAI_BASE_TOKENS if part.detail == "low" else _tiled(of.width, of.height)
    scale = min(1.0, CLAUDE_LONGEST_SIDE / max(of.width, of.height))
    return min(CLAUDE_IMAGE_TOKENS, math.ceil(of.width * of.height * scale * scale / CLAUDE_PIXELS_PER_TOKEN))


def _tiled(width: int, height: int) -> int:
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    tiles = math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
    return OPENAI_BASE_TOKENS + OPENAI_TILE_TOKENS * tiles


def _seconds(part: MediaPart, of: AttachmentFeatures, bytes_per_s: int) -> float:
    if part.data is None:
        return UNSEEN_S
    return max(1.0, of.duration_s or of.size_bytes / bytes_per_s)


def plain_text(part: MediaPart) -> str | None:
    """The text of an attachment that is declared as text (or JSON, XML), else None."""
    mime_type = part.mime_type.split(";", 1)[0].strip().lower()
    is_text = mime_type.startswith("text/") or mime_type in {"application/json", "application/xml", "application/yaml"}
    return part.data.decode("utf-8", "replace") if is_text and part.data is not None else None


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
