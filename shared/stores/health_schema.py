"""The shape of ``[health]`` in the policy file; docs/resilience.md explains it."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from shared.domain.health import HealthRules
from shared.stores.registry_fields import Table

_RULES = HealthRules()
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


class HealthTable(Table):
    """``[health]``; what is not given is as in the domain. A minimum of two calls: one failure proves nothing."""

    window_s: Annotated[int, Field(ge=1, le=600)] = _RULES.window_s
    minimum_calls: Annotated[int, Field(ge=2, le=1_000_000)] = _RULES.minimum_calls
    failure_rate: Rate = _RULES.failure_rate
    slow_rate: Rate = _RULES.slow_rate
    slow_ttft_ms: Milliseconds = _RULES.slow_ttft_ms
    slow_call_ms: Milliseconds = _RULES.slow_call_ms
    fair_timeout_ms: Milliseconds = _RULES.fair_timeout_ms
    open_s: Annotated[int, Field(ge=1, le=3_600)] = _RULES.open_s
    max_open_s: Annotated[int, Field(ge=1, le=3_600)] = _RULES.max_open_s
    max_cooldown_s: Annotated[int, Field(ge=1, le=86_400)] = _RULES.max_cooldown_s
    assumed_workers: Annotated[int, Field(ge=1, le=10_000)] = _RULES.assumed_workers

    def to_domain(self) -> HealthRules:
        """The domain's rules."""
        return HealthRules(**self.model_dump())


def health_problems(health: HealthTable) -> Iterator[str]:
    """What is wrong between the fields."""
    if health.open_s > health.max_open_s:
        yield "health.open_s: is above max_open_s"
    if round(health.failure_rate * health.minimum_calls, 9) <= 1:
        yield "health.failure_rate: with this minimum_calls a single failure would open a breaker"
    if round(health.slow_rate * health.minimum_calls, 9) <= 1:
        yield "health.slow_rate: with this minimum_calls a single slow call would open a breaker"
