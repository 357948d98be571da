"""The registry as callers see it: OpenAI's model objects with what the router knows beside them."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from shared.domain.models import Deployment, ModelProfile, Registry
from shared.domain.pricing import quoted_period


def models_body(registry: Registry, day: date, autos: Sequence[str]) -> dict[str, Any]:
    """OpenAI's model list: the `auto` words first, then the registry."""
    automatic: Iterator[dict[str, Any]] = (
        {"id": word, "object": "model", "created": 0, "owned_by": "llm-router"} for word in autos
    )
    kinds = (registry,) if registry.embeddings is None else (registry, registry.embeddings)
    listed = (model_body(m, kind.deployments_of(m.id), day) for kind in kinds for m in kind.models.values())
    return {"object": "list", "data": [*automatic, *listed]}


def model_body(profile: ModelProfile, deployments: Sequence[Deployment], day: date) -> dict[str, Any]:
    """OpenAI's model object with what the router knows beside it."""
    can = profile.capabilities
    rates = quoted_period(profile, day).tiers[0].rates
    available = profile.lifecycle.available_from
    gives = profile.embedding
    return {
        "id": profile.id,
        "object": "model",
        "created": 0 if available is None else (available - date(1970, 1, 1)).days * 86_400,
        "owned_by": profile.publisher,
        "display_name": profile.display_name,
        "kind": "chat" if gives is None else "embedding",
        "context_window_tokens": profile.context_window_tokens if gives is None else gives.max_input_tokens,
        "max_output_tokens": profile.max_output_tokens if gives is None else None,
        "dimensions": None if gives is None else gives.dimensions,
        "modalities": sorted(m.value for m in can.modalities),
        "capabilities": {
            "tools": can.tools,
            "json_object": can.json_object,
            "json_schema": can.json_schema,
            "thinking": can.thinking,
            "streaming": can.streaming,
        },
        "price_usd_per_million_tokens": {"input": float(rates.input), "output": float(rates.output)},
        "available": profile.lifecycle.usable_on(day) and any(d.enabled for d in deployments),
        "lifecycle": {
            "deprecated_on": _day(profile.lifecycle.deprecated_on),
            "retires_on": _day(profile.lifecycle.retires_on),
        },
        "deployments": [
            {
                "id": d.id,
                "region": d.region,
                "residency": sorted(d.residency),
                "clearance": d.clearance.label,
                "enabled": d.enabled,
            }
            for d in deployments
        ],
    }


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
