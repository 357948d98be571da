"""Generated worlds and requests, for the laws of receipts."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from shared.domain.chat import Modality
from shared.domain.features import AttachmentFeatures, Category, ComplexityLevel, Reason, RequestFeatures
from shared.domain.forecasts import FORECAST_SCALE, QualityForecast
from shared.domain.models import Deployment, ModelProfile, Registry
from shared.domain.policy import (
    Balancing,
    Policy,
    Preset,
    QualityRules,
    RoutingConstraints,
    ServicePolicy,
    UnknownTask,
    Weights,
)
from shared.domain.security import Finding, SecurityLevel
from shared.scoring.engine import Question
from shared.scoring.receipt import Deliberation, deliberate
from shared.scoring.snapshot import Signals, Snapshot
from tests.unit.routing_builders import ABLE, PRESETS, deployment, model, registry

ZONES = ("eu", "us", "global")
shares = st.floats(0, 1)
levels = st.sampled_from(SecurityLevel)
zones = st.frozensets(st.sampled_from(ZONES), max_size=2)
instants = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
weights = st.builds(Weights, shares, shares, shares, shares, shares).filter(lambda w: w.quality + w.cost > 0.01)
findings = st.builds(
    Finding, st.sampled_from(["email", "iban"]), levels, texts, st.integers(0, 9999), st.integers(0, 9999), shares
)
attachments = st.builds(
    AttachmentFeatures,
    location=texts,
    modality=st.sampled_from(Modality),
    declared_mime_type=texts,
    detected_mime_type=st.none() | texts,
    size_bytes=st.integers(0, 2**40),
    mismatch=st.booleans(),
)


@st.composite
def request_features(draw: st.DrawFn) -> RequestFeatures:
    return RequestFeatures(
        content_type=draw(texts),
        category=draw(st.sampled_from(Category)),
        category_confidence=draw(shares),
        language=draw(st.sampled_from(["en", "de", "und"])),
        prompt_tokens=draw(st.integers(0, 200_000)),
        expected_output_tokens=draw(st.integers(1, 10_000)),
        complexity=draw(shares),
        complexity_level=draw(st.sampled_from(ComplexityLevel)),
        security_level=draw(levels),
        modalities=draw(st.frozensets(st.sampled_from(Modality), max_size=2)),
        needs_tools=draw(st.booleans()),
        needs_json_schema=draw(st.booleans()),
        max_output_tokens=draw(st.none() | st.integers(1, 20_000)),
        attachments=draw(st.lists(attachments, max_size=2).map(tuple)),
        findings=draw(st.lists(findings, max_size=4).map(tuple)),
        reasons=draw(st.lists(st.builds(Reason, texts, shares), max_size=3).map(tuple)),
        category_probabilities=draw(st.lists(st.tuples(st.sampled_from(Category), shares), max_size=3).map(tuple)),
    )


constraints = st.builds(
    RoutingConstraints,
    model=st.none() | st.sampled_from(["m0", "m1"]),
    allow_fallback=st.booleans(),
    preset=st.none() | st.sampled_from(Preset),
    weights=st.none() | weights,
    allow_models=st.frozensets(st.sampled_from(["m0", "m1", "m2", "m3"]), max_size=3),
    deny_models=st.frozensets(st.sampled_from(["m0", "m1"]), max_size=1),
    residency=zones,
    max_cost_usd=st.none() | st.decimals("0.0001", "1", places=4),
    max_latency_ms=st.none() | st.floats(1, 60_000),
    label=st.none() | levels,
)
questions = st.builds(
    Question,
    features=request_features(),
    constraints=constraints,
    service=st.sampled_from(["shop", "other"]),
    stream=st.booleans(),
    tags=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
)
figures = st.integers(0, FORECAST_SCALE)


def forecasts(models: int) -> st.SearchStrategy[QualityForecast]:
    """Forecasts for a registry of that many models."""
    column = st.lists(figures, min_size=models, max_size=models).map(tuple)
    return st.builds(QualityForecast, st.just("v"), figures, column, column)


signals = st.builds(
    Signals,
    success_rate=shares,
    in_flight=st.integers(0, 200),
    ttft_ms=st.none() | st.floats(1, 60_000),
    cooling_down=st.booleans(),
    returns_in_s=st.sampled_from([0.0, 12.5]),
)


@st.composite
def registries(draw: st.DrawFn) -> Registry:
    pairs: list[tuple[ModelProfile, Deployment]] = []
    for index in range(draw(st.integers(1, 4))):
        price = draw(st.decimals("0.01", "30", places=2))
        able = replace(ABLE, tools=draw(st.booleans()), modalities=frozenset(Modality))
        profile = model(f"m{index}", price=str(price), quality=draw(shares), capabilities=able)
        for zone in draw(st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True)):
            changes: dict[str, Any] = {"clearance": draw(levels), "residency": frozenset({zone})}
            pairs.append((profile, deployment(profile.id, zone, weight=draw(st.floats(0.5, 5)), **changes)))
    return registry(*pairs)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    shop = ServicePolicy(
        max_level=draw(levels), residency=draw(zones), preset=draw(st.none() | st.sampled_from(Preset))
    )
    return Policy(
        version="policy-1",
        presets=PRESETS,
        services={"shop": shop},
        exploration=draw(st.sampled_from([0.0, 0.1, 0.5])),
        temperature=draw(st.sampled_from([0.0, 0.05, 1.0])),
        cost_reference_usd=draw(st.floats(0.001, 1)),
        latency_reference_ms=draw(st.floats(100, 20_000)),
        quality=QualityRules(
            caution=draw(st.sampled_from([0.0, 0.25, 2.0])),
            guarded=draw(st.frozensets(st.sampled_from(Preset))),
            unknown_by=draw(st.frozensets(st.sampled_from(UnknownTask))),
            familiar_from=draw(st.sampled_from([0.0, 0.5, 0.8])),
        ),
        balancing=Balancing(enabled=draw(st.booleans()), tolerance=draw(st.sampled_from([0.0, 0.02, 1.0]))),
    )


@st.composite
def deliberations(draw: st.DrawFn) -> Deliberation:
    """A decision or a refusal in a generated world; some wire forms cannot carry some requests."""
    shelf = draw(registries())
    ids = [d.id for d in shelf.deployments]
    seen = draw(st.dictionaries(st.sampled_from(ids), signals, max_size=len(ids)))
    refused = draw(st.dictionaries(st.sampled_from(ids), texts.filter(bool), max_size=1))
    snapshot = Snapshot(shelf, draw(policies()), draw(instants), seen)
    number = draw(st.floats(0, 1, exclude_max=True))
    forecast = draw(st.none() | forecasts(len(shelf.models)))
    question = replace(draw(questions), forecast=forecast)
    return deliberate(question, snapshot, number, lambda _profile, where: refused.get(where.id))
