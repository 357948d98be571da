"""The query, the bodies and the answers of /admin/export."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, TypeAdapter

from functions._wire.parsing import Body, Line
from functions._wire.query import before, cursor_of, instant, limit_of, only, word
from shared.domain.analytics import Granularity
from shared.domain.errors import InvalidRequest
from shared.domain.exports import (
    COLUMNS,
    FILTERS,
    LONGEST_SPAN,
    MOST_VALUES,
    ExportFormat,
    ExportJob,
    ExportQuery,
    ExportSubject,
    ExportTask,
    SignedLink,
)

_DEFAULT_SPAN = timedelta(days=1)
_KNOWN_FILTERS = frozenset(name for names in FILTERS.values() for name in names)
_PARAMETERS = frozenset({"of", "format", "from", "to", "columns", "granularity"}) | {
    f"filter.{name}" for name in _KNOWN_FILTERS
}
_TASK = TypeAdapter(ExportTask)
_PAGE_PARAMETERS = frozenset({"limit", "cursor"})
_MOST_CHARS, _MOST_LISTED = 256, 200
_EARLIEST_YEAR, _LATEST_YEAR = 1970, 9000
_GRANULARITIES = (Granularity.HOUR, Granularity.DAY)

_Word = Annotated[str, Field(max_length=64)]
_Value = Annotated[Line, Field(max_length=_MOST_CHARS)]


@dataclass(frozen=True, slots=True)
class ExportAsked:
    """What is wanted, and as what."""

    query: ExportQuery
    format: ExportFormat


class ExportBody(Body):
    """POST /admin/export."""

    of: _Word
    format: _Word = ExportFormat.CSV.value
    since: Annotated[AwareDatetime | None, Field(alias="from")] = None
    until: Annotated[AwareDatetime | None, Field(alias="to")] = None
    columns: Annotated[list[_Word] | None, Field(min_length=1, max_length=100)] = None
    filters: Annotated[
        dict[_Word, Annotated[list[_Value], Field(min_length=1, max_length=MOST_VALUES)]] | None, Field(max_length=20)
    ] = None
    granularity: _Word | None = None

    def asked(self, tenant_id: str, now: datetime) -> ExportAsked:
        """What is wanted.

        Raises:
            InvalidRequest: naming the field.
        """
        words = {"of": self.of, "format": self.format} | (
            {} if self.granularity is None else {"granularity": self.granularity}
        )
        filters = {name: tuple(dict.fromkeys(values)) for name, values in (self.filters or {}).items()}
        return _asked(tenant_id, now, words, self.since, self.until, self.columns, filters, "filters.")


def export_asked(parameters: Mapping[str, str], tenant_id: str, now: datetime) -> ExportAsked:
    """Read the URL of GET /admin/export.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, _PARAMETERS)
    columns = parameters.get("columns")
    filters = {
        name: _values(parameters[f"filter.{name}"], f"filter.{name}")
        for name in sorted(_KNOWN_FILTERS)
        if f"filter.{name}" in parameters
    }
    since, until = instant(parameters, "from"), instant(parameters, "to")
    return _asked(
        tenant_id, now, parameters, since, until, None if columns is None else columns.split(","), filters, "filter."
    )


