"""What can be exported: the rows of the ledger, of the rollups and of feedback, as files."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shared.domain.analytics import Granularity
from shared.domain.replies import Usage

LONGEST_SPAN: Final = timedelta(days=400)
MOST_STREAMED_ROWS: Final = 100_000
"""More are written to a file in the background."""
MOST_ROWS: Final = 10_000_000
"""Of one file: what is written within one run of a function, with room to spare."""
MOST_VALUES: Final = 50
"""Of one filter."""


class ExportSubject(StrEnum):
    """Which rows."""

    REQUESTS = "requests"
    ATTEMPTS = "attempts"
    ANALYTICS = "analytics"
    """Requests by time and what they have in common."""
    MODEL_PERFORMANCE = "model_performance"
    """Attempts by time and what they have in common."""
    FEEDBACK = "feedback"

    @property
    def is_rollup(self) -> bool:
        """Whether its rows are buckets."""
        return self in {ExportSubject.ANALYTICS, ExportSubject.MODEL_PERFORMANCE}


class LineForm(StrEnum):
    """How a row is written as text."""

    CSV = "csv"
    """For people: what a spreadsheet would take for a formula is defused."""
    PLAIN_CSV = "plain_csv"
    """For programs: values as they are."""
    JSON = "json"


class ExportFormat(StrEnum):
    """Of a file; the word is its extension too."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        """As registered with IANA; JSON lines are not registered."""
        return {
            "csv": "text/csv; charset=utf-8; header=present",
            "jsonl": "application/jsonl",
            "parquet": "application/vnd.apache.parquet",
        }[self.value]

    @property
    def lines(self) -> LineForm:
        """What it is made from."""
        return {"csv": LineForm.CSV, "jsonl": LineForm.JSON, "parquet": LineForm.PLAIN_CSV}[self.value]


class ValueKind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    """Money: exact."""
    REAL = "real"
    BOOLEAN = "boolean"
    INSTANT = "instant"
    JSON = "json"
    """An object of texts, or an array of them."""


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """A column by the name that it has in files."""

    name: str
    kind: ValueKind


def _columns(**kinds: str) -> tuple[ExportColumn, ...]:
    return tuple(ExportColumn(name, ValueKind(kind)) for kind, names in kinds.items() for name in names.split())


def _ordered(order: str, **kinds: str) -> tuple[ExportColumn, ...]:
    """Columns in the order given, of the kinds given."""
    known = {column.name: column for column in _columns(**kinds)}
    return tuple(known[name] for name in order.split())


_TOKENS = " ".join(field.name for field in fields(Usage) if field.name != "estimated")
_LATENCY = "latency_p50_ms latency_p95_ms latency_p99_ms ttft_p50_ms ttft_p95_ms ttft_p99_ms"
_OVERHEAD = "overhead_p50_ms overhead_p95_ms overhead_p99_ms"

COLUMNS: Final[Mapping[ExportSubject, tuple[ExportColumn, ...]]] = {
    ExportSubject.REQUESTS: _ordered(
        "id start_time end_time duration_ms service_name principal_id endpoint request_type content_type "
        "attachment_bytes complexity_level security_level status stream requested_model model_used deployment_used "
        f"provider region {_TOKENS} usage_estimated cost_usd saved_usd cache ttft_ms overhead_ms finish_reason "
        "error_code error_message quality_score propensity registry_version policy_version trace_id tags",
        text="id service_name principal_id endpoint request_type content_type complexity_level security_level status "
        "requested_model model_used deployment_used provider region cache finish_reason error_code error_message "
        "registry_version policy_version trace_id",
        instant="start_time end_time",
        real="duration_ms ttft_ms overhead_ms quality_score propensity",
        integer=f"attachment_bytes {_TOKENS}",
        boolean="stream usage_estimated",
        decimal="cost_usd saved_usd",
        json="tags",
    ),
    ExportSubject.ATTEMPTS: _ordered(
        "request_id number request_start_time started_at duration_ms deployment_id model_id provider region outcome "
        f"vendor_status ttft_ms {_TOKENS} usage_estimated cost_usd",
        text="request_id deployment_id model_id provider region outcome vendor_status",
        instant="request_start_time started_at",
        real="duration_ms ttft_ms",
        integer=f"number {_TOKENS}",
        boolean="usage_estimated",
        decimal="cost_usd",
    ),
    ExportSubject.ANALYTICS: _ordered(
        "bucket service_name model_id deployment_id category tag_key tag_value status error_code reused "
        f"prompt_above_tokens requests late usage_estimated {_TOKENS} cost_usd saved_usd duration_ms {_LATENCY} "
        f"{_OVERHEAD} ratings rating_sum",
        instant="bucket",
        text="service_name model_id deployment_id category tag_key tag_value status error_code",
        boolean="reused",
        integer=f"prompt_above_tokens requests late usage_estimated {_TOKENS} ratings",
        decimal="cost_usd saved_usd",
        real=f"duration_ms {_LATENCY} {_OVERHEAD} rating_sum",
    ),
    ExportSubject.MODEL_PERFORMANCE: _ordered(
        f"bucket model_id deployment_id provider region outcome attempts late usage_estimated {_TOKENS} cost_usd "
        f"duration_ms generation_ms generated_tokens {_LATENCY}",
        instant="bucket",
        text="model_id deployment_id provider region outcome",
        integer=f"attempts late usage_estimated {_TOKENS} generated_tokens",
        decimal="cost_usd",
        real=f"duration_ms generation_ms {_LATENCY}",
    ),
    ExportSubject.FEEDBACK: _ordered(
        "given_at request_id request_start_time service_name principal_id score form tags comment redacted",
        instant="given_at request_start_time",
        text="request_id service_name principal_id form comment",
        real="score",
        json="tags redacted",
    ),
}
"""What a file can hold, in its order. Never prompts or answers: no table that is read here has any."""

FILTERS: Final[Mapping[ExportSubject, Mapping[str, str]]] = {
    ExportSubject.REQUESTS: {
        "service": "service_name",
        "model": "model_used",
        "deployment": "deployment_used",
        "category": "request_type",
        "status": "status",
        "error_code": "error_code",
        "cache": "cache",
    },
    ExportSubject.ATTEMPTS: {"model": "model_id", "deployment": "deployment_id", "outcome": "outcome"},
    ExportSubject.ANALYTICS: {
        "service": "service_name",
        "model": "model_id",
        "deployment": "deployment_id",
        "category": "category",
        "status": "status",
        "tag_key": "tag_key",
        "tag_value": "tag_value",
    },
    ExportSubject.MODEL_PERFORMANCE: {"model": "model_id", "deployment": "deployment_id", "outcome": "outcome"},
    ExportSubject.FEEDBACK: {"service": "service_name", "form": "form"},
}
"""By what rows can be chosen, and the column that it means."""


@dataclass(frozen=True, slots=True)
class ExportQuery:
    """Which rows, and what of them.

    Attributes:
        since, until: when requests began, buckets begin, or feedback was given: from, and up to without it.
        columns: names, in the order of the file.
        filters: values to be taken, by the names of `FILTERS`.
        granularity: of rollups.
    """

    tenant_id: str
    subject: ExportSubject
    since: datetime
    until: datetime
    columns: tuple[str, ...]
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    granularity: Granularity = Granularity.HOUR

    @property
    def shape(self) -> tuple[ExportColumn, ...]:
        """The columns with their kinds."""
        known = {column.name: column for column in COLUMNS[self.subject]}
        return tuple(known[name] for name in self.columns)

    def file_name(self, form: ExportFormat) -> str:
        """What the file is called where it is saved."""
        return f"{self.subject.value}_{self.since:%Y%m%dT%H%M%SZ}_{self.until:%Y%m%dT%H%M%SZ}.{form.value}"


class ExportState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """The file is gone."""

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done."""
        return self in {ExportState.QUEUED, ExportState.RUNNING}


