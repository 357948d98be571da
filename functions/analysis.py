"""POST /analyze, POST /classify, GET /categories: what the router reads of a request, without routing it."""

from functions._edge import Call, Reply
from functions._wire.chat import AnalyzeBody
from functions._wire.parsing import parse
from functions._wire.replies import (
    analysis_body,
    attachments_body,
    needs_body,
    probabilities_body,
)
from functions._wire.to_domain import chat_request
from shared.analysis.features import analyse
from shared.domain.features import CATEGORY_DESCRIPTIONS, RequestFeatures
from shared.domain.models import Registry
from shared.domain.security import SecurityLevel


async def analyze(call: Call) -> Reply:
    """The whole reading."""
    features = _read(call)
    body = {
        "request_id": call.request_id,
        **analysis_body(features),
        "category_probabilities": probabilities_body(features),
        "prompt_tokens_by_publisher": _tokens(features, call.container.shelf.registry),
        "attachments": attachments_body(features),
        "needs": needs_body(features),
    }
    return Reply(body)


async def classify(call: Call) -> Reply:
    """The category alone, with the probability of each."""
    features = _read(call)
    body = {
        "request_id": call.request_id,
        "category": features.category.value,
        "confidence": round(features.category_confidence, 4),
        "probabilities": probabilities_body(features),
    }
    return Reply(body)


async def categories(call: Call) -> Reply:
    """The taxonomy."""
    del call
    return Reply({"categories": [{"id": c.value, "description": text} for c, text in CATEGORY_DESCRIPTIONS.items()]})


def _read(call: Call) -> RequestFeatures:
    body = parse(call.body, AnalyzeBody)
    label = None if body.security_label is None else SecurityLevel.from_label(body.security_label)
    return analyse(chat_request(body, prompt=body.prompt, system=body.system), label=label)


def _tokens(features: RequestFeatures, registry: Registry) -> dict[str, int]:
    """Estimated prompt tokens by publisher: tokenizers differ between families."""
    densities = {model.publisher: model.chars_per_token for model in registry.models.values()}
    return {publisher: features.prompt_tokens_at(density) for publisher, density in sorted(densities.items())}
