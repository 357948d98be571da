"""The words of answer reuse: what a service opts in to, what a request asks for, and how a look-up ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shared.domain.features import Category
from shared.domain.security import SecurityLevel

MAX_TTL_S = 7 * 24 * 3600
"""Prompts and answers are not stored by default; a service that opts in stores them no longer than a week."""
DEFAULT_THRESHOLD = 0.65
"""Cosine similarity from which two turns of one form share an answer: a second opinion on the form, which alone tells
near misses apart (docs/caching.md has the measurement)."""
DEFAULT_THRESHOLDS: Mapping[Category, float | None] = {
    Category.CREATIVE_WRITING: None,
    Category.AGENTIC: None,
    Category.CODE_GENERATION: 0.85,
    Category.CODE_REVIEW: 0.85,
    Category.MATH: 0.85,
}
"""Thresholds that differ from `DEFAULT_THRESHOLD`. None: exact repetitions only; a poem is wanted new."""


class CacheMode(StrEnum):
    """What one request asks of the cache. It cannot opt in a service that the policy has not."""

    USE = "use"
    """Also where sampling or tools would keep it out."""
    REFRESH = "refresh"
    """Do not look, but keep the new answer."""
    OFF = "off"
    """Neither look nor keep."""


class CacheOutcome(StrEnum):
    """How the look-up of one request ended; `x-router-cache` and the record's `cache` say it in these words."""

    HIT = "hit"
    SEMANTIC_HIT = "semantic_hit"
    MISS = "miss"
    BYPASS = "bypass"
    """The service uses the cache, but this request was not looked up."""
    OFF = "off"
    """The service has not opted in, or the caller said off."""

    @property
    def is_hit(self) -> bool:
        """Whether the answer came from the cache, so that no model was called."""
        return self in {CacheOutcome.HIT, CacheOutcome.SEMANTIC_HIT}


class CacheScope(StrEnum):
    """Who shares answers. Never anybody beyond the tenant."""

    SERVICE = "service"
    TENANT = "tenant"
    """All services of the tenant whose rules say so too."""


class BypassReason(StrEnum):
    """Why a request of an opted-in service was not looked up."""

    REFRESH = "refresh"
    LEVEL = "security_level"
    TEMPERATURE = "temperature"
    TOOLS = "tools"
    MEDIA_URI = "media_uri"
    UNREADABLE = "unreadable"
    """It holds what has no canonical form (an integer beyond 64 bits in a tool's schema)."""
    UNAVAILABLE = "unavailable"
    """The cache did not answer in time."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How the answers of one service are reused. That there is one is the opt-in.

    Attributes:
        ttl_s: seconds for which an answer may be served.
        scope: who shares answers.
        semantic: whether a turn of the same form and a near meaning shares an answer, too.
        thresholds: cosine similarity from which it does, by category; what is missing is at the default.
        sampled: whether requests with a temperature above 0 are looked up and kept without being asked to.
        tools: the same for requests that offer tools; their answers may ask for side effects.
        max_level: content above this level is neither looked up nor kept; never `RESTRICTED`.
        max_answer_bytes: longer answers are not kept.
    """

    ttl_s: int
    scope: CacheScope = CacheScope.SERVICE
    semantic: bool = False
    thresholds: Mapping[Category, float] = field(default_factory=dict)
    sampled: bool = False
    tools: bool = False
    max_level: SecurityLevel = SecurityLevel.INTERNAL
    max_answer_bytes: int = 256 * 1024

    def threshold(self, category: Category) -> float | None:
        """Similarity from which a turn of that category shares an answer; None: never."""
        if category in self.thresholds:
            return self.thresholds[category]
        return DEFAULT_THRESHOLDS.get(category, DEFAULT_THRESHOLD)
