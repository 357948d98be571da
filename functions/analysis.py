"""POST /analyze, POST /classify, GET /categories: what the router reads of a request, without routing it."""

from functions._edge import Call, Reply
from functions._wire.analysis import (
    attachments_body,
    capabilities_body,
    contents_body,
    family_tokens_body,
    needs_body,
    output_tokens_body,
    probabilities_body,
    publisher_tokens_body,
)
from functions._wire.chat import AnalyzeBody
from functions._wire.parsing import parse
from functions._wire.replies import analysis_body
from functions._wire.to_domain import chat_request
from shared.analysis.contents import contents_of
from shared.analysis.features import analyse
from shared.domain.chat import ChatRequest
from shared.domain.features import CATEGORY_DESCRIPTIONS, RequestFeatures
from shared.domain.security import SecurityLevel


async def analyze(call: Call) -> Reply:
    """The whole reading."""
    request, features = _read(call)
    body = {
        "request_id": call.request_id,
        **analysis_body(features),
        "category_probabilities": probabilities_body(features),
        "content": contents_body(contents_of(request, features.attachments)),
        "output_tokens": output_tokens_body(features),
        "prompt_tokens_by_publisher": publisher_tokens_body(features, call.container.shelf.registry),
        "prompt_tokens_by_tokenizer": family_tokens_body(features),
        "attachments": attachments_body(features),
        "required_capabilities": capabilities_body(features),
        "needs": needs_body(features),
    }
    return Reply(body)


async def classify(call: Call) -> Reply:
    """The category alone, with the probability of each."""
    _, features = _read(call)
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


def _read(call: Call) -> tuple[ChatRequest, RequestFeatures]:
    body = parse(call.body, AnalyzeBody)
    label = None if body.security_label is None else SecurityLevel.from_label(body.security_label)
    request = chat_request(body, prompt=body.prompt, system=body.system)
    return request, analyse(request, label=label)
