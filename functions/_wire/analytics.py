"""The query of GET /analytics: spans, buckets, groups, filters and metrics."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from functions._wire.query import limit_of, only, word
from shared.analytics.periods import edges_of, hour_after, hour_before, previous_period, usual_granularity
from shared.domain.analytics import (
    ATTEMPT_DIMENSIONS,
    MAX_TAG_VALUE_CHARS,
    AnalyticsQuery,
    Dimension,
    Granularity,
    Subject,
)
from shared.domain.errors import Forbidden, InvalidRequest
from shared.domain.identity import Permission, Principal
from shared.domain.record_bounds import MAX_TAG_KEY_CHARS

METRICS = {
    Subject.REQUESTS: (
        "requests", "succeeded", "errors", "error_rate", "errors_by_class", "cancelled", "abandoned", "cache_hits",
        "late", "tokens", "cost_usd", "saved_usd", "latency_ms", "ttft_ms", "overhead_ms", "quality",
    ),
    Subject.ATTEMPTS: (
        "attempts", "succeeded", "errors", "error_rate", "errors_by_class", "tokens", "cost_usd", "latency_ms",
        "ttft_ms", "tokens_per_s",
    ),
}  # fmt: skip
"""What rows can say; all of it unless some are named."""
_DISTRIBUTIONS = frozenset({"latency_ms", "ttft_ms", "overhead_ms"})
SPAN = frozenset({"from", "to", "timezone"})
_REPORT = SPAN | {"bucket", "group_by", "metrics", "compare", "of", "cursor", "limit", "filter.tag"}
_FILTERS = {f"filter.{dimension.value}": dimension for dimension in Dimension if dimension is not Dimension.TAG}
_SAVINGS = SPAN | {"baseline", "group_by", "filter.service"}
_DEFAULT_SPAN = timedelta(days=1)
_LONGEST = {Granularity.HOUR: timedelta(days=31), Granularity.DAY: timedelta(days=400)}
_MOST_ROWS, _MOST_VALUES, _MOST_CHARS = 1_000, 50, 256
_TAG = f"{Dimension.TAG.value}:"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the URL asks for.

    Attributes:
        metrics: what rows are to say.
        previous: the period to compare with.
        granularity: of the buckets.
        zone: of their starts.
    """

    query: AnalyticsQuery
    metrics: tuple[str, ...]
    granularity: Granularity
    zone: ZoneInfo
    previous: tuple[datetime, datetime] | None = None


@dataclass(frozen=True, slots=True)
class SavingsAsked:
    """What the URL asks for."""

    since: datetime
    until: datetime
    zone: ZoneInfo
    baseline: str
    services: tuple[str, ...] | None
    group_by: Dimension | None


def analytics_asked(
    parameters: Mapping[str, str], *, caller: Principal, now: datetime, tag_keys: tuple[str, ...]
) -> Asked:
    """Read the URL of GET /analytics.

    Args:
        parameters: of the URL.
        caller: whose figures.
        now: where the usual span ends.
        tag_keys: tags that requests are counted by.

    Raises:
        Forbidden: other services' figures, without the permission for them.
        InvalidRequest: naming the parameter.
    """
    only(parameters, _REPORT | _FILTERS.keys())
    since, until, zone = span_asked(parameters, now)
    subject = word(parameters, "of", Subject) or Subject.REQUESTS
    granularity = _granularity(parameters, since, until)
    group_by, tag_key = _groups(parameters)
    filters: dict[Dimension, tuple[str, ...]] = {
        dimension: _values(parameters, name) for name, dimension in _FILTERS.items() if name in parameters
    }
    if "filter.tag" in parameters:
        key, colon, value = parameters["filter.tag"].partition(":")
        if not key or not colon or (tag_key and tag_key != key):
            raise InvalidRequest("filter.tag: must be KEY:VALUE, of the tag that is grouped by", param="filter.tag")
        tag_key = _bounded(key, "filter.tag", MAX_TAG_KEY_CHARS)
        filters[Dimension.TAG] = (_bounded(value, "filter.tag", MAX_TAG_VALUE_CHARS),)
    if tag_key and tag_key not in tag_keys:
        kept = ", ".join(tag_keys) or "none"
        raise InvalidRequest(f"group_by: figures are kept for these tags: {kept}", param="group_by")
    _own(filters, caller, subject)
    if subject is Subject.ATTEMPTS and ({*group_by, *filters} - ATTEMPT_DIMENSIONS):
        raise InvalidRequest("of: attempts are kept by model and deployment only", param="of")
    metrics = _metrics(parameters, subject)
    try:
        edges = edges_of(since, until, granularity, zone)
    except ValueError:
        raise InvalidRequest(
            f"timezone: days of {zone.key} begin within a UTC hour; ask for bucket=hour", param="timezone"
        ) from None
    query = AnalyticsQuery(
        caller.tenant_id,
        edges,
        group_by=group_by,
        filters=filters,
        tag_key=tag_key,
        subject=subject,
        sketches=not _DISTRIBUTIONS.isdisjoint(metrics),
        after=_after(parameters, edges, len(group_by)),
        limit=limit_of(parameters, _MOST_ROWS),
    )
    compares = parameters.get("compare")
    if compares not in (None, "previous"):
        raise InvalidRequest("compare: must be previous", param="compare")
    return Asked(query, metrics, granularity, zone, previous_period(since, until, zone) if compares else None)


