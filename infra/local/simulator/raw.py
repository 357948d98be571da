"""Which wire form a resource speaks: by publisher, by the endpoint table, or by the shape of the body."""

from collections.abc import Mapping
from typing import Any

import orjson

from infra.local.simulator.engine import Engine, Target, Wire
from infra.local.simulator.problems import Problem
from infra.local.simulator.profiles import Endpoint, Profile
from infra.local.simulator.wires import anthropic, generation, openai

COUNT_TOKENS = "count-tokens"
_BY_FORMAT: Mapping[str, Wire[bytes]] = {
    "tgi": generation.TGI,
    "vllm": generation.VLLM,
    "openai": openai.SERVER,
    "predict": generation.PREDICT,
    "raw": generation.RAW,
}
_BY_DIALECT: Mapping[str, Wire[bytes]] = {"anthropic": anthropic.WIRE, "mistral": openai.SERVER, "maas": openai.MAAS}


def parse_json(body: bytes) -> Any:
    """Read a JSON body.

    Raises:
        Problem: 400, as Google's front end words it.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"Invalid JSON payload received. {error}", platform=True) from error


def resolve(engine: Engine, target: Target, body: Any) -> tuple[Wire[bytes], Profile]:
    """The wire form and the model for rawPredict, streamRawPredict and predict on a target.

    Raises:
        Problem: the model does not exist, or does not speak any such form.
    """
    if not target.endpoint:
        profile = engine.model(target)
        wire = _BY_DIALECT.get(profile.dialect)
        if wire is None:
            raise Problem(400, f"{profile.id} is not supported by rawPredict.", platform=True)
        return wire, profile
    endpoint = engine.profiles.endpoint(target.endpoint) or Endpoint(
        target.endpoint, _format_of(body), engine.profiles.fallback_profile(target.endpoint)
    )
    wire = _BY_FORMAT[endpoint.format]
    if wire is generation.VLLM and chat_instance(body) is not None:
        wire = openai.SERVER
    return wire, endpoint.profile


def chat_instance(body: Any) -> dict[str, Any] | None:
    """The chat body inside a vLLM instance that says ``"@requestFormat": "chatCompletions"``."""
    instances = body.get("instances") if isinstance(body, Mapping) else None
    if isinstance(instances, list) and len(instances) == 1 and isinstance(instances[0], Mapping):
        instance = instances[0]
        if instance.get("@requestFormat") == generation.CHAT_FORMAT:
            chat = {key: value for key, value in instance.items() if key != "@requestFormat"}
            # predict turns numbers into doubles; chat fields such as max_tokens are whole.
            whole = {k: int(v) for k, v in chat.items() if isinstance(v, float) and v == int(v) and k != "temperature"}
            return {**chat, **whole}
    return None


def _format_of(body: Any) -> str:
    """The format of an endpoint that is not listed.

    Raises:
        Problem: the body looks like none.
    """
    if isinstance(body, Mapping):
        instances = body.get("instances")
        if isinstance(instances, list):
            first = instances[0] if instances and isinstance(instances[0], Mapping) else {}
            return "vllm" if first.get("@requestFormat") or {"prompt", "raw_response"} <= set(first) else "predict"
        if isinstance(body.get("inputs"), str):
            return "tgi"
        if isinstance(body.get("messages"), list):
            return "openai"
        if any(isinstance(body.get(name), str) for name in ("prompt", "text", "input")):
            return "raw"
    raise Problem(
        400, "The body has none of inputs, instances, messages or prompt: the endpoint's format is not known."
    )


def dump_json(document: Any) -> bytes:
    """Write a JSON body."""
    return orjson.dumps(document)
