"""The shape of ``[[rate_limits]]`` and ``[[budgets]]`` in the policy file. docs/limits.md says what they mean."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from shared.domain.budgets import Budget, Period
from shared.domain.limits import EndpointClass, RateLimit, WhenAway
from shared.domain.pricing import to_micro_usd
from shared.domain.scopes import Per, Scope
from shared.stores.registry_fields import Table, money

MAX_LIMITS = 100
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
_Value = Annotated[str, Field(min_length=1, max_length=512)]
_Values = Annotated[list[_Value], Field(max_length=1_000)]
_TagKey = Annotated[str, Field(min_length=1, max_length=64)]
_Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
_Money = Annotated[Decimal, BeforeValidator(money), Field(gt=0, le=1_000_000_000, decimal_places=6, max_digits=16)]


class ScopeTable(Table):
    """Whose requests count, and which of them together."""

    name: _Name
    per: Per = Per.SERVICE
    tag: _TagKey | None = None
    values: _Values = Field(default_factory=list)
    services: _Values = Field(default_factory=list)
    tenants: _Values = Field(default_factory=list)

    def scope(self) -> Scope:
        """The domain's scope."""
        return Scope(self.per, self.tag, frozenset(self.values), frozenset(self.services), frozenset(self.tenants))


class RateLimitTable(ScopeTable):
    """``[[rate_limits]]``."""

    classes: list[EndpointClass] = Field(default_factory=list)
    requests_per_minute: _Count | None = None
    request_burst: _Count | None = None
    tokens_per_minute: _Count | None = None
    token_burst: _Count | None = None
    concurrent: Annotated[int, Field(ge=1, le=100_000)] | None = None
    low_priority_share: _Share = 0.8
    when_redis_is_away: WhenAway = WhenAway.LOCAL
    local_share: _Share = 0.25

    def to_domain(self) -> RateLimit:
        """The domain's rule."""
        return RateLimit(
            name=self.name,
            scope=self.scope(),
            classes=frozenset(self.classes),
            requests_per_minute=self.requests_per_minute,
            request_burst=self.request_burst,
            tokens_per_minute=self.tokens_per_minute,
            token_burst=self.token_burst,
            concurrent=self.concurrent,
            low_priority_share=self.low_priority_share,
            when_away=self.when_redis_is_away,
            local_share=self.local_share,
        )


class BudgetTable(ScopeTable):
    """``[[budgets]]``."""

    period: Period
    hard_usd: _Money | None = None
    soft_usd: _Money | None = None
    when_redis_is_away: Literal["open", "closed"] = "closed"

    def to_domain(self) -> Budget:
        """The domain's rule."""
        return Budget(
            name=self.name,
            period=self.period,
            scope=self.scope(),
            hard_micro_usd=None if self.hard_usd is None else to_micro_usd(self.hard_usd),
            soft_micro_usd=None if self.soft_usd is None else to_micro_usd(self.soft_usd),
            open_when_away=self.when_redis_is_away == "open",
        )


def limit_problems(rate_limits: Iterable[RateLimitTable], budgets: Iterable[BudgetTable]) -> Iterator[str]:
    """What must hold between the fields of each, and between their names."""
    seen: set[tuple[str, str]] = set()
    for kind, tables in (("rate_limits", rate_limits), ("budgets", budgets)):
        for table in tables:
            where = f"{kind}[{table.name}]"
            if (kind, table.name) in seen:
                yield f"{where}.name: is given more than once"
            seen.add((kind, table.name))
            if (table.per is Per.TAG) != (table.tag is not None):
                yield f'{where}.tag: per = "tag" needs the tag\'s key, and nothing else has one'
            found = _rate_problems(table) if isinstance(table, RateLimitTable) else _budget_problems(table)
            yield from (f"{where}.{problem}" for problem in found)


def _rate_problems(table: RateLimitTable) -> Iterator[str]:
    if table.requests_per_minute is None and table.tokens_per_minute is None and table.concurrent is None:
        yield "requests_per_minute: a limit needs this, tokens_per_minute or concurrent"
    if table.request_burst is not None and table.requests_per_minute is None:
        yield "request_burst: has no meaning without requests_per_minute"
    if table.token_burst is not None and table.tokens_per_minute is None:
        yield "token_burst: has no meaning without tokens_per_minute"


def _budget_problems(table: ScopeTable) -> Iterator[str]:
    if not isinstance(table, BudgetTable):
        return
    if table.hard_usd is None and table.soft_usd is None:
        yield "hard_usd: a budget needs this or soft_usd"
    if table.hard_usd is not None and table.soft_usd is not None and table.soft_usd > table.hard_usd:
        yield "soft_usd: is above hard_usd"