def savings_asked(parameters: Mapping[str, str], *, caller: Principal, now: datetime) -> SavingsAsked:
    """Read the URL of GET /analytics/savings.

    Raises:
        Forbidden: other services' figures, without the permission for them.
        InvalidRequest: naming the parameter.
    """
    only(parameters, _SAVINGS)
    since, until, zone = span_asked(parameters, now)
    group_by, tag_key = _groups(parameters)
    if tag_key or len(group_by) > 1 or not {*group_by} <= {Dimension.SERVICE, Dimension.MODEL}:
        raise InvalidRequest("group_by: must be service or model", param="group_by")
    filters: dict[Dimension, tuple[str, ...]] = (
        {Dimension.SERVICE: _values(parameters, "filter.service")} if "filter.service" in parameters else {}
    )
    _own(filters, caller, Subject.REQUESTS)
    return SavingsAsked(
        since=since,
        until=until,
        zone=zone,
        baseline=_bounded(parameters.get("baseline", "best"), "baseline"),
        services=filters.get(Dimension.SERVICE),
        group_by=group_by[0] if group_by else None,
    )


def page_cursor(start: datetime, group: tuple[str, ...]) -> str:
    """Where a page ended, as its reader gives it back."""
    return base64.urlsafe_b64encode(json.dumps([start.isoformat(), *group]).encode()).decode()


def _after(
    parameters: Mapping[str, str], edges: tuple[datetime, ...], groups: int
) -> tuple[datetime, tuple[str, ...]] | None:
    cursor = parameters.get("cursor")
    if cursor is None:
        return None
    try:
        start, *group = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        place = datetime.fromisoformat(start).astimezone(UTC)
        if place in edges[:-1] and len(group) == groups and all(isinstance(part, str) for part in group):
            return place, tuple(_bounded(part, "cursor") for part in group)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        pass
    raise InvalidRequest("cursor: not one that this endpoint gave for this query", param="cursor")


def span_asked(parameters: Mapping[str, str], now: datetime) -> tuple[datetime, datetime, ZoneInfo]:
    """From and to, widened to whole UTC hours, and the time zone that naive ones are in."""
    name = parameters.get("timezone", "UTC")
    # The names that there are, and nothing that could be a path.
    if name not in available_timezones():
        raise InvalidRequest("timezone: must be a name of the IANA database, such as Europe/Berlin", param="timezone")
    zone = ZoneInfo(name)
    until = hour_after(_instant(parameters, "to", zone) or now)
    since = hour_before(_instant(parameters, "from", zone) or until - _DEFAULT_SPAN)
    if not timedelta() < until - since <= _LONGEST[Granularity.DAY]:
        raise InvalidRequest("from: must be before to, by at most 400 days", param="from")
    return since, until, zone


def _instant(parameters: Mapping[str, str], name: str, zone: ZoneInfo) -> datetime | None:
    """A date or instant; without an offset it is one of the zone's."""
    text = parameters.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        instant = (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)
        if timedelta(days=400) < instant - datetime.min.replace(tzinfo=UTC) and instant.year < 9000:  # noqa: PLR2004 - room to count from
            return instant
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{name}: must be an ISO 8601 date or instant", param=name)


def _granularity(parameters: Mapping[str, str], since: datetime, until: datetime) -> Granularity:
    text = parameters.get("bucket", "auto")
    if text not in ("auto", "hour", "day"):
        raise InvalidRequest("bucket: must be one of auto, hour, day", param="bucket")
    granularity = usual_granularity(since, until) if text == "auto" else Granularity(text)
    if until - since > _LONGEST[granularity]:
        longest = _LONGEST[granularity].days
        raise InvalidRequest(f"bucket: {granularity.value} spans at most {longest} days", param="bucket")
    return granularity


def _groups(parameters: Mapping[str, str]) -> tuple[tuple[Dimension, ...], str]:
    """The dimensions, and the tag among them."""
    words = [text for text in parameters.get("group_by", "").split(",") if text]
    found, tag_key = list[Dimension](), ""
    for text in words:
        if text.startswith(_TAG) and len(text) > len(_TAG) and not tag_key:
            tag_key = _bounded(text.removeprefix(_TAG), "group_by", MAX_TAG_KEY_CHARS)
            found.append(Dimension.TAG)
            continue
        try:
            dimension = Dimension(text)
        except ValueError:
            dimension = Dimension.TAG
        if dimension is Dimension.TAG or dimension in found:
            raise InvalidRequest(
                "group_by: must be some of service, model, deployment, category and one tag:KEY", param="group_by"
            )
        found.append(dimension)
    return tuple(found), tag_key


def _values(parameters: Mapping[str, str], name: str) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(parameters[name].split(",")))
    if len(values) > _MOST_VALUES:
        raise InvalidRequest(f"{name}: at most {_MOST_VALUES} values", param=name)
    return tuple(_bounded(value, name) for value in values)


def _bounded(text: str, name: str, most: int = _MOST_CHARS) -> str:
    if len(text) > most or "\0" in text or not text.isprintable():
        raise InvalidRequest(f"{name}: must be printable, of at most {most} characters", param=name)
    return text


def _metrics(parameters: Mapping[str, str], subject: Subject) -> tuple[str, ...]:
    known = METRICS[subject]
    words = parameters.get("metrics")
    if words is None:
        return known
    wanted = set(words.split(","))
    if not wanted <= set(known):
        raise InvalidRequest(f"metrics: must be some of {', '.join(known)}", param="metrics")
    return tuple(metric for metric in known if metric in wanted)


def _own(filters: dict[Dimension, tuple[str, ...]], caller: Principal, subject: Subject) -> None:
    """Keep whoever may not read the administration to his own service.

    Raises:
        Forbidden: he asked for another one, or for what is not kept by service.
    """
    if caller.may(Permission.ADMIN_READ):
        return
    if subject is Subject.ATTEMPTS or not {*filters.get(Dimension.SERVICE, ())} <= {caller.service}:
        raise Forbidden(f"figures of other services need the permission {Permission.ADMIN_READ.value}")
    filters[Dimension.SERVICE] = (caller.service,)
