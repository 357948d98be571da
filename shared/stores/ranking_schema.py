"""``[[ranking_model]]`` of the registry files: models that rank texts by how well they answer a question."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from shared.domain.models import (
    Capabilities,
    ModelProfile,
    PricePeriod,
    PriceTier,
    ProviderKind,
    QualityPrior,
    RankingTraits,
    Rates,
)
from shared.stores.registry_fields import Alias, ModelId, Table, Text, Tokens, Usd, price_start_problems
from shared.stores.registry_schema import OVERALL, DeploymentTable, LifecycleTable

_NO_RANKING = QualityPrior(0.5, 1.0, "the policy names the ranking model, so no choice is made by quality")
_QUERIES_PER_PRICE = 1_000
_MILLION = 1_000_000
_Texts = Annotated[int, Field(ge=1, le=10_000)]


class RankingPriceTable(Table):
    """``[[ranking_model.price]]``: USD for 1,000 queries from a day on, and where that was read."""

    effective_from: date
    source: Text
    usd_per_1000_queries: Usd

    def to_domain(self) -> PricePeriod:
        """The domain's period, with a query as a token of output (`RankingTraits`)."""
        rate = self.usd_per_1000_queries * (_MILLION // _QUERIES_PER_PRICE)
        return PricePeriod(self.effective_from, (PriceTier(Rates(Decimal(0), rate)),))


class RankingModelTable(Table):
    """``[[ranking_model]]``."""

    id: ModelId
    publisher: ModelId
    display_name: Text
    aliases: list[Alias] = Field(default_factory=list)
    max_texts: _Texts
    max_text_tokens: Tokens
    texts_per_query: _Texts
    latency_ms: Annotated[float, Field(gt=0, le=600_000, allow_inf_nan=False)]
    latency_source: Text
    lifecycle: LifecycleTable
    price: Annotated[list[RankingPriceTable], Field(min_length=1, max_length=100)]

    def to_domain(self) -> ModelProfile:
        """The domain's profile."""
        traits = RankingTraits(self.max_texts, self.max_text_tokens, self.texts_per_query)
        return ModelProfile(
            id=self.id,
            publisher=self.publisher,
            display_name=self.display_name,
            # Longer texts are cut by the vendor and refused by nobody.
            context_window_tokens=_MILLION,
            max_output_tokens=traits.queries(self.max_texts),
            capabilities=Capabilities(streaming=False, system=False, sampling=False),
            prices=tuple(period.to_domain() for period in self.price),
            quality={OVERALL: _NO_RANKING},
            ttft_ms=self.latency_ms,
            tokens_per_s=1e6,
            lifecycle=self.lifecycle.to_domain(),
            price_source="; ".join(dict.fromkeys(period.source for period in self.price)),
            ranking=traits,
        )


def ranking_model_problems(model: RankingModelTable) -> Iterator[str]:
    """What is wrong with one model."""
    yield from price_start_problems([period.effective_from for period in model.price], model.lifecycle.available_from)


def ranking_problems(deployment: DeploymentTable, *, ranks: bool) -> Iterator[str]:
    """Whether the provider of a deployment fits a model that ranks, or does not."""
    if ranks != (deployment.provider is ProviderKind.RANKING):
        word = "ranks" if ranks else "does not rank"
        yield f"provider: {deployment.provider} does not fit model {deployment.model!r}, which {word}"
