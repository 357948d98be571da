"""From an authenticated call to an order for the routing service, and from its outcome to response headers."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from functions._edge import Call
from functions._wire.chat import ChatBody, GenerationBody, RouterOptions
from functions._wire.to_domain import body_param, chat_request
from shared.domain.caching import CacheMode
from shared.domain.chat import ChatRequest
from shared.domain.embeddings import EmbeddingRequest
from shared.domain.errors import ContentRefused, InvalidRequest, RouterError, UnsupportedFeature
from shared.domain.limits import Priority
from shared.services.attempt_log import CascadeOutcome
from shared.services.ledger_entry import Order
from shared.services.reuse import Lookup
from shared.services.walk import Answer, StreamedAnswer

CACHE_HEADER = "x-router-cache"


def order_from(
    call: Call,
    body: GenerationBody,
    options: RouterOptions,
    *,
    endpoint: str,
    prompt: str | None = None,
    system: str | None = None,
) -> Order:
    """The order that a body asks for.

    Raises:
        InvalidRequest: naming the field.
    """
    return order_of(
        call,
        chat_request(body, prompt=prompt, system=system),
        options,
        endpoint=endpoint,
        model=body.model,
        stream=bool(body.stream),
        metadata=body.metadata,
    )


def order_of(
    call: Call,
    request: ChatRequest,
    options: RouterOptions,
    *,
    endpoint: str,
    model: str,
    stream: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Order:
    """The order for a request that was read already.

    Raises:
        InvalidRequest: the options do not fit, or the model is of the other kind; `param` names the field.
    """
    _require_kind(call, request, model)
    limit_s = call.container.settings.deadline_s
    tags = {**(metadata or {}), **options.tags}
    return Order(
        request=request,
        constraints=options.constraints(model),
        principal=call.caller,
        request_id=call.request_id,
        endpoint=endpoint,
        requested_model=model,
        stream=stream,
        started_s=call.started_s,
        timeout_s=min(limit_s, options.timeout_s or limit_s),
        tags=tuple(sorted(tags.items())),
        trace_id=call.span.trace_id,
        traceparent=call.span.traceparent,
        cache=_cache_mode(call, options),
        cascade=options.cascade,
        ticket=call.ticket,
        priority=Priority(options.priority),
    )


def _require_kind(call: Call, request: ChatRequest, model: str) -> None:
    """Tell a model that exists but is of the other kind from one that does not exist."""
    answers = call.container.shelf.registry
    vectors = answers.embeddings
    if model == "auto" or vectors is None:
        return
    if isinstance(request, EmbeddingRequest):
        if vectors.resolve(model) is None and answers.resolve(model) is not None:
            raise UnsupportedFeature(f"model {model} gives answers, not vectors", param="model")
    elif vectors.resolve(model) is not None:
        raise UnsupportedFeature(f"model {model} gives vectors, not answers: POST embeddings", param="model")


@contextlib.contextmanager
def named_as(field_of: Callable[[str | None], str | None]) -> Iterator[None]:
    """Errors about the domain's request leave naming the caller's fields."""
    try:
        yield
    except ContentRefused as error:
        raise error.named(lambda place: field_of(place) or place) from None
    except RouterError as error:
        error.param = field_of(error.param)
        raise


def fields_of(body: GenerationBody) -> contextlib.AbstractContextManager[None]:
    """`named_as` for the body of chat completions and /route."""

    def field_of(param: str | None) -> str | None:
        field = body_param(param, body)
        return f"router.{field}" if isinstance(body, ChatBody) and field in RouterOptions.model_fields else field

    return named_as(field_of)


def answer_headers(answer: Answer) -> dict[str, str]:
    """The router's facts about a whole answer."""
    record = answer.record
    return {
        "x-router-model": record.model_used or "",
        "x-router-deployment": record.deployment_used or "",
        "x-router-cost-usd": plain(record.cost_usd),
        "x-router-overhead-ms": f"{record.overhead_ms:.3f}",
        "x-router-attempts": str(len(record.attempts)),
        "x-router-fallbacks": str(answer.fallbacks),
        **cascade_headers(answer.cascade),
        **cache_headers(answer.lookup),
    }


def stream_headers(answer: StreamedAnswer) -> dict[str, str]:
    """The router's facts that are known when a stream begins; its cost comes with the usage at the end."""
    return {
        "x-router-model": answer.served.profile.id,
        "x-router-deployment": answer.served.deployment.id,
        "x-router-overhead-ms": f"{answer.overhead_ms:.3f}",
        "x-router-attempts": str(answer.attempts),
        "x-router-fallbacks": str(answer.fallbacks),
        **cascade_headers(answer.cascade),
        **cache_headers(answer.lookup),
    }


def cascade_headers(cascade: CascadeOutcome | None) -> dict[str, str]:
    """What came of trying a cheap model first, and what that saved; below zero it cost."""
    if cascade is None:
        return {}
    reason = "" if cascade.reason is None else f"; reason={cascade.reason}"
    return {"x-router-cascade": f"{cascade.result}{reason}; saved-usd={plain(cascade.saved_usd)}"}


def cache_headers(lookup: Lookup) -> dict[str, str]:
    """How the look-up in the answer cache ended; on hits also the answer's age (RFC 9111, section 5.1)."""
    headers = {CACHE_HEADER: lookup.outcome.value}
    if lookup.reason is not None:
        headers["x-router-cache-reason"] = lookup.reason.value
    if lookup.answer is not None:
        headers["age"] = str(int(lookup.age_s))
        headers["x-router-saved-usd"] = plain(lookup.answer.cost_usd)
    if lookup.similarity is not None:
        headers["x-router-cache-similarity"] = f"{lookup.similarity:.4f}"
    return headers


def _cache_mode(call: Call, options: RouterOptions) -> CacheMode | None:
    """What the request asks of the answer cache: the body's word, or that of the header of the same name."""
    word = options.cache or call.headers.get(CACHE_HEADER)
    if word is None:
        return None
    try:
        return CacheMode(word)
    except ValueError:
        raise InvalidRequest(f"one of {', '.join(CacheMode)}", param=CACHE_HEADER) from None


def stream_served_body(answer: StreamedAnswer, request_id: str) -> dict[str, Any]:
    """The router's facts about a streamed answer, for its last event."""
    return {
        "request_id": request_id,
        "deployment": answer.served.deployment.id,
        "cost_usd": float(answer.cost_usd),
        "attempts": answer.attempts,
    }


def plain(amount_usd: Decimal) -> str:
    """A decimal without exponent or trailing zeros."""
    text = f"{amount_usd:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
