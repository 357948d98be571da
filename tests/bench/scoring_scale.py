"""What a choice costs as the registry grows: ``python -m tests.bench.scoring_scale``.

A decision over N deployments of N / 4 models, all open to choice, with a forecast and signals of every tenth deployment;
then with receipt and digest; and what the forecast itself costs for a prompt of 4 KB.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from shared.config import REGISTRY_DIRECTORY
from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.models import Registry
from shared.domain.policy import RoutingConstraints
from shared.scoring.engine import Question
from shared.scoring.receipt import deliberate, receipt_text
from shared.scoring.snapshot import Signals, Snapshot
from shared.services.forecasting import QualityForecaster
from shared.services.receipts import fast_canonical
from shared.stores.quality_artefact import load_quality_model
from shared.stores.registry_files import load_policy, load_registry
from tests.unit.routing_builders import deployment, features, model, no_limit, policy, registry

SIZES = (50, 200, 2000)
SHARE = 4
"""Deployments of a model."""
PROMPT = ("Compare the two proposals below and say which of them costs less over ten years, with reasons. " * 50)[:4096]
ROUNDS = 400
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def shelf_of(count: int) -> Registry:
    """A registry of that many deployments."""
    return registry(
        *(
            (
                model(f"m{number // SHARE:04}", price=str(1 + number // SHARE % 7), quality=0.5 + number % 37 / 80),
                deployment(f"m{number // SHARE:04}", f"region-{number % SHARE}"),
            )
            for number in range(count)
        )
    )


def timed(name: str, work: Callable[[], object]) -> None:
    """Print the median and the 99th percentile of many runs."""
    for _ in range(20):
        work()
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - start))
    spent.sort()
    print(f"{name:52} p50 {spent[ROUNDS // 2]:7.3f} ms   p99 {spent[ROUNDS * 99 // 100]:7.3f} ms")


def main() -> None:
    """Print what deciding and forecasting cost."""
    forecaster = QualityForecaster(load_quality_model())
    request = ChatRequest((Message(Role.USER, (TextPart(PROMPT),)),))
    read = features()
    for count in SIZES:
        shelf = shelf_of(count)
        seen = {d.id: Signals(0.9, 3, 400.0) for d in shelf.deployments[::10]}
        world = Snapshot(shelf, policy(), NOW, seen)
        plain = Question(read, RoutingConstraints(), "svc")
        foreseen = Question(read, RoutingConstraints(), "svc", forecast=forecaster.forecast(request, read, shelf))
        for name, asked in (("by priors", plain), ("by forecast", foreseen)):
            timed(f"{count} deployments, {name}", lambda q=asked, w=world: deliberate(q, w, 0.5, no_limit))
        timed(
            f"{count} deployments, by forecast, with receipt",
            lambda q=foreseen, w=world: receipt_text(deliberate(q, w, 0.5, no_limit), fast_canonical),
        )
        timed(f"forecast of {len(shelf.models)} models, prompt of 4 KB",
              lambda s=shelf: forecaster.forecast(request, read, s))  # fmt: skip
    shipped = load_registry(REGISTRY_DIRECTORY)
    world = Snapshot(shipped, load_policy(REGISTRY_DIRECTORY, registry=shipped), NOW)

    def whole() -> object:
        asked = Question(read, RoutingConstraints(), "svc", forecast=forecaster.forecast(request, read, shipped))
        return receipt_text(deliberate(asked, world, 0.5, no_limit), fast_canonical)

    size = len(whole())
    timed(f"shipped registry ({len(shipped.deployments)}), all of it; receipt of {size} B", whole)


if __name__ == "__main__":
    main()
