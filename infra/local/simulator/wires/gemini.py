"""Gemini: GenerateContent as protocol buffers, and the same as JSON for those who use REST."""

import time
from dataclasses import replace
from typing import Any

from google.protobuf import json_format

from infra.local.simulator.ask import Ask, Media, ToolSpec, Turn, count_tokens, merge_turns
from infra.local.simulator.engine import Frame, Inquiry, Wire
from infra.local.simulator.plan import Finish, Plan, PromptTokens, is_signature
from infra.local.simulator.problems import Problem, invalid
from infra.local.simulator.profiles import Profile
from infra.local.simulator.protos import GenerateContentRequest, GenerateContentResponse

_LEVEL_TOKENS = {1: 1_024, 2: 8_192, 3: 24_576, 4: 128}
"""Thinking budget by ThinkingLevel (LOW, MEDIUM, HIGH, MINIMAL)."""
_DYNAMIC_TOKENS = 8_192
_EXPLICIT_CACHE_TOKENS = 4_096
_DUMMY_SIGNATURES = (b"skip_thought_signature_validator", b"context_engineering_is_the_way_to_go")
"""Values that Google documents for calls that no Gemini model wrote."""
_NO_TEXT = "Unable to submit request because it must have a text parameter. Add a text parameter and try again."
_STOP, _MAX_TOKENS, _SAFETY = 1, 2, 3
_ROLES = frozenset({"user", "model", "", "function", "tool"})
_MODALITY = {"text": 1, "image": 2, "video": 3, "audio": 4, "document": 5}
"""google.cloud.aiplatform.v1.Modality."""


def read(request: Any, profile: Profile) -> Inquiry:
    """Read a GenerateContentRequest.

    Raises:
        Problem: 400, with Vertex's sentence.
    """
    if not request.contents:
        raise invalid("Unable to submit request because at least one contents field is required. Add at least one.")
    config = request.generation_config
    budget, shown = _thinking(config)
    mode, names = _tool_mode(request)
    schema: Any = None
    if config.HasField("response_json_schema"):
        schema = json_format.MessageToDict(config.response_json_schema)
    elif config.HasField("response_schema"):
        schema = json_format.MessageToDict(config.response_schema)
    ask = Ask(
        turns=merge_turns([_turn(content, number) for number, content in enumerate(request.contents)]),
        system="\n".join(part.text for part in request.system_instruction.parts),
        tools=tuple(_tool(item) for tool in request.tools for item in tool.function_declarations),
        tool_mode=mode,  # type: ignore[arg-type]  # one of the three literals
        tool_names=names,
        json_mode=config.response_mime_type == "application/json",
        schema=schema,
        max_tokens=config.max_output_tokens if config.HasField("max_output_tokens") else None,
        stops=tuple(config.stop_sequences),
        thinking_tokens=budget,
        show_thinking=shown,
        sampling=_sampling(config),
        explicit_cache_tokens=_EXPLICIT_CACHE_TOKENS if request.cached_content else 0,
    )
    check_signatures(request.contents, profile)
    return Inquiry(ask)


def check(profile: Profile, ask: Ask, prompt: PromptTokens) -> None:
    """Refuse what the model does not take.

    Raises:
        Problem: 400, with Vertex's sentence.
    """
    most = profile.max_output_tokens
    if ask.max_tokens is not None and not 0 < ask.max_tokens <= most:
        raise invalid(
            f"Unable to submit request because it has a maxOutputTokens value of {ask.max_tokens} but the supported "
            f"range is from 1 (inclusive) to {most + 1} (exclusive). Update the value and try again."
        )
    if prompt.total > profile.context_tokens:
        raise invalid(
            f"The input token count ({prompt.total}) exceeds the maximum number of tokens allowed "
            f"({profile.context_tokens})."
        )
    for turn in ask.turns:
        for media in turn.media:
            if media.kind not in profile.modalities:
                raise invalid(
                    f"Unable to submit request because it has a mimeType parameter with value {media.mime_type}, which "
                    "is not supported. Update the mimeType and try again."
                )
    if ask.schema is not None and not ask.json_mode:
        raise invalid(
            "Unable to submit request because it has a responseSchema but responseMimeType is not application/json."
        )


