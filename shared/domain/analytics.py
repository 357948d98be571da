"""What rollups are asked for, and what they answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from shared.domain.replies import Usage

LATE = timedelta(minutes=2)
"""A record that is written longer than this after its request ended came late: by the queue, or from a journal."""
MINUTES_KEPT = timedelta(hours=48)
STALE_AFTER = timedelta(minutes=5)
"""Rollups that end so long before now say too little of now."""
MOST_TAG_VALUES = 100
"""Values of a tag that a bucket keeps apart, by tenant; the rarer ones are counted together as `OTHER`."""
MAX_TAG_VALUE_CHARS = 128
OTHER = "(other)"


class Granularity(StrEnum):
    """How long the buckets of rollups are."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    """A UTC day."""

    @property
    def length(self) -> timedelta:
        """Of one bucket."""
        return {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}[self.value]


class Subject(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    ATTEMPTS = "attempts"
    """Calls to models, also those that failed and were made up for by another."""


class Dimension(StrEnum):
    """What requests can have in common."""

    SERVICE = "service"
    MODEL = "model"
    DEPLOYMENT = "deployment"
    CATEGORY = "category"
    TAG = "tag"


ATTEMPT_DIMENSIONS = frozenset({Dimension.MODEL, Dimension.DEPLOYMENT})
"""What attempts are kept by; they know nothing of services, categories and tags."""
SKETCHES = frozenset({"latency", "ttft", "overhead"})
"""Fields of `Aggregate` that are distributions."""


@dataclass(frozen=True, slots=True)
class AnalyticsQuery:
    """A question to the rollups.

    Attributes:
        edges: the buckets' starts, and the end of the last one: ascending, whole UTC hours, or minutes that are not
            older than `MINUTES_KEPT`. Two make one bucket.
        group_by: a row for each combination of these; `TAG` stands for `tag_key`.
        filters: values to be taken, by dimension; `TAG` for values of `tag_key`.
        tag_key: the tag that `TAG` means; only requests that have it are counted then.
        sketches: whether distributions are wanted too.
        only: fields of `Aggregate` that are wanted, the others stay empty and cost nothing; None: all.
        after: start and group of the row after which the page begins.
        limit: most rows; one more says that there are more.
    """

    tenant_id: str
    edges: tuple[datetime, ...]
    group_by: tuple[Dimension, ...] = ()
    filters: Mapping[Dimension, tuple[str, ...]] = field(default_factory=dict)
    tag_key: str = ""
    subject: Subject = Subject.REQUESTS
    sketches: bool = True
    only: frozenset[str] | None = None
    after: tuple[datetime, tuple[str, ...]] | None = None
    limit: int = 1_000

    def wants(self, name: str) -> bool:
        """Whether a field of `Aggregate` is wanted."""
        return (self.sketches or name not in SKETCHES) and (self.only is None or name in self.only)

    @property
    def granularity(self) -> Granularity:
        """The coarsest rollups that can answer it exactly."""
        times = {edge.astimezone(UTC).time() for edge in self.edges}
        if times == {datetime.min.time()}:
            return Granularity.DAY
        return Granularity.MINUTE if any(time.minute for time in times) else Granularity.HOUR


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What some requests (or attempts) of a bucket add up to.

    Attributes:
        start: of the bucket, UTC.
        group: values of the dimensions that were asked for, in their order.
        count: requests or attempts.
        late: those whose record came `LATE`.
        hits: those served from the answer cache; their tokens are in none of the sums.
        error_codes: how many failed, by code.
        usage: tokens that were used.
        duration_ms: sum over those that succeeded; `succeeded` says how many these are.
        latency, ttft, overhead: sketches (`shared.analytics.sketches`), milliseconds.
        ratings: requests that were rated; `rating_sum` adds up their ratings, `rating_squares` the squares of these.
        judged: those that nobody rated, and a judge did; likewise.
        signalled: those whose score comes of what is plainly wrong with the answer; likewise.
        generated_tokens: of attempts, in `generation_ms` after their first token.
    """

    start: datetime
    group: tuple[str, ...] = ()
    count: int = 0
    succeeded: int = 0
    cancelled: int = 0
    abandoned: int = 0
    hits: int = 0
    late: int = 0
    error_codes: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = Usage()
    usage_estimated: int = 0
    cost_usd: Decimal = Decimal(0)
    saved_usd: Decimal = Decimal(0)
    duration_ms: float = 0.0
    latency: bytes = b""
    ttft: bytes = b""
    overhead: bytes = b""
    ratings: int = 0
    rating_sum: float = 0.0
    rating_squares: float = 0.0
    judged: int = 0
    judged_sum: float = 0.0
    judged_squares: float = 0.0
    signalled: int = 0
    signalled_sum: float = 0.0
    signalled_squares: float = 0.0
    generation_ms: float = 0.0
    generated_tokens: int = 0

    @property
    def errors(self) -> int:
        """Those that failed."""
        return sum(self.error_codes.values())


SPENT_BY = (Dimension.SERVICE, Dimension.MODEL)
"""What spend can be told apart by, besides price tier and reuse, by which it always is."""


@dataclass(frozen=True, slots=True)
class SpendQuery:
    """A question about spend.

    Attributes:
        edges: as in `AnalyticsQuery`, but whole hours.
        group_by: some of `SPENT_BY`.
        services: only these; None: all.
        without_services: never these.
        without_models: nor requests that these models served.
    """

    tenant_id: str
    edges: tuple[datetime, ...]
    group_by: tuple[Dimension, ...] = SPENT_BY
    services: tuple[str, ...] | None = None
    without_services: tuple[str, ...] = ()
    without_models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spend:
    """What requests of a bucket cost that one service sent and one model served, with the tokens that say why.

    Attributes:
        start: of the bucket, UTC.
        service: empty where the question does not tell services apart.
        model_id: empty when none was chosen, and where the question does not tell models apart.
        reused: served from the answer cache: `usage` was not used again and `cost_usd` is 0.
        prompt_above_tokens: all prompts are longer than this, and none reaches the next price tier.
    """

    start: datetime
    service: str
    model_id: str
    reused: bool
    prompt_above_tokens: int
    requests: int
    usage: Usage
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Freshness:
    """Up to when rollups are complete.

    Attributes:
        as_of: all that was in the ledger at this instant is counted.
        pending: buckets that are still to be computed anew.
    """

    as_of: datetime
    pending: int

    def complete_until(self, now: datetime) -> datetime:
        """The last whole minute, UTC, up to which figures are complete; the minute that runs never is."""
        return min(self.as_of, now).astimezone(UTC).replace(second=0, microsecond=0)

    def is_stale(self, now: datetime) -> bool:
        """Whether that is long ago: the timer stands still, or is far behind."""
        return now - self.as_of > STALE_AFTER
