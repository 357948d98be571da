"""Deployed endpoints: text-generation-inference, vLLM's Vertex server, and two containers of a customer's own."""

from collections.abc import Mapping
from typing import Any

import orjson

from infra.local.simulator.ask import CHARS_PER_TOKEN, Ask, Turn, count_tokens
from infra.local.simulator.engine import Frame, Inquiry, Wire
from infra.local.simulator.plan import Finish, Plan, PromptTokens
from infra.local.simulator.problems import Problem, invalid
from infra.local.simulator.profiles import Profile

CHAT_FORMAT = "chatCompletions"
_REASONS = {Finish.LENGTH: "length", Finish.STOP_SEQUENCE: "stop_sequence", Finish.SAFETY: "content_filter"}
_DEFAULT_NEW_TOKENS = 100


# --- text-generation-inference ----------------------------------------------------------------------------------------


def _read_tgi(body: Any, _profile: Profile) -> Inquiry:
    parameters = _parameters(body, "parameters")
    prompt = body.get("inputs") if isinstance(body, Mapping) else None
    if not isinstance(prompt, str) or not prompt:
        raise Problem(422, "Input validation error: `inputs` cannot be empty")
    stops = tuple(parameters.get("stop") or ())
    if len(stops) > 4:  # noqa: PLR2004 - the server's default --max-stop-sequences
        raise Problem(422, "Input validation error: `stop` supports up to 4 stop sequences. Given: " + str(len(stops)))
    temperature = parameters.get("temperature")
    if temperature is not None and temperature <= 0:
        raise Problem(422, "Input validation error: `temperature` must be strictly positive")
    grammar = parameters.get("grammar")
    schema = grammar.get("value") if isinstance(grammar, Mapping) and grammar.get("type") == "json" else None
    most = _whole(parameters.get("max_new_tokens"), "max_new_tokens") or _DEFAULT_NEW_TOKENS
    options = {
        "details": bool(parameters.get("details")),
        "full": bool(parameters.get("return_full_text")),
        "prompt": prompt,
    }
    return Inquiry(_ask(prompt, most, stops, parameters, schema), stream=body.get("stream") is True, options=options)


def _check_tgi(profile: Profile, ask: Ask, prompt: PromptTokens) -> None:
    wanted = ask.max_tokens or _DEFAULT_NEW_TOKENS
    if prompt.total + wanted > profile.context_tokens:
        raise Problem(
            422,
            f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {profile.context_tokens}. Given: "
            f"{prompt.total} `inputs` tokens and {wanted} `max_new_tokens`",
        )


def _tgi_text(plan: Plan) -> str:
    """The server leaves a stop sequence that it met in the text."""
    return plan.text + (plan.stop_sequence or "")


def _tgi_details(plan: Plan) -> dict[str, Any]:
    reason = {Finish.LENGTH: "length", Finish.STOP_SEQUENCE: "stop_sequence"}.get(plan.finish, "eos_token")
    return {"finish_reason": reason, "generated_tokens": count_tokens(_tgi_text(plan)), "seed": None}


def _plain_tgi(plan: Plan, inquiry: Inquiry) -> bytes:
    if plan.finish is Finish.EMPTY:
        return b"[]"
    text = _tgi_text(plan)
    answer: dict[str, Any] = {
        "generated_text": inquiry.options["prompt"] + text if inquiry.options.get("full") else text
    }
    if inquiry.options.get("details"):
        answer["details"] = {**_tgi_details(plan), "prefill": [], "tokens": []}
    return orjson.dumps([answer])


def _tgi_frames(plan: Plan, _inquiry: Inquiry) -> list[Frame[bytes]]:
    """One event for each piece; the last one carries the whole text and the details."""
    text = _tgi_text(plan)
    width = plan.profile.piece_tokens * CHARS_PER_TOKEN
    pieces = [text[start : start + width] for start in range(0, len(text), width)] or [""]
    result = []
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        event = {
            "index": number + 1,
            "token": {"id": number, "text": piece, "logprob": -0.25, "special": False},
            "generated_text": text if last else None,
            "details": {**_tgi_details(plan), "input_length": plan.prompt.total} if last else None,
        }
        result.append(Frame(b"data:" + orjson.dumps(event) + b"\n\n", max(1, count_tokens(piece))))
    return result


# --- vLLM behind predict ----------------------------------------------------------------------------------------------


def _read_vllm(body: Any, _profile: Profile) -> Inquiry:
    instance = _instance(body)
    prompt = instance.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise invalid("instances[0].prompt: field required")
    most = _whole(instance.get("max_tokens"), "max_tokens") or _DEFAULT_NEW_TOKENS
    options = {"raw": instance.get("raw_response") is True, "prompt": prompt}
    return Inquiry(
        _ask(prompt, most, _stops(instance), instance, None), stream=instance.get("stream") is True, options=options
    )


def _plain_vllm(plan: Plan, inquiry: Inquiry) -> bytes:
    if plan.finish is Finish.EMPTY:
        return orjson.dumps({"predictions": []})
    prompt = str(inquiry.options["prompt"]).strip()
    text = plan.text if inquiry.options.get("raw") else f"Prompt:\n{prompt}\nOutput:\n{plan.text}"
    return orjson.dumps({"predictions": [text]})