def check_signatures(contents: Any, profile: Profile) -> None:
    """Refuse a replayed function call of the current turn without its thought signature (Gemini 3 and later).

    The current turn begins after the last user content that is not a function response; of calls made in parallel
    only the first carries a signature (ai.google.dev/gemini-api/docs/thought-signatures).

    Raises:
        Problem: 400.
    """
    if not profile.needs_thought_signature:
        return
    start = 0
    for number, content in enumerate(contents):
        if content.role == "user" and any(part.WhichOneof("data") != "function_response" for part in content.parts):
            start = number
    for number in range(start, len(contents)):
        for part in contents[number].parts:
            if part.WhichOneof("data") != "function_call":
                continue
            signature = part.thought_signature
            if not signature:
                raise invalid(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                    "work correctly, and missing thought_signature may lead to degraded model performance. "
                    f"Additional data, function call `default_api:{part.function_call.name}` , position {number + 1}. "
                    "Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
                )
            if not is_signature(signature) and signature not in _DUMMY_SIGNATURES:
                raise invalid("Thought signature is not valid.")
            break


def plain(plan: Plan, _inquiry: Inquiry | None = None) -> Any:
    """The whole answer as a GenerateContentResponse."""
    response = _response(plan)
    if plan.finish is Finish.BLOCKED:
        _block(response)
    elif plan.finish is not Finish.EMPTY:
        candidate = response.candidates.add()
        candidate.content.role = "model"
        _finish(candidate, plan)
        if plan.show_thinking and plan.thought:
            candidate.content.parts.add(text=plan.thought, thought=True)
        if plan.text:
            part = candidate.content.parts.add(text=plan.text)
            if plan.show_thinking:
                part.thought_signature = plan.signature()
        _add_calls(candidate, plan)
    _usage(response, plan)
    return response


def frames(plan: Plan, _inquiry: Inquiry) -> list[Frame[Any]]:
    """The answer as a stream: each message repeats the id and the usage so far; the last one says why it ended."""
    if plan.finish in {Finish.BLOCKED, Finish.EMPTY}:
        return [Frame(plain(plan))]
    result: list[Frame[Any]] = []
    for piece in plan.thought_pieces():
        response, candidate = _chunk(plan)
        candidate.content.parts.add(text=piece, thought=True)
        _prompt_usage(response.usage_metadata, plan)
        result.append(Frame(response, count_tokens(piece)))
    pieces = plan.pieces()
    for piece in pieces:
        response, candidate = _chunk(plan)
        candidate.content.parts.add(text=piece)
        _prompt_usage(response.usage_metadata, plan)
        result.append(Frame(response, count_tokens(piece)))
    if plan.calls or not pieces:
        response, candidate = _chunk(plan)
        _add_calls(candidate, plan)
        result.append(Frame(response, plan.output_tokens))
    elif plan.show_thinking:
        response.candidates[0].content.parts[0].thought_signature = plan.signature()
    _finish(candidate, plan)
    _usage(response, plan)
    return result


def broken(plan: Plan) -> Any:
    """The gRPC stand-in for malformed JSON: a candidate without content and without a finish reason, and no usage."""
    response = _response(plan)
    response.candidates.add()
    return response


WIRE: Wire[Any] = Wire(
    name="gemini",
    read=read,
    check=check,
    plain=plain,
    frames=frames,
    broken_plain=broken,
    broken_chunk=broken,
    problem=Problem.google_body,
    failed_chunk=lambda _plan: None,
)


