"""Ranking models for tests that name only what they are about."""

from datetime import date
from decimal import Decimal

from shared.domain.models import PricePeriod, PriceTier, ProviderKind, RankingTraits, Rates
from tests.unit.routing_builders import deployment, model

TRAITS = RankingTraits(max_texts=200, max_text_tokens=1024, texts_per_query=100)


def ranking_model(model_id="ranker", **changes):
    """One that costs a USD for 1,000 queries."""
    tier = PriceTier(Rates(Decimal(0), Decimal(1000)))
    given = {
        "prices": (PricePeriod(date(2020, 1, 1), (tier,)),),
        "ranking": TRAITS,
        "max_output_tokens": 2,
        "context_window_tokens": 1_000_000,
    }
    return model(model_id, **{**given, **changes})


def ranking_deployment(model_id="ranker", region="global", **changes):
    return deployment(model_id, region, provider=ProviderKind.RANKING, **changes)
