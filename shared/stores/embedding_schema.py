"""``[[embedding_model]]`` of the registry files: models that give vectors instead of answers."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from shared.domain.models import (
    Capabilities,
    EmbeddingTraits,
    ModelProfile,
    PricePeriod,
    PriceTier,
    ProviderKind,
    QualityPrior,
    Rates,
)
from shared.stores.registry_fields import Alias, Factor, ModelId, Table, Text, Tokens, Usd, price_start_problems
from shared.stores.registry_schema import OVERALL, DeploymentTable, LifecycleTable

MAX_REQUEST_TOKENS = 300_000
"""Of all texts of a request together (https://platform.openai.com/docs/api-reference/embeddings/create)."""
_NO_RANKING = QualityPrior(0.5, 1.0, "vectors of different models cannot be compared, so no choice is made by quality")
_Dimensions = Annotated[int, Field(ge=1, le=16_384)]


class EmbeddingPriceTable(Table):
    """``[[embedding_model.price]]``: the rate in force from a day on, and where it was read. Only input is billed."""

    effective_from: date
    source: Text
    input: Usd
    region_multipliers: dict[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9-]*)$")], Factor] = Field(
        default_factory=dict
    )

    def to_domain(self) -> PricePeriod:
        """The domain's period."""
        return PricePeriod(
            self.effective_from, (PriceTier(Rates(self.input, Decimal(0))),), dict(self.region_multipliers)
        )


class EmbeddingModelTable(Table):
    """``[[embedding_model]]``."""

    id: ModelId
    publisher: ModelId
    display_name: Text
    aliases: list[Alias] = Field(default_factory=list)
    dimensions: _Dimensions
    min_dimensions: _Dimensions
    max_input_tokens: Tokens
    max_texts_per_call: Annotated[int, Field(ge=1, le=10_000)]
    max_tokens_per_call: Tokens
    chars_per_token: Annotated[float, Field(ge=0.5, le=20, allow_inf_nan=False)] = 4.0
    latency_ms: Annotated[float, Field(gt=0, le=600_000, allow_inf_nan=False)]
    latency_source: Text
    lifecycle: LifecycleTable
    price: Annotated[list[EmbeddingPriceTable], Field(min_length=1, max_length=100)]

    def to_domain(self) -> ModelProfile:
        """The domain's profile."""
        return ModelProfile(
            id=self.id,
            publisher=self.publisher,
            display_name=self.display_name,
            context_window_tokens=MAX_REQUEST_TOKENS,
            max_output_tokens=1,
            capabilities=Capabilities(streaming=False, system=False, sampling=False),
            prices=tuple(period.to_domain() for period in self.price),
            quality={OVERALL: _NO_RANKING},
            ttft_ms=self.latency_ms,
            tokens_per_s=1e6,
            lifecycle=self.lifecycle.to_domain(),
            price_source="; ".join(dict.fromkeys(period.source for period in self.price)),
            chars_per_token=self.chars_per_token,
            embedding=EmbeddingTraits(
                dimensions=self.dimensions,
                min_dimensions=self.min_dimensions,
                max_input_tokens=self.max_input_tokens,
                max_texts_per_call=self.max_texts_per_call,
                max_tokens_per_call=self.max_tokens_per_call,
            ),
        )


def embedding_model_problems(model: EmbeddingModelTable) -> Iterator[str]:
    """What is wrong with one model."""
    if model.min_dimensions > model.dimensions:
        yield "min_dimensions: larger than dimensions"
    if model.max_input_tokens > model.max_tokens_per_call:
        yield "max_tokens_per_call: smaller than max_input_tokens, so the longest text would never fit"
    yield from price_start_problems([period.effective_from for period in model.price], model.lifecycle.available_from)


def kind_problems(deployment: DeploymentTable, *, embeds: bool) -> Iterator[str]:
    """Whether the provider of a deployment fits the kind of its model."""
    if embeds != (deployment.provider is ProviderKind.TEXT_EMBEDDING):
        word = "gives vectors" if embeds else "gives answers"
        yield f"provider: {deployment.provider} does not fit model {deployment.model!r}, which {word}"
