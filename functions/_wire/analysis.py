"""What POST /analyze shows beside the summary that decisions carry (`functions._wire.replies.analysis_body`)."""

from collections import Counter
from typing import Any

from shared.analysis.contents import Contents, PartContent
from shared.analysis.security import level_of
from shared.domain.chat import Modality
from shared.domain.features import RequestFeatures
from shared.domain.models import Registry
from shared.domain.security import INJECTION_KINDS
from shared.services.guarding import Reading

LONG_CONTEXT_TOKENS = 100_000
"""Prompts from here on are beyond the window, or the cheap price tier, of many models."""


def probabilities_body(features: RequestFeatures) -> dict[str, float]:
    """The probability of each category, the likeliest first."""
    return {category.value: round(p, 4) for category, p in features.category_probabilities}


def attachments_body(features: RequestFeatures) -> list[dict[str, Any]]:
    """The attachments as their bytes say; null for what a header does not tell."""
    return [
        {
            "location": a.location,
            "modality": a.modality.value,
            "declared_type": a.declared_mime_type,
            "detected_type": a.detected_mime_type,
            "size_bytes": a.size_bytes,
            "mismatch": a.mismatch,
            "extension_mismatch": a.extension_mismatch,
            "pages": a.pages,
            "width": a.width,
            "height": a.height,
            "duration_s": a.duration_s,
        }
        for a in features.attachments
    ]


def guard_body(reading: Reading) -> dict[str, Any]:
    """What the policy would do with the request, and what it would do it for: kinds and counts."""
    found = [f for f in reading.findings if f.kind not in INJECTION_KINDS]
    action = "block" if reading.refusal is not None else "redact" if reading.redactions else "route"
    return {
        "action": action,
        "code": None if reading.refusal is None else reading.refusal.code,
        "found": dict(sorted(Counter(f.kind for f in found).items())),
        "redacted": reading.redactions,
        "level_before": level_of(found, None).label,
        "level_after": reading.features.security_level.label,
        "injection_score": round(reading.injection, 4),
    }


def needs_body(features: RequestFeatures) -> dict[str, bool]:
    """What a model must be able to do to serve the request."""
    return {
        "vision": Modality.IMAGE in features.modalities,
        "audio": Modality.AUDIO in features.modalities,
        "video": Modality.VIDEO in features.modalities,
        "documents": Modality.DOCUMENT in features.modalities,
        "tools": features.needs_tools,
        "json_object": features.needs_json_object,
        "json_schema": features.needs_json_schema,
        "media_by_uri": features.needs_media_uris,
        "long_context": features.prompt_tokens > LONG_CONTEXT_TOKENS,
    }


def capabilities_body(features: RequestFeatures) -> list[str]:
    """The names of the needs that the request has."""
    return [name for name, needed in needs_body(features).items() if needed]


def contents_body(contents: Contents) -> dict[str, Any]:
    """What each part is made of: places and shares, never text."""
    return {
        "shares": {kind: round(share, 4) for kind, share in contents.shares.items()},
        "parts": [_part(part) for part in contents.parts],
    }


def _part(part: PartContent) -> dict[str, Any]:
    body: dict[str, Any] = {
        "location": part.location,
        "kind": part.kind,
        "language": part.language,
        "share": round(part.share, 4),
    }
    if part.stretches:
        body["stretches"] = [
            {"start": s.start, "end": s.end, "kind": s.kind, "language": s.language} for s in part.stretches
        ]
    return body


def output_tokens_body(features: RequestFeatures) -> dict[str, int]:
    """The answer's expected length: what one answer in ten, one in two and nine in ten stay below."""
    return {
        "p10": features.output_tokens_p10,
        "p50": features.expected_output_tokens,
        "p90": features.output_tokens_p90,
    }


def publisher_tokens_body(features: RequestFeatures, registry: Registry) -> dict[str, int]:
    """Estimated prompt tokens by publisher, for the finest of its models: tokenizers differ between families."""
    tokens: dict[str, int] = {}
    for model in registry.models.values():
        count = features.prompt_tokens_at(model.chars_per_token, model.publisher)
        tokens[model.publisher] = max(count, tokens.get(model.publisher, 0))
    return dict(sorted(tokens.items()))


def family_tokens_body(features: RequestFeatures) -> dict[str, dict[str, int]]:
    """Estimated prompt tokens by tokenizer family, those of text and of attachments apart."""
    return {e.family.value: {"text": e.text, "media": e.media} for e in features.token_estimates}
