"""The shape of ``[services.*.cache]`` in the policy file. docs/caching.md says what each field does."""

from typing import Annotated

from pydantic import AfterValidator, Field

from shared.domain.caching import MAX_TTL_S, CachePolicy, CacheScope
from shared.domain.features import Category
from shared.domain.security import SecurityLevel
from shared.stores.registry_fields import Level, Table, storable_level


class CacheTable(Table):
    """``[services.*.cache]``: the service opts in to reuse of answers."""

    ttl_s: Annotated[int, Field(ge=1, le=MAX_TTL_S)]
    scope: CacheScope = CacheScope.SERVICE
    semantic: bool = False
    thresholds: dict[Category, Annotated[float, Field(ge=0.5, le=1, allow_inf_nan=False)]] = Field(default_factory=dict)
    sampled: bool = False
    tools: bool = False
    max_level: Annotated[Level, AfterValidator(storable_level)] = SecurityLevel.INTERNAL
    max_answer_bytes: Annotated[int, Field(ge=1024, le=4 * 2**20)] = 256 * 1024

    def to_domain(self) -> CachePolicy:
        """The domain's rules."""
        return CachePolicy(
            ttl_s=self.ttl_s,
            scope=self.scope,
            semantic=self.semantic,
            thresholds=self.thresholds,
            sampled=self.sampled,
            tools=self.tools,
            max_level=self.max_level,
            max_answer_bytes=self.max_answer_bytes,
        )
