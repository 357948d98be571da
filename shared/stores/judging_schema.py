"""The shape of ``[judging]`` in the policy file. docs/quality.md says what each field does."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

from shared.domain.features import Category
from shared.domain.judging import AUTO, BUDGET_NAME, DEFAULT_RUBRIC, JudgingRules, JudgingShare
from shared.stores.limits_schema import BudgetTable
from shared.stores.registry_fields import Alias, Table, money
from shared.stores.resilience_schema import ServiceName, Share

_MAX_SHARES = 50


class JudgingShareTable(Table):
    """``[[judging.shares]]``."""

    share: Share
    services: Annotated[list[ServiceName], Field(max_length=1_000)] = Field(default_factory=list)
    categories: list[Category] = Field(default_factory=list)

    def to_domain(self) -> JudgingShare:
        """The domain's share."""
        return JudgingShare(self.share, frozenset(self.services), frozenset(self.categories))


class JudgingTable(Table):
    """``[judging]``; what is not given is as in the domain."""

    shares: Annotated[list[JudgingShareTable], Field(max_length=_MAX_SHARES)] = Field(default_factory=list)
    daily_usd: Annotated[
        Decimal, BeforeValidator(money), Field(gt=0, le=1_000_000, decimal_places=6, max_digits=13)
    ] = JudgingRules().daily_usd
    # "auto:quality" has a colon, which no alias has.
    model: Alias | Annotated[str, Field(pattern=rf"^{AUTO}$")] = AUTO
    rubric: Annotated[str, Field(min_length=1, max_length=2_000)] = DEFAULT_RUBRIC

    def to_domain(self, canonical: Mapping[str, str]) -> JudgingRules:
        """The domain's rules; the judge's name becomes the registry's id."""
        return JudgingRules(
            shares=tuple(share.to_domain() for share in self.shares),
            daily_usd=self.daily_usd,
            model=canonical.get(self.model, self.model),
            rubric=self.rubric,
        )


def judging_problems(judging: JudgingTable, budgets: list[BudgetTable], names: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the table against the registry and the budgets.

    Args:
        judging: ``[judging]``.
        budgets: ``[[budgets]]``.
        names: every model id and alias, with the model id it stands for.
    """
    if judging.model != AUTO and judging.model not in names:
        yield f"judging.model: no model {judging.model!r} in the registry"
    if any(budget.name == BUDGET_NAME for budget in budgets):
        yield f"budgets[{BUDGET_NAME}].name: is that of the judge's own budget (judging.daily_usd)"
