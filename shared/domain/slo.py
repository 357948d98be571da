"""Service level objectives: what is promised, and whose fault a failed request is.

Words as in "The Site Reliability Workbook" (Google, 2018), chapters 2 and 5: an indicator says what is measured, an
objective how good it has to be over a window, and the error budget how much may go wrong until then.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from shared.domain import errors

WINDOW = timedelta(days=30)
"""Over which the built-in objectives hold, ending now."""


class Fault(StrEnum):
    """Whose a failed request is."""

    CALLER = "caller"
    """He can mend it: a wrong request, a limit, a permission, content that is not let through. HTTP 4xx."""
    PROVIDER = "provider"
    """The model's side failed, at every deployment that was tried."""
    ROUTER = "router"
    """The router or what it stands on failed."""
    UNCLEAR = "unclear"
    """A model refused as malformed or too long what the router had taken for fitting: the caller's request or the
    router's judgement, which a record does not tell apart."""


_FAULTS: dict[type[errors.RouterError], Fault] = {
    errors.RequestRejected: Fault.CALLER,
    errors.AccessRefused: Fault.CALLER,
    errors.LimitReached: Fault.CALLER,
    errors.ProviderError: Fault.PROVIDER,
    errors.ProviderRejected: Fault.UNCLEAR,
    errors.ContextWindowExceeded: Fault.UNCLEAR,
    errors.ContentBlocked: Fault.CALLER,
    errors.ProviderAuthError: Fault.ROUTER,
    errors.ProviderNotFound: Fault.ROUTER,
    errors.RouterError: Fault.ROUTER,
}
"""By error class; one that is not listed takes its nearest parent's. Credentials and deployments are the router's own
configuration."""

_OTHER_CODES = {
    "answer_not_read": Fault.CALLER,
    "budget_reserved": Fault.CALLER,
    "media_host_not_allowed": Fault.CALLER,
    "policy_limit": Fault.CALLER,
    "request_exceeds_limit": Fault.CALLER,
    "provider_stream_cut": Fault.PROVIDER,
    "credentials_unavailable": Fault.ROUTER,
}
"""Codes that errors are given where they are raised, in place of their class's."""


def _by_code(kind: type[errors.RouterError], inherited: Fault, found: dict[str, Fault]) -> dict[str, Fault]:
    fault = _FAULTS.get(kind, inherited)
    # A child that keeps its parent's code must not change what the code means.
    found.setdefault(kind.code, fault)
    for child in kind.__subclasses__():
        _by_code(child, fault, found)
    return found


_BY_CODE = _by_code(errors.RouterError, Fault.ROUTER, {}) | _OTHER_CODES


def fault_of(error_code: str) -> Fault:
    """Whose fault a record's error code says it is; the router's where nobody said otherwise.

    Args:
        error_code: as in `RequestRecord.error_code` and `Aggregate.error_codes`.
    """
    return _BY_CODE.get(error_code, Fault.ROUTER)


class Indicator(StrEnum):
    """What is measured. All but `MEAN_LATENCY` and `CAPACITY` are shares of good events among valid ones.

    Requests whose callers left are valid nowhere: nothing is known of how they would have ended.
    """

    AVAILABILITY = "availability"
    """Valid: requests but for callers' and unclear faults. Bad: faults of the router or of providers, and requests
    whose worker died."""
    ERROR_RATE = "error_rate"
    """Valid: requests but for callers' faults. Bad: as above, and unclear faults."""
    LATENCY = "latency"
    """Valid: requests that succeeded. Bad: those that took longer than the threshold."""
    OVERHEAD = "overhead"
    """Valid: requests that were not abandoned. Bad: those in which the router's own time was above the threshold."""
    MEAN_LATENCY = "mean_latency"
    """The mean duration of requests that succeeded, milliseconds. Its budget is time: each request may use as much as
    the objective, so that a burn rate of 1 is a mean that equals it."""
    CAPACITY = "capacity"
    """Requests in the busiest minute, per second. Shows what was served, not what could be: without that much demand it
    is neither met nor missed."""

    @property
    def has_burn_alerts(self) -> bool:
        """Whether burn rates far above 1 can be told from normal ones, which needs good and bad events."""
        return self not in {Indicator.MEAN_LATENCY, Indicator.CAPACITY}


@dataclass(frozen=True, slots=True)
class Slo:
    """A service level objective.

    Attributes:
        name: unique among the tenant's, as alerts name it.
        title: what it promises, in words.
        objective: share of good events; milliseconds for `MEAN_LATENCY`, requests per second for `CAPACITY`.
        threshold_ms: up to which an event of `LATENCY` and `OVERHEAD` is good.
    """

    name: str
    title: str
    indicator: Indicator
    objective: float
    threshold_ms: float | None = None
    window: timedelta = WINDOW

    def __post_init__(self) -> None:
        is_share = self.indicator.has_burn_alerts
        if not (0 < self.objective < 1 if is_share else self.objective > 0):
            raise ValueError("objective: a share between 0 and 1; above 0 for a mean and a capacity")
        if (self.threshold_ms is None) is (self.indicator in {Indicator.LATENCY, Indicator.OVERHEAD}):
            raise ValueError("threshold_ms: of latency and overhead, and of nothing else")

    @property
    def unit(self) -> str:
        """Of the objective: ``share``, ``ms`` or ``requests_per_s``."""
        return {Indicator.MEAN_LATENCY: "ms", Indicator.CAPACITY: "requests_per_s"}.get(self.indicator, "share")


AVAILABILITY = Slo("availability", "more than 99.9% of requests are served", Indicator.AVAILABILITY, 0.999)
BUILT_IN = (
    AVAILABILITY,
    Slo("error-rate", "less than 1% of requests fail", Indicator.ERROR_RATE, 0.99),
    Slo("mean-latency", "requests take less than 2 s on average", Indicator.MEAN_LATENCY, 2_000.0),
    Slo("p95-latency", "95% of requests take less than 5 s", Indicator.LATENCY, 0.95, 5_000.0),
    Slo("overhead-p99", "the router adds at most 15 ms to 99% of requests", Indicator.OVERHEAD, 0.99, 15.0),
    Slo("capacity", "more than 100 requests per second can be served", Indicator.CAPACITY, 100.0),
)
"""The objectives that hold for every tenant without being made."""
