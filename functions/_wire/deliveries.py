"""The query and the answers of /admin/alerts/deliveries."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from functions._wire.query import before, cursor_of, limit_of, only, span_of, word
from shared.domain.deliveries import Delivery, DeliveryQuery, DeliveryState
from shared.domain.errors import InvalidRequest

_PARAMETERS = frozenset({"since", "until", "state", "channel", "incident_id", "limit", "cursor"})
_DEFAULT_SPAN, _LONGEST_SPAN = timedelta(days=7), timedelta(days=92)
_MOST = 500
_LONGEST_NAME = 256


def delivery_query(parameters: Mapping[str, str], *, tenant_id: str, now: datetime) -> DeliveryQuery:
    """What the URL asks for, by the time at which notifications were decided on.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, _PARAMETERS)
    since, until = span_of(parameters, now, default=_DEFAULT_SPAN, longest=_LONGEST_SPAN)
    return DeliveryQuery(
        tenant_id,
        since,
        until,
        state=word(parameters, "state", DeliveryState),
        channel=_name(parameters, "channel"),
        incident_id=_name(parameters, "incident_id"),
        before=before(parameters),
        limit=limit_of(parameters, _MOST),
    )


def one_more(query: DeliveryQuery) -> DeliveryQuery:
    """The query that also tells whether there is a next page."""
    return replace(query, limit=query.limit + 1)


def deliveries_body(found: Sequence[Delivery], limit: int) -> dict[str, Any]:
    """A page of what `one_more` found."""
    shown = found[:limit]
    last = shown[-1].notification if len(found) > limit else None
    return {
        "deliveries": [delivery_body(one) for one in shown],
        "next_cursor": None if last is None else cursor_of(last.created_at, last.id),
    }


def delivery_body(delivery: Delivery) -> dict[str, Any]:
    """One delivery. Where it goes is said by the channel's name alone."""
    told = delivery.notification
    is_waiting = delivery.state is DeliveryState.WAITING
    return {
        "id": told.id,
        "channel": told.channel,
        "occasion": told.occasion.value,
        "severity": told.severity.value,
        "rule_id": told.rule_id,
        "rule_name": told.rule_name,
        "incident_id": told.incident_id,
        "summary": told.summary,
        "created_at": told.created_at.isoformat(),
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "next_attempt_at": delivery.due_at.isoformat() if is_waiting else None,
        "ended_at": None if delivery.ended_at is None else delivery.ended_at.isoformat(),
        "last_error": delivery.last_error or None,
    }


def _name(parameters: Mapping[str, str], name: str) -> str | None:
    text = parameters.get(name)
    # A character that the database cannot hold is in no name that it has.
    if text is not None and not (0 < len(text) <= _LONGEST_NAME and text.isprintable()):
        raise InvalidRequest(f"{name}: must be 1 to {_LONGEST_NAME} printable characters", param=name)
    return text
