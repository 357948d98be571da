"""Embedding models for tests that name only what they are about."""

from datetime import date
from decimal import Decimal

from shared.domain.models import EmbeddingTraits, PricePeriod, PriceTier, ProviderKind, Rates
from tests.unit.routing_builders import deployment, model

TRAITS = EmbeddingTraits(
    dimensions=4, min_dimensions=2, max_input_tokens=2048, max_texts_per_call=3, max_tokens_per_call=20_000
)


def embedding_model(model_id="e", *, price="1", **changes):
    """One whose input costs `price` USD per million tokens."""
    tier = PriceTier(Rates(Decimal(price), Decimal(0)))
    given = {"prices": (PricePeriod(date(2020, 1, 1), (tier,)),), "embedding": TRAITS}
    return model(model_id, **{**given, **changes})


def embedding_deployment(model_id="e", region="europe-west4", **changes):
    return deployment(model_id, region, provider=ProviderKind.TEXT_EMBEDDING, **changes)