def _turn(content: Any, number: int) -> Turn:
    if content.role not in _ROLES:
        raise invalid("Please use a valid role: user, model.")
    if not content.parts:
        raise invalid(f"{_NO_TEXT} contents[{number}].parts is empty.")
    turn = Turn("assistant" if content.role == "model" else "user")
    for part in content.parts:
        turn = _with_part(turn, part)
    return turn


def _with_part(turn: Turn, part: Any) -> Turn:
    match part.WhichOneof("data"):
        case "text":
            if part.thought:
                return turn
            return replace(turn, text=f"{turn.text}\n{part.text}" if turn.text else part.text)
        case "inline_data":
            return replace(turn, media=(*turn.media, Media.of(part.inline_data.mime_type, part.inline_data.data)))
        case "file_data":
            media = Media.of(part.file_data.mime_type, b"", part.file_data.file_uri)
            return replace(turn, media=(*turn.media, media))
        case "function_call":
            call = (part.function_call.name, json_format.MessageToJson(part.function_call.args, indent=None))
            return replace(turn, calls=(*turn.calls, call))
        case "function_response":
            answer = json_format.MessageToJson(part.function_response.response, indent=None)
            return replace(turn, results=(*turn.results, (part.function_response.name, answer)))
        case None:
            raise invalid(_NO_TEXT)
    return turn


def _tool(item: Any) -> ToolSpec:
    if item.HasField("parameters_json_schema"):
        schema = json_format.MessageToDict(item.parameters_json_schema)
    else:
        schema = json_format.MessageToDict(item.parameters)
    return ToolSpec(item.name, schema, item.description)


def _tool_mode(request: Any) -> tuple[str, tuple[str, ...]]:
    config = request.tool_config.function_calling_config
    mode = {2: "required", 3: "none"}.get(config.mode, "auto")
    return mode, tuple(config.allowed_function_names)


def _thinking(config: Any) -> tuple[int | None, bool]:
    if not config.HasField("thinking_config"):
        return None, False
    thinking = config.thinking_config
    budget: int | None = _DYNAMIC_TOKENS if thinking.include_thoughts else None
    if thinking.HasField("thinking_budget"):
        budget = _DYNAMIC_TOKENS if thinking.thinking_budget < 0 else thinking.thinking_budget
    elif thinking.HasField("thinking_level"):
        budget = _LEVEL_TOKENS.get(thinking.thinking_level, _DYNAMIC_TOKENS)
    return budget, thinking.include_thoughts


def _sampling(config: Any) -> dict[str, Any]:
    names = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed", "candidate_count")
    values = {name: getattr(config, name) for name in names if config.HasField(name)}
    if values.pop("candidate_count", 1) != 1:
        raise invalid("Multiple candidates is not enabled for this model.")
    temperature = values.get("temperature", 1.0)
    if not 0 <= temperature <= 2:  # noqa: PLR2004 - Vertex's documented range
        raise invalid(
            f"Unable to submit request because it has a temperature value of {temperature:g} but the supported "
            "range is from 0 (inclusive) to 2.0 (inclusive). Update the value and try again."
        )
    return values


def _response(plan: Plan) -> Any:
    response = GenerateContentResponse(model_version=plan.version, response_id=plan.id)
    response.create_time.seconds = int(time.time())
    return response


def _chunk(plan: Plan) -> tuple[Any, Any]:
    response = _response(plan)
    candidate = response.candidates.add()
    candidate.content.role = "model"
    return response, candidate


def _add_calls(candidate: Any, plan: Plan) -> None:
    for number, call in enumerate(plan.calls):
        part = candidate.content.parts.add()
        part.function_call.name = call.name
        part.function_call.args.update(call.arguments)
        if number == 0 and plan.profile.needs_thought_signature:
            part.thought_signature = plan.signature()


def _finish(candidate: Any, plan: Plan) -> None:
    candidate.finish_reason = {Finish.LENGTH: _MAX_TOKENS, Finish.SAFETY: _SAFETY}.get(plan.finish, _STOP)
    if plan.finish is Finish.SAFETY:
        candidate.finish_message = "The candidate was stopped by a simulated safety filter."
        candidate.safety_ratings.add(category=2, probability=4, blocked=True)