def page_asked(parameters: Mapping[str, str]) -> tuple[tuple[datetime, str] | None, int]:
    """Where a page of jobs begins, and how many it takes.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, _PAGE_PARAMETERS)
    return before(parameters, uuid=True), limit_of(parameters, _MOST_LISTED, default=50)


def export_task_of(body: bytes) -> ExportTask:
    """What a message of the queue of exports says.

    Raises:
        ValueError: it is none.
    """
    return _TASK.validate_json(body)


def job_body(job: ExportJob) -> dict[str, Any]:
    """A job as whoever may see it sees it."""
    query = job.query
    return {
        "id": job.id,
        "state": job.state.value,
        "of": query.subject.value,
        "format": job.format.value,
        "from": query.since.isoformat(),
        "to": query.until.isoformat(),
        "granularity": query.granularity.value if query.subject.is_rollup else None,
        "columns": list(query.columns),
        "filters": {name: list(values) for name, values in query.filters.items()},
        "file_name": query.file_name(job.format),
        "requested_by": job.requested_by,
        "rows_written": job.rows_written,
        "rows_expected": job.rows_expected,
        "size_bytes": job.size_bytes,
        "sha256": job.sha256 or None,
        "attempts": job.attempts,
        "code": job.code or None,
        "created_at": job.created_at.isoformat(),
        "finished_at": None if job.finished_at is None else job.finished_at.isoformat(),
        "expires_at": job.expires_at.isoformat(),
    }


def jobs_body(jobs: Sequence[ExportJob], limit: int) -> dict[str, Any]:
    """A page of jobs."""
    more = len(jobs) > limit
    shown = jobs[:limit]
    cursor = cursor_of(shown[-1].created_at, shown[-1].id) if more else None
    return {"exports": [job_body(job) for job in shown], "next_cursor": cursor}


def link_body(link: SignedLink) -> dict[str, Any]:
    """A signed address."""
    return {"url": link.url, "expires_at": link.expires_at.isoformat()}


def _asked(
    tenant_id: str,
    now: datetime,
    words: Mapping[str, str],
    since: datetime | None,
    until: datetime | None,
    columns: Sequence[str] | None,
    filters: dict[str, tuple[str, ...]],
    prefix: str,
) -> ExportAsked:
    subject = word(words, "of", ExportSubject)
    if subject is None:
        raise InvalidRequest(f"of: must be one of {', '.join(ExportSubject)}", param="of")
    for name in filters:
        if name not in FILTERS[subject]:
            known = ", ".join(FILTERS[subject])
            raise InvalidRequest(f"{prefix}{name}: {subject.value} are chosen by {known}", param=f"{prefix}{name}")
    until = _bounded(until or now, "to")
    since = until - _DEFAULT_SPAN if since is None else _bounded(since, "from")
    if not timedelta() < until - since <= LONGEST_SPAN:
        raise InvalidRequest(f"from: must be before to, by at most {LONGEST_SPAN.days} days", param="from")
    query = ExportQuery(
        tenant_id=tenant_id,
        subject=subject,
        since=since,
        until=until,
        columns=_columns(subject, columns),
        filters=filters,
        granularity=_granularity(words, subject),
    )
    return ExportAsked(query, word(words, "format", ExportFormat) or ExportFormat.CSV)


def _bounded(at: datetime, name: str) -> datetime:
    """An instant in UTC, with room to count from.

    Raises:
        InvalidRequest: it is too far away.
    """
    if not _EARLIEST_YEAR <= at.year <= _LATEST_YEAR:
        raise InvalidRequest(f"{name}: must be from {_EARLIEST_YEAR} to {_LATEST_YEAR}", param=name)
    return at.astimezone(UTC)


def _columns(subject: ExportSubject, wanted: Sequence[str] | None) -> tuple[str, ...]:
    known = tuple(column.name for column in COLUMNS[subject])
    if wanted is None:
        return known
    if not wanted or not {*wanted} <= {*known} or len({*wanted}) < len(wanted):
        raise InvalidRequest(f"columns: must be some of {', '.join(known)}, each once", param="columns")
    return tuple(wanted)


def _granularity(words: Mapping[str, str], subject: ExportSubject) -> Granularity:
    text = words.get("granularity")
    if text is None:
        return Granularity.HOUR
    if not subject.is_rollup or text not in _GRANULARITIES:
        raise InvalidRequest("granularity: hour or day, of analytics and model_performance", param="granularity")
    return Granularity(text)


def _values(text: str, name: str) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(text.split(",")))
    if len(values) > MOST_VALUES or any(len(value) > _MOST_CHARS or not value.isprintable() for value in values):
        raise InvalidRequest(f"{name}: at most {MOST_VALUES} printable values of {_MOST_CHARS} characters", param=name)
    return values
