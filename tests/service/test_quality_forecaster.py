"""Forecasts: what is read of a request, what is not asked of the predictor, and that decisions hold them."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from shared.domain.chat import (
    ChatRequest,
    MediaPart,
    Message,
    Modality,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from shared.domain.features import Category
from shared.domain.forecasts import FORECAST_SCALE
from shared.domain.models import QualityPrior
from shared.domain.policy import QualityRules, RoutingConstraints
from shared.learning.quality_model import QualityModel
from shared.scoring.receipt import digest_of, read_receipt, replay
from shared.services.forecasting import QualityForecaster
from shared.services.shelf import Shelf
from shared.stores.memory import ManualClock
from shared.telemetry import RecordingTelemetry
from tests.service.routing_doubles import healthy
from tests.service.routing_world import SHELF, World
from tests.unit.learning_builders import artefact
from tests.unit.routing_builders import deployment, features, model, policy, registry, snapshot

KNOWN = "sum add number sum add sum hard 1"
"""A prompt as the made-up training corpus has them."""
PICTURE = MediaPart(Modality.IMAGE, "image/png", data=b"\x89PNG")


@pytest.fixture(scope="module")
def predictor() -> QualityModel:
    return QualityModel.from_bytes(artefact())


@pytest.fixture
def forecaster(predictor) -> QualityForecaster:
    return QualityForecaster(predictor)


def asked(*turns: Message | str, system: str = "") -> ChatRequest:
    said = tuple(t if isinstance(t, Message) else Message(Role.USER, (TextPart(t),)) for t in turns)
    return ChatRequest(said, system=system)


def test_figures_are_the_predictors_in_the_order_of_model_ids(forecaster, predictor):
    forecast = forecaster.forecast(asked(KNOWN), features(category=Category.MATH), SHELF)

    priors = [SHELF.models[model_id].quality for model_id in ("a", "b")]
    abilities = predictor.abilities_from_priors(priors, Category.MATH)
    expected = predictor.predict(predictor.embed(KNOWN), abilities)
    assert forecast.version == predictor.version == "test-1"
    assert np.array(forecast.mean) / FORECAST_SCALE == pytest.approx(expected.mean, abs=1e-4)
    assert np.array(forecast.std) / FORECAST_SCALE == pytest.approx(expected.std, abs=1e-4)
    assert forecast.familiarity / FORECAST_SCALE == pytest.approx(float(expected.familiarity), abs=1e-4)
    assert forecast.familiarity > 0
    assert forecast.mean[0] > forecast.mean[1]


def test_the_order_of_the_registry_file_does_not_matter(forecaster):
    pairs = [(model(name, quality=quality), deployment(name)) for name, quality in (("z", 0.9), ("k", 0.5), ("b", 0.7))]
    one = forecaster.forecast(asked(KNOWN), features(), registry(*pairs))
    other = forecaster.forecast(asked(KNOWN), features(), registry(*reversed(pairs)))
    assert one == other
    assert one.mean[1] < one.mean[0] < one.mean[2]


@pytest.mark.parametrize(
    ("request_", "changes"),
    [
        (asked(Message(Role.USER, (PICTURE,))), {"modalities": frozenset({Modality.TEXT, Modality.IMAGE})}),
        (asked(Message(Role.USER, (TextPart(KNOWN), PICTURE))), {"modalities": frozenset(Modality)}),
        (asked(KNOWN), {"needs_tools": True}),
        (asked(" \n"), {}),
        (asked(Message(Role.ASSISTANT, (TextPart(KNOWN),))), {}),
    ],
    ids=["only media", "media beside text", "tools", "blank", "no user turn"],
)
def test_what_training_never_had_is_expected_at_the_priors_and_unfamiliar(forecaster, request_, changes):
    profile = replace(model("m", quality=0.8), quality={
        "overall": QualityPrior(0.8, 15, "test"), "math": QualityPrior(0.5, 3, "test"),
    })  # fmt: skip
    shelf = registry((profile, deployment("m")))

    in_general = forecaster.forecast(request_, features(**changes), shelf)
    in_math = forecaster.forecast(request_, features(category=Category.MATH, **changes), shelf)

    # The deviation of a share of 0.8 seen 15 times, and of 0.5 seen 3 times, one pseudo-observation added.
    assert (in_general.familiarity, in_general.mean, in_general.std) == (0, (8000,), (1000,))
    assert (in_math.familiarity, in_math.mean, in_math.std) == (0, (5000,), (2500,))


def test_of_a_conversation_the_last_user_turn_is_read_and_the_rest_is_unfamiliar(forecaster):
    alone = forecaster.forecast(asked(KNOWN), features(), SHELF)
    before = Message(Role.ASSISTANT, (TextPart("x" * 2 * len(KNOWN)), ToolCallPart("1", "f", "y" * len(KNOWN))))
    after = Message(Role.TOOL, (ToolResultPart("1", "f", "z" * len(KNOWN)),))
    in_talk = forecaster.forecast(asked(before, KNOWN, after), features(), SHELF)
    assert (in_talk.mean, in_talk.std) == (alone.mean, alone.std)
    assert in_talk.familiarity == pytest.approx(alone.familiarity / 5, abs=1)


def test_the_system_text_changes_nothing(forecaster):
    plain = forecaster.forecast(asked(KNOWN), features(), SHELF)
    assert forecaster.forecast(asked(KNOWN, system="Be brief. " * 500), features(), SHELF) == plain


def test_of_a_very_long_text_a_part_is_read_and_familiarity_falls_with_it(forecaster):
    lines = 200_000 // len(KNOWN)
    forecast = forecaster.forecast(asked("\n".join([KNOWN] * lines)), features(), SHELF)
    assert forecast.familiarity <= FORECAST_SCALE * 4096 // 190_000
    assert max(forecast.mean) <= FORECAST_SCALE


def test_another_registry_has_its_own_figures(forecaster):
    better = registry((model("a", quality=0.99), deployment("a")), (model("b", quality=0.5), deployment("b")))
    before = forecaster.forecast(asked(KNOWN), features(), SHELF)
    assert forecaster.forecast(asked(KNOWN), features(), better).mean[0] > before.mean[0]
    assert forecaster.forecast(asked(KNOWN), features(), SHELF) == before


def test_threads_with_different_registries_do_not_mix_them_up(forecaster, predictor):
    shelves = [registry((model("m", quality=q), deployment("m"))) for q in (0.2, 0.5, 0.8)]
    alone = [QualityForecaster(predictor).forecast(asked(KNOWN), features(), s) for s in shelves]
    wrong: list[int] = []

    def ask(number: int) -> None:
        for turn in range(30):
            which = (number + turn) % len(shelves)
            if forecaster.forecast(asked(KNOWN), features(), shelves[which]) != alone[which]:
                wrong.append(which)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_policy_or_a_named_model_needs_no_forecast(forecaster):
    shelf = Shelf(SHELF, policy(), healthy(ManualClock(), RecordingTelemetry()), ManualClock(), forecaster)
    request, free = asked(KNOWN), RoutingConstraints()
    off = snapshot(SHELF, policy(quality=QualityRules(learned=False)))
    assert shelf.forecast(request, features(), free, off) is None
    assert shelf.forecast(request, features(), replace(free, model="a"), shelf.take()) is None
    assert shelf.forecast(request, features(), replace(free, model="a", allow_fallback=True), shelf.take()) is not None
    without = Shelf(SHELF, policy(), healthy(ManualClock(), RecordingTelemetry()), ManualClock())
    assert without.forecast(request, features(), free, shelf.take()) is None


async def test_a_request_is_decided_on_its_forecast_and_its_receipt_repeats_it_without_the_predictor(forecaster):
    world = World(forecaster=forecaster)

    answer = await world.service.answer(world.order(KNOWN))

    assert answer.decision.forecast is not None
    assert answer.decision.chosen.quality_mean is not None
    record = await world.record()
    row = await world.store.receipts.receipt(record.id, tenant_id=record.tenant_id)
    receipt = read_receipt(json.loads(row.body)["decision"])
    assert receipt.question is not None
    assert receipt.question.forecast == answer.decision.forecast
    assert digest_of(replay(receipt, SHELF, policy())) == receipt.digest


async def test_without_a_predictor_nothing_is_forecast():
    world = World()
    assert world.service.decide(world.order()).forecast is None
