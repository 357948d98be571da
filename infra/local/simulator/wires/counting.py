"""Counting tokens without generating: CountTokens for Gemini, count-tokens:rawPredict for Claude."""

from typing import Any

import orjson

from infra.local.simulator.calls import Call
from infra.local.simulator.engine import Engine, Target
from infra.local.simulator.plan import measure
from infra.local.simulator.problems import Problem, invalid
from infra.local.simulator.profiles import Profile
from infra.local.simulator.protos import CountTokensResponse, GenerateContentRequest
from infra.local.simulator.wires import anthropic_request, gemini


def count_contents(request: Any, profile: Profile) -> Any:
    """Answer a CountTokensRequest: the tokens that the same contents would be billed as a prompt.

    Raises:
        Problem: 400.
    """
    if not request.contents:
        raise invalid("contents is not specified")
    generate = GenerateContentRequest(contents=request.contents, tools=request.tools)
    if request.HasField("system_instruction"):
        generate.system_instruction.CopyFrom(request.system_instruction)
    if request.HasField("generation_config"):
        generate.generation_config.CopyFrom(request.generation_config)
    ask = gemini.read(generate, profile).ask
    prompt = measure(ask, profile)
    response = CountTokensResponse(total_tokens=prompt.total)
    response.total_billable_characters = len("".join((ask.system + "".join(turn.text for turn in ask.turns)).split()))
    gemini.add_details(response.prompt_tokens_details, prompt)
    return response


def count_messages(engine: Engine, call: Call, target: Target, body: Any) -> bytes:
    """Answer count-tokens:rawPredict, whose body names the model.

    Raises:
        Problem: the model is not there, the body is not valid, or the location is global, which has no such method.
    """
    if target.region == "global":
        raise Problem(400, "count-tokens is not supported in the global location.", platform=True)
    model = body.get("model") if isinstance(body, dict) else None
    if not isinstance(model, str):
        problem = invalid("model: Field required")
        problem.message = problem.anthropic_body().decode()
        raise problem
    profile = engine.model(target, "anthropic", model)
    call.model = profile.id
    engine.refuse(call)
    ask = anthropic_request.read_count(body, profile)
    return orjson.dumps({"input_tokens": measure(ask, profile).total})