def _block(response: Any) -> None:
    feedback = response.prompt_feedback
    feedback.block_reason = 1
    feedback.block_reason_message = "The prompt was blocked by a simulated safety filter."
    feedback.safety_ratings.add(category=2, probability=4, blocked=True)


def _prompt_usage(usage: Any, plan: Plan) -> None:
    usage.prompt_token_count = plan.prompt.total
    usage.total_token_count = plan.prompt.total
    usage.traffic_type = 1


def add_details(details: Any, prompt: PromptTokens) -> None:
    """Add the prompt's tokens by modality to a repeated ModalityTokenCount."""
    for name, modality in _MODALITY.items():
        tokens = getattr(prompt, name)
        if tokens:
            details.add(modality=modality, token_count=tokens)


def _usage(response: Any, plan: Plan) -> None:
    """Usage: the cached part is inside the prompt count, thoughts stand beside the candidates."""
    usage = response.usage_metadata
    _prompt_usage(usage, plan)
    usage.candidates_token_count = plan.output_tokens
    usage.thoughts_token_count = plan.thinking_tokens
    usage.total_token_count = plan.prompt.total + plan.output_tokens + plan.thinking_tokens
    add_details(usage.prompt_tokens_details, plan.prompt)
    if plan.cache.read_tokens:
        usage.cached_content_token_count = plan.cache.read_tokens
        usage.cache_tokens_details.add(modality=1, token_count=plan.cache.read_tokens)
    if plan.output_tokens:
        usage.candidates_tokens_details.add(modality=1, token_count=plan.output_tokens)


# --- REST -------------------------------------------------------------------------------------------------------------


def from_json(body: Any) -> Any:
    """A GenerateContentRequest from its JSON form.

    Raises:
        Problem: 400, as the JSON transcoding of Google's front end words it.
    """
    request = GenerateContentRequest()
    try:
        json_format.ParseDict(body, request)
    except json_format.ParseError as error:
        raise Problem(400, f"Invalid JSON payload received. {error}", platform=True) from error
    return request


def to_json(response: Any) -> bytes:
    """A response's JSON form."""
    text: str = json_format.MessageToJson(response, indent=None)
    return text.encode()


def _rest_frames(plan: Plan, inquiry: Inquiry) -> list[Frame[bytes]]:
    return [Frame(b"data: " + to_json(frame.payload) + b"\r\n\r\n", frame.tokens) for frame in frames(plan, inquiry)]


def _rest_array_frames(plan: Plan, inquiry: Inquiry) -> list[Frame[bytes]]:
    messages = frames(plan, inquiry)
    return [
        Frame(
            (b"[" if number == 0 else b",\r\n")
            + to_json(frame.payload)
            + (b"]" if number == len(messages) - 1 else b""),
            frame.tokens,
        )
        for number, frame in enumerate(messages)
    ]


def _rest_wire(rest_frames: Any, stream_type: str) -> Wire[bytes]:
    return Wire(
        name="gemini-rest",
        read=lambda body, profile: read(from_json(body), profile),
        check=check,
        plain=lambda plan, _inquiry: to_json(plain(plan)),
        frames=rest_frames,
        broken_plain=lambda plan: to_json(plain(plan))[:-9],
        broken_chunk=lambda plan: (
            b'data: {"candidates": [{"content": {"parts": [{"text": "' + plan.id.encode() + b"\r\n\r\n"
        ),
        problem=Problem.google_body,
        failed_chunk=lambda _plan: (
            b"data: " + Problem(503, "The service is currently unavailable.").google_body() + b"\r\n\r\n"
        ),
        stream_type=stream_type,
    )


REST_SSE = _rest_wire(_rest_frames, "text/event-stream; charset=utf-8")
REST_ARRAY = _rest_wire(_rest_array_frames, "application/json; charset=UTF-8")