@dataclass(frozen=True, slots=True)
class ExportJob:
    """A file that is written in the background.

    Attributes:
        id: UUIDv7.
        requested_by: the principal's id.
        rows_written: so far; of the whole file once it is ready.
        rows_expected: counted when the work began; None before.
        size_bytes: of the file, when it is ready.
        sha256: of the file, in hex, when it is ready.
        attempts: how often it was begun; each writes a file of its own.
        code: why it failed: an error's code.
        expires_at: when the file is deleted.
    """

    id: str
    requested_by: str
    query: ExportQuery
    format: ExportFormat
    created_at: datetime
    expires_at: datetime
    state: ExportState = ExportState.QUEUED
    rows_written: int = 0
    rows_expected: int | None = None
    size_bytes: int | None = None
    sha256: str = ""
    attempts: int = 0
    code: str = ""
    finished_at: datetime | None = None

    @property
    def tenant_id(self) -> str:
        """Whose it is."""
        return self.query.tenant_id

    def blob_of(self, attempt: int) -> str:
        """Where an attempt writes: a worker that lost its lease writes into no other's file."""
        return f"{self.id}/{attempt}.{self.format.value}"

    @property
    def blob(self) -> str:
        """Where the latest attempt writes."""
        return self.blob_of(self.attempts)

    @property
    def blobs(self) -> tuple[str, ...]:
        """Wherever anything may have been written."""
        return tuple(self.blob_of(attempt) for attempt in range(1, self.attempts + 1))


@dataclass(frozen=True, slots=True)
class ExportTask:
    """What a message of the queue says."""

    tenant_id: str
    export_id: str


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows as text in one piece, ready for a file."""

    text: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class SignedLink:
    """An address that reads one file without any other proof, until it ends."""

    url: str
    expires_at: datetime
