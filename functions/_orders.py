"""From an authenticated call to an order for the routing service, and from its outcome to response headers."""

import contextlib
from collections.abc import Iterator
from decimal import Decimal

from functions._edge import Call
from functions._wire.chat import ChatBody, GenerationBody, RouterOptions
from functions._wire.to_domain import body_param, chat_request
from shared.domain.errors import RouterError
from shared.services.ledger_entry import Order
from shared.services.walk import Answer, StreamedAnswer


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
    limit_s = call.container.settings.deadline_s
    tags = {**(body.metadata or {}), **options.tags}
    return Order(
        request=chat_request(body, prompt=prompt, system=system),
        constraints=options.constraints(body.model),
        principal=call.caller,
        request_id=call.request_id,
        endpoint=endpoint,
        requested_model=body.model,
        stream=bool(body.stream),
        started_s=call.started_s,
        timeout_s=min(limit_s, options.timeout_s or limit_s),
        tags=tuple(sorted(tags.items())),
        trace_id=call.span.trace_id,
        traceparent=call.span.traceparent,
    )


@contextlib.contextmanager
def fields_of(body: GenerationBody) -> Iterator[None]:
    """Errors about the domain's request leave naming the body's fields."""
    try:
        yield
    except RouterError as error:
        error.param = body_param(error.param, body)
        if isinstance(body, ChatBody) and error.param in RouterOptions.model_fields:
            error.param = f"router.{error.param}"
        raise


def answer_headers(answer: Answer) -> dict[str, str]:
    """The router's facts about a whole answer."""
    record = answer.record
    return {
        "x-router-model": record.model_used or "",
        "x-router-deployment": record.deployment_used or "",
        "x-router-cost-usd": plain(record.cost_usd),
        "x-router-overhead-ms": f"{record.overhead_ms:.3f}",
        "x-router-attempts": str(len(record.attempts)),
    }


def stream_headers(answer: StreamedAnswer) -> dict[str, str]:
    """The router's facts that are known when a stream begins; its cost comes with the usage at the end."""
    return {
        "x-router-model": answer.served.profile.id,
        "x-router-deployment": answer.served.deployment.id,
        "x-router-overhead-ms": f"{answer.overhead_ms:.3f}",
        "x-router-attempts": str(answer.attempts),
    }


def plain(amount_usd: Decimal) -> str:
    """A decimal without exponent or trailing zeros."""
    text = f"{amount_usd:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