def _vllm_frames(plan: Plan, inquiry: Inquiry) -> list[Frame[bytes]]:
    """Server-sent events, each with all the text so far, as the server's demo route streams."""
    result, so_far = [], ""
    for piece in plan.pieces():
        so_far += piece
        result.append(Frame(b"data: " + orjson.dumps({"predictions": [so_far]}) + b"\n\n", count_tokens(piece)))
    return result or [Frame(b"data: " + _plain_vllm(plan, inquiry) + b"\n\n")]


# --- a customer's own containers --------------------------------------------------------------------------------------


def _read_predict(body: Any, _profile: Profile) -> Inquiry:
    return _read_own({**_parameters(body, "parameters"), **_instance(body)}, "instances[0]")


def _read_raw(body: Any, _profile: Profile) -> Inquiry:
    if not isinstance(body, Mapping):
        raise invalid("the body must be a JSON object")
    return _read_own(body, "body")


def _read_own(fields: Mapping[str, Any], where: str) -> Inquiry:
    prompt = next(
        (fields[name] for name in ("prompt", "text", "input", "inputs") if isinstance(fields.get(name), str)), None
    )
    messages = fields.get("messages")
    if prompt is None and isinstance(messages, list):
        prompt = "\n".join(str(item.get("content", "")) for item in messages if isinstance(item, Mapping))
    if not prompt:
        raise invalid(f"{where} must have one of prompt, text, input, inputs (a string) or messages (a list)")
    most = _whole(fields.get("max_tokens", fields.get("max_new_tokens")), "max_tokens")
    return Inquiry(_ask(prompt, most, _stops(fields), fields, None), stream=fields.get("stream") is True)


def _own_answer(plan: Plan) -> dict[str, Any]:
    return {
        "content": plan.text,
        "stop_reason": _REASONS.get(plan.finish, "stop"),
        "usage": {"in": plan.prompt.total, "out": plan.output_tokens},
        "model": plan.version,
    }


def _plain_predict(plan: Plan, _inquiry: Inquiry) -> bytes:
    return orjson.dumps({"predictions": [] if plan.finish is Finish.EMPTY else [_own_answer(plan)]})


def _plain_raw(plan: Plan, _inquiry: Inquiry) -> bytes:
    return b"{}" if plan.finish is Finish.EMPTY else orjson.dumps(_own_answer(plan))


def _own_frames(plan: Plan, _inquiry: Inquiry) -> list[Frame[bytes]]:
    """Deltas as ``{"content": piece}``, then the reason and the usage."""
    pieces = plan.pieces()
    result = [Frame(b"data: " + orjson.dumps({"content": p}) + b"\n\n", count_tokens(p)) for p in pieces]
    end = {key: value for key, value in _own_answer(plan).items() if key != "content"}
    return [*result, Frame(b"data: " + orjson.dumps(end) + b"\n\n")]


def _check_context(profile: Profile, ask: Ask, prompt: PromptTokens) -> None:
    wanted = min(ask.max_tokens or 0, profile.max_output_tokens)
    if prompt.total + wanted > profile.context_tokens:
        raise invalid(
            f"This model's maximum context length is {profile.context_tokens} tokens. However, you requested "
            f"{prompt.total + wanted} tokens."
        )


# --- shared -----------------------------------------------------------------------------------------------------------


def _ask(prompt: str, most: int | None, stops: tuple[str, ...], fields: Mapping[str, Any], schema: Any) -> Ask:
    names = (
        "temperature",
        "top_p",
        "top_k",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "seed",
        "do_sample",
    )
    return Ask(
        turns=(Turn("user", prompt),),
        json_mode=schema is not None,
        schema=schema,
        max_tokens=most,
        stops=stops,
        sampling={name: fields[name] for name in names if fields.get(name) is not None},
    )


def _parameters(body: Any, name: str) -> Mapping[str, Any]:
    value = body.get(name) if isinstance(body, Mapping) else None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise invalid(f"{name} must be an object")
    return value


def _instance(body: Any) -> Mapping[str, Any]:
    instances = body.get("instances") if isinstance(body, Mapping) else None
    if not isinstance(instances, list) or len(instances) != 1 or not isinstance(instances[0], Mapping):
        raise invalid("instances must be a list of exactly one object")
    instance: Mapping[str, Any] = instances[0]
    return instance


def _whole(value: Any, name: str) -> int | None:
    """A whole number; predict turns every number into a double."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or value != int(value) or value < 1:
        raise Problem(422, f"Input validation error: `{name}` must be strictly positive")
    return int(value)


def _stops(fields: Mapping[str, Any]) -> tuple[str, ...]:
    stop = fields.get("stop")
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _wire(name: str, read: Any, check: Any, plain: Any, frames: Any, problem: Any) -> Wire[bytes]:
    return Wire(
        name=name,
        read=read,
        check=check,
        plain=plain,
        frames=frames,
        broken_plain=lambda plan: b'{"generated_text": "' + plan.id.encode(),
        broken_chunk=lambda _plan: b'data: {"token": {"id": 3, "te\n\n',
        problem=problem,
        failed_chunk=lambda _plan: b"data: " + Problem(503, "Model is overloaded").tgi_body() + b"\n\n",
    )


TGI = _wire("tgi", _read_tgi, _check_tgi, _plain_tgi, _tgi_frames, Problem.tgi_body)
VLLM = _wire("vllm", _read_vllm, _check_context, _plain_vllm, _vllm_frames, Problem.openai_body)
PREDICT = _wire("predict", _read_predict, _check_context, _plain_predict, _own_frames, Problem.google_body)
RAW = _wire("raw", _read_raw, _check_context, _plain_raw, _own_frames, Problem.google_body)
