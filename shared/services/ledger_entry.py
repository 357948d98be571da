"""From a request's walk to its row in the ledger."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shared.domain.cached_answers import CachedAnswer
from shared.domain.caching import CacheMode, CacheOutcome
from shared.domain.chat import ChatRequest
from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import RouterError
from shared.domain.features import RequestFeatures
from shared.domain.identity import Principal
from shared.domain.limits import Priority
from shared.domain.policy import RoutingConstraints
from shared.domain.pricing import cost_of
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import ChatReply, Usage
from shared.services.attempt_log import AttemptLog
from shared.services.limits import Ticket


@dataclass(frozen=True, slots=True)
class Order:
    """A request as the edge hands it to the services.

    Attributes:
        started_s: instant on the monotonic clock at which the door opened; overhead is counted from it.
        timeout_s: seconds from then until the answer is of no use.
        cache: what it asks of the answer cache; None leaves it to the service's rules.
        cascade: whether a cheap model is to be tried first; None leaves it to the policy.
        ticket: its way through the rate limits; None where none are kept.
        priority: low gives way first.
        requested_model: the caller's own word (``auto:cost``, a model id), for the record.
    """

    request: ChatRequest
    constraints: RoutingConstraints
    principal: Principal
    request_id: str
    endpoint: str
    requested_model: str
    stream: bool
    started_s: float
    timeout_s: float
    tags: tuple[tuple[str, str], ...] = ()
    trace_id: str | None = None
    traceparent: str | None = None
    cascade: bool | None = None
    cache: CacheMode | None = None
    ticket: Ticket | None = None
    priority: Priority = Priority.NORMAL


def opening(
    order: Order, features: RequestFeatures, now: datetime, budget_accounts: tuple[str, ...] = ()
) -> RequestRecord:
    """The record of an admitted request, as it stands if the worker dies now."""
    return RequestRecord(
        id=order.request_id,
        tenant_id=order.principal.tenant_id,
        service_name=order.principal.service,
        principal_id=order.principal.id,
        endpoint=order.endpoint,
        request_type=features.category.value,
        content_type=features.content_type,
        attachment_size=features.attachment_bytes,
        complexity_level=features.complexity_level.value,
        security_level=features.security_level.label,
        start_time=now,
        end_time=now,
        status=RequestStatus.ABANDONED,
        stream=order.stream,
        requested_model=order.requested_model,
        trace_id=order.trace_id,
        tags=order.tags,
        budget_accounts=budget_accounts,
    )


def chosen(record: RequestRecord, decision: Decision) -> RequestRecord:
    """The record once a deployment is chosen."""
    return replace(
        record,
        **_served_by(decision.chosen),
        propensity=decision.chosen.propensity,
        registry_version=decision.registry_version,
        policy_version=decision.policy_version,
    )


def if_abandoned(record: RequestRecord, decision: Decision, receipt: str | None = None) -> RequestRecord:
    """The chosen record as the journal keeps it, in case the worker dies during the call.

    What the vendor bills then, nobody hears. The prompt at least was sent: it is booked, and marked as an estimate.
    """
    candidate = decision.chosen
    usage = Usage(input_tokens=candidate.prompt_tokens, estimated=True)
    cost = cost_of(candidate.profile, usage, day=record.start_time.date(), region=candidate.deployment.region)
    return replace(record, usage=usage, cost_usd=cost.total_usd, receipt=receipt)


def reused(record: RequestRecord, outcome: CacheOutcome, answer: CachedAnswer | None) -> RequestRecord:
    """The record once the answer cache was asked; on hits with what the original answer used, and cost."""
    if answer is None:
        return replace(record, cache=outcome.value)
    return replace(record, cache=outcome.value, usage=answer.reply.usage, saved_usd=answer.cost_usd)


def closing(
    record: RequestRecord,
    log: AttemptLog,
    *,
    now: datetime,
    overhead_ms: float,
    status: RequestStatus,
    served: Candidate | None = None,
    reply: ChatReply | None = None,
    error: RouterError | None = None,
    receipt: str | None = None,
    tags: tuple[tuple[str, str], ...] = (),
) -> RequestRecord:
    """The final record; its cost is the exact sum over all attempts, failed ones included. `tags` are added."""
    last = log.answering
    return replace(
        record,
        **({} if served is None else _served_by(served)),
        end_time=now,
        status=status,
        usage=last.usage if last is not None else record.usage,
        cost_usd=sum((attempt.cost_usd for attempt in log.records), record.cost_usd),
        ttft_ms=last.ttft_ms if last is not None else None,
        overhead_ms=overhead_ms,
        finish_reason=None if reply is None else reply.finish_reason.value,
        error_code=None if error is None else error.code,
        error_message=None if error is None else error.message,
        attempts=tuple(log.records),
        receipt=receipt,
        tags=record.tags + (() if log.cascade is None else log.cascade.tags()) + tags,
        # A cascade's first model was not drawn, so there is no propensity to learn from.
        propensity=record.propensity if log.cascade is None else None,
    )


def _served_by(candidate: Candidate) -> dict[str, Any]:
    """What a record says of who serves."""
    return {
        "model_used": candidate.profile.id,
        "deployment_used": candidate.deployment.id,
        "provider": candidate.deployment.provider.value,
        "region": candidate.deployment.region,
    }
