"""Small builders of domain objects, so that tests name only what they are about."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from shared.domain.chat import Modality
from shared.domain.features import Category, ComplexityLevel, RequestFeatures
from shared.domain.models import (
    Capabilities,
    Deployment,
    ModelProfile,
    PricePeriod,
    PriceTier,
    ProviderKind,
    QualityPrior,
    Rates,
    Registry,
)
from shared.domain.policy import Policy, Preset, Weights
from shared.domain.security import SecurityLevel
from shared.scoring.snapshot import Signals, Snapshot

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

ABLE = Capabilities(
    modalities=frozenset({Modality.TEXT, Modality.IMAGE}),
    tools=True,
    parallel_tools=True,
    json_object=True,
    json_schema=True,
    thinking=True,
)


def model(model_id: str = "m", *, price: str = "1", quality: float = 0.8, **changes: Any) -> ModelProfile:
    rate = Decimal(price)
    profile = ModelProfile(
        id=model_id,
        publisher="test",
        display_name=model_id,
        context_window_tokens=100_000,
        max_output_tokens=8_000,
        capabilities=ABLE,
        prices=(PricePeriod(date(2020, 1, 1), (PriceTier(Rates(rate, rate * 4)),)),),
        quality={"overall": QualityPrior(quality, 10, "test")},
        ttft_ms=300.0,
        tokens_per_s=100.0,
    )
    return replace(profile, **changes)


def deployment(model_id: str = "m", region: str = "europe-west4", **changes: Any) -> Deployment:
    base = Deployment(
        id=f"{model_id}@{region}",
        model_id=model_id,
        provider=ProviderKind.GEMINI,
        target=model_id,
        region=region,
        residency=frozenset({"eu"}),
        clearance=SecurityLevel.CONFIDENTIAL,
    )
    return replace(base, **changes)


def registry(*pairs: tuple[ModelProfile, Deployment], aliases: Mapping[str, str] | None = None) -> Registry:
    return Registry(
        version="registry-1",
        models={profile.id: profile for profile, _ in pairs},
        deployments=tuple(d for _, d in pairs),
        aliases=aliases or {},
    )


PRESETS = {
    Preset.BALANCED: Weights(0.5, 0.25, 0.1, 0.1, 0.05),
    Preset.COST: Weights(0.2, 0.6, 0.05, 0.1, 0.05),
    Preset.QUALITY: Weights(0.9, 0.02, 0.02, 0.05, 0.01),
    Preset.LATENCY: Weights(0.2, 0.1, 0.55, 0.1, 0.05),
}


def policy(**changes: Any) -> Policy:
    return replace(Policy(version="policy-1", presets=PRESETS), **changes)


def snapshot(
    shelf: Registry, rules: Policy | None = None, *, now: datetime = NOW, signals: Mapping[str, Signals] | None = None
) -> Snapshot:
    return Snapshot(shelf, rules or policy(), now, signals or {})


def features(**changes: Any) -> RequestFeatures:
    base = RequestFeatures(
        content_type="prose",
        category=Category.QUESTION_ANSWERING,
        category_confidence=0.9,
        language="en",
        prompt_tokens=100,
        expected_output_tokens=200,
        complexity=0.5,
        complexity_level=ComplexityLevel.MEDIUM,
        security_level=SecurityLevel.PUBLIC,
        modalities=frozenset({Modality.TEXT}),
    )
    return replace(base, **changes)


def no_limit(profile: ModelProfile, where: Deployment) -> str | None:
    return None
