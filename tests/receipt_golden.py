"""Writes the decisions that an engine must come to for ever: ``python -m tests.receipt_golden``.

Run it once after `shared.scoring.receipt.ENGINE` got a new value; files of older engines stay as they are.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from shared.config import REGISTRY_DIRECTORY
from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.forecasts import QualityForecast
from shared.domain.models import Registry
from shared.domain.policy import Preset, RoutingConstraints, Weights
from shared.scoring.engine import Question
from shared.scoring.receipt import ENGINE, deliberate, receipt_text
from shared.scoring.snapshot import Signals, Snapshot
from shared.stores.registry_files import load_policy, load_registry, parse_kept

FOLDER = Path(__file__).parent / "unit" / "fixtures_receipts"
_NOW = datetime(2026, 11, 23, 12, 0, 0, 5, tzinfo=UTC)
_PROMPTS = (
    "What is the capital of France?",
    "Prove that there are infinitely many primes, then write a Python function that lists the first n of them.",
    "Fasse diesen Vertrag zusammen; Rückfragen an jane.roe@acme.com, IBAN DE89370400440532013000.",
)
_ASKED = (
    RoutingConstraints(),
    RoutingConstraints(preset=Preset.QUALITY, residency=frozenset({"eu"})),
    RoutingConstraints(weights=Weights(0.1, 0.2, 0.3, 0.3, 0.1), max_latency_ms=2500.0),
    RoutingConstraints(max_cost_usd=Decimal("0.0005"), preset=Preset.COST),
    RoutingConstraints(allow_models=frozenset({"nobody"})),
)


def documents() -> tuple[str, str]:
    """A small registry, and a policy that leaves something to chance."""
    registry = load_registry(REGISTRY_DIRECTORY)
    content = json.loads(registry.document)
    kept = sorted(model["id"] for model in content["model"])[::5]
    content["model"] = [model for model in content["model"] if model["id"] in kept]
    content["deployment"] = [d for d in content["deployment"] if d["model"] in kept]
    rules = json.loads(load_policy(REGISTRY_DIRECTORY, registry=registry).document)
    rules |= {"exploration": 0.1, "temperature": 0.05}
    return json.dumps(content), json.dumps(rules)


def receipts(registry_document: str, policy_document: str) -> Iterator[str]:
    """What this engine makes of every prompt and every wish."""
    from shared.analysis.features import analyse  # noqa: PLC0415 - only when the file is written

    registry, policy = parse_kept(registry_document, policy_document)
    seen = {
        deployment.id: Signals(0.5 + index / 40, index, 100.5 * index or None, cooling_down=index == 3)
        for index, deployment in enumerate(registry.deployments[:8])
    }
    refused = {registry.deployments[-1].id: "the model at the end does not take top_k"}
    for number, prompt in enumerate(_PROMPTS):
        features = analyse(ChatRequest((Message(Role.USER, (TextPart(prompt),)),)))
        for turn, asked in enumerate(_ASKED):
            tags, forecast = (("n", str(number)),), _forecast(registry, number + turn)
            question = Question(features, asked, "golden", stream=bool(turn % 2), tags=tags, forecast=forecast)
            world = Snapshot(registry, replace(policy), _NOW, seen)
            draw = (number * 5 + turn) / 15
            yield receipt_text(deliberate(question, world, draw, lambda _profile, where: refused.get(where.id)))


def _forecast(registry: Registry, number: int) -> QualityForecast | None:
    """For two of three requests, from quite strange to quite familiar ones."""
    if number % 3 == 0:
        return None
    count = len(registry.models)
    means = tuple(6000 + 3500 * ((index * 7 + number) % count) // count for index in range(count))
    return QualityForecast(
        "golden", min(10_000, 2500 * number), means, tuple(1000 + 20 * mean % 1500 for mean in means)
    )


def main() -> None:
    """Write the file of this engine."""
    registry, policy = documents()
    FOLDER.mkdir(exist_ok=True)
    content = {"registry": registry, "policy": policy, "receipts": list(receipts(registry, policy))}
    (FOLDER / f"engine_{ENGINE}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
