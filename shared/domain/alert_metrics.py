"""What alert rules can measure."""

from enum import StrEnum


class Metric(StrEnum):
    """What rollups say of requests, or of attempts, as one number."""

    REQUESTS = "requests"
    """Attempts, of attempts."""
    SUCCEEDED = "succeeded"
    ERRORS = "errors"
    ERROR_RATE = "error_rate"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    CACHE_HITS = "cache_hits"
    CACHE_HIT_SHARE = "cache_hit_share"
    LATE_SHARE = "late_share"
    TOKENS = "tokens"
    COST_USD = "cost_usd"
    SAVED_USD = "saved_usd"
    COST_PER_REQUEST_USD = "cost_per_request_usd"
    LATENCY_MEAN_MS = "latency_mean_ms"
    LATENCY_P50_MS = "latency_p50_ms"
    LATENCY_P95_MS = "latency_p95_ms"
    LATENCY_P99_MS = "latency_p99_ms"
    TTFT_P50_MS = "ttft_p50_ms"
    TTFT_P95_MS = "ttft_p95_ms"
    TTFT_P99_MS = "ttft_p99_ms"
    OVERHEAD_P50_MS = "overhead_p50_ms"
    OVERHEAD_P95_MS = "overhead_p95_ms"
    OVERHEAD_P99_MS = "overhead_p99_ms"
    QUALITY = "quality"
    """Mean score by those who read the answers or judged them, 0 to 1."""
    FAULT_RATE = "fault_rate"
    """Answers that something is plainly wrong with."""
    TOKENS_PER_S = "tokens_per_s"
    """Of attempts only."""
    ROLLUP_AGE_S = "rollup_age_s"
    """How far the rollups are behind: of the router, not of requests."""

    @property
    def unit(self) -> str:
        """``ms``, ``s``, ``usd``, ``share``, ``tokens_per_s``, or empty for plain numbers."""
        if self in _SHARES:
            return "share"
        if self is Metric.TOKENS_PER_S:
            return self.value
        return next((unit for unit in ("usd", "ms", "s") if self.value.endswith(f"_{unit}")), "")

    @property
    def is_count(self) -> bool:
        """Whether it adds up over time, so that nothing having happened is 0 rather than unknown."""
        return self in _COUNTS


_SHARES = frozenset({Metric.ERROR_RATE, Metric.CACHE_HIT_SHARE, Metric.LATE_SHARE, Metric.QUALITY, Metric.FAULT_RATE})
_COUNTS = frozenset(
    {
        Metric.REQUESTS,
        Metric.SUCCEEDED,
        Metric.ERRORS,
        Metric.CANCELLED,
        Metric.ABANDONED,
        Metric.CACHE_HITS,
        Metric.TOKENS,
        Metric.COST_USD,
        Metric.SAVED_USD,
    }
)
OF_REQUESTS_ONLY = frozenset(
    {
        Metric.CANCELLED,
        Metric.ABANDONED,
        Metric.CACHE_HITS,
        Metric.CACHE_HIT_SHARE,
        Metric.LATE_SHARE,
        Metric.SAVED_USD,
        Metric.OVERHEAD_P50_MS,
        Metric.OVERHEAD_P95_MS,
        Metric.OVERHEAD_P99_MS,
        Metric.QUALITY,
        Metric.FAULT_RATE,
    }
)
"""What attempts do not say."""
