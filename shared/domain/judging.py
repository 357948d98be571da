"""Which answers are judged by another model, how, and for how much money: the policy's ``[judging]``."""

from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256

from shared.domain.budgets import Budget, Period
from shared.domain.features import Category
from shared.domain.pricing import to_micro_usd
from shared.domain.scopes import Per, Scope

JUDGE_SERVICE = "router-judge"
"""The service that judging is recorded and charged as, in each tenant."""
BUDGET_NAME = "router-judging"
AUTO = "auto:quality"
"""The judge is chosen by the engine, for quality."""
DEFAULT_RUBRIC = (
    "5: correct and complete, in the form that was asked for. 4: correct, something minor is missing. 3: useful, but "
    "with a mistake or a gap that matters. 2: mostly wrong or beside the question. 1: wrong, harmful, or no answer."
)


@dataclass(frozen=True, slots=True)
class JudgingShare:
    """How much of some requests is judged. Empty sets do not restrict.

    Attributes:
        share: of their answers, 0 to 1, drawn at random.
        services: of these calling services.
        categories: of these task categories.
    """

    share: float
    services: frozenset[str] = frozenset()
    categories: frozenset[Category] = frozenset()

    def holds(self, service: str, category: str) -> bool:
        """Whether it is for such a request."""
        return (not self.services or service in self.services) and (not self.categories or category in self.categories)


@dataclass(frozen=True, slots=True)
class JudgingRules:
    """What is judged, by whom, and for how much.

    Attributes:
        shares: the first that holds a request counts; nothing is judged of the others.
        daily_usd: most that a tenant's verdicts cost in a UTC day; held before each call, like any budget.
        model: `AUTO`, or a model's id.
        rubric: what the points mean.
    """

    shares: tuple[JudgingShare, ...] = ()
    daily_usd: Decimal = Decimal(1)
    model: str = AUTO
    rubric: str = DEFAULT_RUBRIC

    def share_of(self, service: str, category: str) -> float:
        """How likely an answer is judged."""
        return next((one.share for one in self.shares if one.holds(service, category)), 0.0)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What bounds the cost; none where nothing is judged."""
        if not any(one.share for one in self.shares):
            return ()
        scope = Scope(Per.SERVICE, services=frozenset({JUDGE_SERVICE}))
        return (Budget(BUDGET_NAME, Period.DAY, scope, hard_micro_usd=to_micro_usd(self.daily_usd)),)

    @property
    def rubric_id(self) -> str:
        """Verdicts of the same one compare."""
        return sha256(self.rubric.encode()).hexdigest()[:16]
