"""The shape of ``[retries]``, ``[hedging]`` and ``[cascade]`` in the policy file; docs/resilience.md explains them."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from shared.domain.resilience import CascadePolicy, HedgePolicy, RetryPolicy
from shared.domain.weights import Preset
from shared.stores.registry_fields import Alias, Table

Seconds = Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Part = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]

_RETRY, _HEDGE, _CASCADE = RetryPolicy(), HedgePolicy(), CascadePolicy()


class RetriesTable(Table):
    """``[retries]``."""

    backoff_first_s: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = _RETRY.backoff_first_s
    backoff_most_s: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = _RETRY.backoff_most_s
    share: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = _RETRY.share
    reserve: Annotated[int, Field(ge=0, le=1_000_000)] = _RETRY.reserve
    attempt_share: Part = _RETRY.attempt_share
    first_token_timeout_s: Seconds = _RETRY.first_token_timeout_s
    idle_timeout_s: Seconds = _RETRY.idle_timeout_s
    content_filter_fallback: bool = _RETRY.content_filter_fallback

    def to_domain(self) -> RetryPolicy:
        """The domain's policy of retries."""
        return RetryPolicy(**self.model_dump())


class HedgingTable(Table):
    """``[hedging]``."""

    presets: list[Preset] = Field(default_factory=list)
    services: list[ServiceName] = Field(default_factory=list)
    share: Share = _HEDGE.share
    reserve: Annotated[int, Field(ge=1, le=1_000_000)] = _HEDGE.reserve
    prior_factor: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = _HEDGE.prior_factor
    least_delay_ms: Annotated[float, Field(ge=0, le=600_000, allow_inf_nan=False)] = _HEDGE.least_delay_ms

    def to_domain(self) -> HedgePolicy:
        """The domain's policy of hedging."""
        values = self.model_dump(exclude={"presets", "services"})
        return HedgePolicy(presets=frozenset(self.presets), services=frozenset(self.services), **values)


class CascadeTable(Table):
    """``[cascade]``."""

    presets: list[Preset] = Field(default_factory=list)
    services: list[ServiceName] = Field(default_factory=list)
    callers: bool = _CASCADE.callers
    least_quality: Share = _CASCADE.least_quality
    most_cost_share: Part = _CASCADE.most_cost_share
    time_share: Part = _CASCADE.time_share
    samples: Annotated[int, Field(ge=1, le=5)] = _CASCADE.samples
    agreement: Share = _CASCADE.agreement
    judge: Alias | None = None

    def to_domain(self, canonical: Mapping[str, str]) -> CascadePolicy:
        """The domain's policy of the cascade; the judge's name becomes the registry's id."""
        values = self.model_dump(exclude={"presets", "services", "judge"})
        judge = None if self.judge is None else canonical.get(self.judge, self.judge)
        return CascadePolicy(presets=frozenset(self.presets), services=frozenset(self.services), judge=judge, **values)


def resilience_problems(retries: RetriesTable, cascade: CascadeTable, names: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with these tables.

    Args:
        retries: ``[retries]``.
        cascade: ``[cascade]``.
        names: every model id and alias, with the model id it stands for.
    """
    if retries.backoff_first_s > retries.backoff_most_s:
        yield "retries.backoff_first_s: is above backoff_most_s"
    if cascade.judge is not None and cascade.judge not in names:
        yield f"cascade.judge: no model {cascade.judge!r} in the registry"
