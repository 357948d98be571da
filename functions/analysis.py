"""POST /analyze, POST /classify, GET /categories: what the router reads of a request, without routing it."""

from functions._edge import Call, Reply
from functions._wire.analysis import (
    attachments_body,
    capabilities_body,
    contents_body,
    family_tokens_body,
    guard_body,
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
from shared.domain.chat import ChatRequest
from shared.domain.features import CATEGORY_DESCRIPTIONS
from shared.domain.security import SecurityLevel
from shared.services.guarding import Reading


async def analyze(call: Call) -> Reply:
    """The whole reading."""
    request, reading = await _read(call)
    features = reading.features
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
        "guard": guard_body(reading),
    }
    return Reply(body)


async def classify(call: Call) -> Reply:
    """The category alone, with the probability of each."""
    _, reading = await _read(call)
    features = reading.features
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


async def _read(call: Call) -> tuple[ChatRequest, Reading]:
    """The request, and what the guard reads of it for the caller's service; what it refuses is shown, not refused."""
    body = parse(call.body, AnalyzeBody)
    label = None if body.security_label is None else SecurityLevel.from_label(body.security_label)
    request = chat_request(body, prompt=body.prompt, system=body.system)
    guard = call.container.routing.guard
    reading = await guard.read_aside(request, call.caller.service, label)
    return reading.request, reading
