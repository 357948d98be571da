"""How hard the router tries: the policy of retries, failover, hedging and the cascade (docs/resilience.md)."""

from dataclasses import dataclass

from shared.domain.weights import Preset


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries and failover of one request, and how many of them a process may make in all.

    Attributes:
        backoff_first_s: longest pause before a deployment is tried a second time; doubles with every further round.
        backoff_most_s: where the doubling ends, and the longest Retry-After that a request waits for.
        share: retries that a process may make for each request, on average. With 0.5 a total brown-out costs the
            vendors one and a half times the traffic, however many attempts a request is allowed.
        reserve: retries that it may make ahead of that share.
        attempt_share: of the time that is left, what one attempt may take while another deployment could still take
            over; never less than three times what the candidate is expected to need.
        first_token_timeout_s: longest wait for the first content of a stream.
        idle_timeout_s: longest silence between two pieces of a stream.
        content_filter_fallback: whether a request that one vendor blocks for its content may be shown to another.
    """

    backoff_first_s: float = 0.2
    backoff_most_s: float = 5.0
    share: float = 0.5
    reserve: int = 50
    attempt_share: float = 0.6
    first_token_timeout_s: float = 60.0
    idle_timeout_s: float = 60.0
    content_filter_fallback: bool = False


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """Who gets a second attempt while the first is late, and for what share of the traffic.

    Attributes:
        presets: requests that are decided by the weights of one of these.
        services: calling services.
        share: hedges per request of the process, on average.
        reserve: hedges that it may make ahead of that share.
        prior_factor: the 95th percentile over the expected latency, until a deployment was observed.
        least_delay_ms: a hedge never starts earlier than this.
    """

    presets: frozenset[Preset] = frozenset()
    services: frozenset[str] = frozenset()
    share: float = 0.05
    reserve: int = 5
    prior_factor: float = 3.0
    least_delay_ms: float = 50.0


@dataclass(frozen=True, slots=True)
class CascadePolicy:
    """When a cheap model is tried first, and when its answer is good enough.

    Attributes:
        presets: requests that are decided by the weights of one of these.
        services: calling services.
        callers: whether a request may ask for the cascade itself (`router.cascade`).
        least_quality: expected quality in [0, 1] below which a model is not tried first.
        most_cost_share: expected cost of the first answer, with its checks, over that of the best model, above which
            nothing would be saved.
        time_share: of the time that is left, what the first answer and its checks may take.
        samples: answers of the cheap model that are held against each other; 1 does without.
        agreement: least similarity in [0, 1] of those answers.
        judge: the model that is asked whether the answer is right; None does without. It sees the request, so it is
            only asked where it is eligible for it.
    """

    presets: frozenset[Preset] = frozenset()
    services: frozenset[str] = frozenset()
    callers: bool = True
    least_quality: float = 0.6
    most_cost_share: float = 0.5
    time_share: float = 0.5
    samples: int = 1
    agreement: float = 0.6
    judge: str | None = None
