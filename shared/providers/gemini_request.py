"""`ChatRequest` -> GenerateContentRequest, and what Gemini cannot take.

https://docs.cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/projects.locations.publishers.models/generateContent
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    Part,
    ReasoningEffort,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolMode,
    ToolResultPart,
)
from shared.domain.models import Deployment, ModelProfile
from shared.ports import ProviderCall
from shared.providers.capabilities import check_capabilities, media_with_paths, unsupported
from shared.providers.json_struct import is_too_deep, set_struct, set_value
from shared.providers.vertex_protos import messages

FOREIGN_CALL_SIGNATURE: Final = b"skip_thought_signature_validator"
"""What Gemini 3 and later take for the thought signature of a function call that they did not make themselves; without
any they answer 400 (https://ai.google.dev/gemini-api/docs/thought-signatures)."""

_LEVELS_SINCE: Final = 3
"""First generation with thinking levels, call signatures, and JSON answers beside tools."""
_MAX_STOPS: Final = 5
_SEED_LIMIT: Final = 2**31
_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_MINIMAL_THINKING = re.compile(r"gemini-3(?:\.[0-6])?-flash")
"""Models that take the level MINIMAL; all others of generation 3 and later always think
(https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thinking)."""

_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})
_DOCUMENTS: Final = frozenset({"application/pdf", "text/plain"})
_LEVEL: Final[Mapping[ReasoningEffort, str]] = {
    ReasoningEffort.NONE: "MINIMAL",
    ReasoningEffort.LOW: "LOW",
    ReasoningEffort.MEDIUM: "MEDIUM",
    ReasoningEffort.HIGH: "HIGH",
}
_BUDGET_TOKENS: Final[Mapping[ReasoningEffort, int]] = {
    ReasoningEffort.NONE: 0,
    ReasoningEffort.LOW: 1024,
    ReasoningEffort.MEDIUM: 8192,
    ReasoningEffort.HIGH: 24576,
}
_TOOL_MODE: Final[Mapping[ToolMode, str]] = {ToolMode.AUTO: "AUTO", ToolMode.REQUIRED: "ANY", ToolMode.NONE: "NONE"}


def check_request(request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
    """Refuse what this model cannot carry.

    Raises:
        UnsupportedFeature: naming the field.
    """
    check_capabilities(request, profile, deployment)
    _check_thinking(request.reasoning_effort, profile, deployment)
    if request.tools and request.response_format.kind is not FormatKind.TEXT and not _is_new(deployment):
        raise unsupported(deployment, "response_format", "a JSON answer beside tools")
    if len(request.sampling.stop) > _MAX_STOPS:
        raise unsupported(deployment, "stop", f"more than {_MAX_STOPS} stop sequences")
    if request.sampling.seed is not None and not -_SEED_LIMIT <= request.sampling.seed < _SEED_LIMIT:
        raise unsupported(deployment, "seed", "a seed of more than 32 bits")
    _check_schemas(request, deployment)
    for path, part in media_with_paths(request):
        _check_media(path, part, deployment)
    _check_calls_and_results(request, deployment)


def request_message(call: ProviderCall, resource: str) -> Any:
    """The protobuf request for an attempt.

    Args:
        call: the attempt; `check_request` accepted it.
        resource: the model's resource name.
    """
    request = call.request
    message = messages().GenerateContentRequest(model=resource)
    if request.system:
        message.system_instruction.parts.add(text=request.system)
    _add_contents(message, call)
    _set_config(message.generation_config, call)
    if request.tools:
        _set_tools(message, request)
    return message


# --- checks ----------------------------------------------------------------------------------------------------------


def _is_new(deployment: Deployment) -> bool:
    """Generation 3 or later; a name that tells no generation is taken for new."""
    match = _GENERATION.search(deployment.target) or _GENERATION.search(deployment.model_id)
    return match is None or int(match[1]) >= _LEVELS_SINCE


def _check_thinking(effort: ReasoningEffort | None, profile: ModelProfile, deployment: Deployment) -> None:
    if effort is None:
        return
    if effort is not ReasoningEffort.NONE:
        if not profile.capabilities.thinking:
            raise unsupported(deployment, "reasoning_effort", "a reasoning effort")
        return
    names = deployment.target + deployment.model_id
    can_stop = _MINIMAL_THINKING.search(names) if _is_new(deployment) else "pro" not in names
    if profile.capabilities.thinking and not can_stop:
        raise unsupported(deployment, "reasoning_effort", "reasoning_effort none: it always thinks")


def _check_schemas(request: ChatRequest, deployment: Deployment) -> None:
    if is_too_deep(request.response_format.schema):
        raise unsupported(deployment, "response_format.schema", "a schema that nests so deep")
    for index, tool in enumerate(request.tools):
        if is_too_deep(tool.parameters):
            raise unsupported(deployment, f"tools[{index}].parameters", "a schema that nests so deep")


def _check_media(path: str, part: MediaPart, deployment: Deployment) -> None:
    mime = part.mime_type.lower()
    if part.modality is Modality.IMAGE and mime not in _IMAGES:
        raise unsupported(deployment, path, "images other than PNG, JPEG, WebP and HEIC")
    if part.modality is Modality.DOCUMENT and mime not in _DOCUMENTS:
        raise unsupported(deployment, path, "documents other than PDF and plain text")


def _check_calls_and_results(request: ChatRequest, deployment: Deployment) -> None:
    """Gemini matches results to calls by name, so a result must name its tool or follow the call that does."""
    named: set[str] = set()
    for turn, message in enumerate(request.messages):
        for place, part in enumerate(message.parts):
            match part:
                case ToolCallPart():
                    named.add(part.id)
                    if not _is_plain_object(part.arguments_json):
                        path = f"messages[{turn}].content[{place}].arguments"
                        raise unsupported(
                            deployment, path, "tool arguments that are not a JSON object, or nest too deep"
                        )
                case ToolResultPart() if not part.name and part.tool_call_id not in named:
                    path = f"messages[{turn}].content[{place}].tool_call_id"
                    raise unsupported(deployment, path, "a tool result without a name or an earlier call")


def _is_plain_object(text: str) -> bool:
    try:
        value = _arguments(text)
    except ValueError:
        return False
    return isinstance(value, dict) and not is_too_deep(value)


# --- contents --------------------------------------------------------------------------------------------------------


def _add_contents(message: Any, call: ProviderCall) -> None:
    """Turns in order; turns of one role that follow each other are one content, as parallel tool results must be."""
    names: dict[str, str] = {}
    needs_signature = _is_new(call.deployment)
    content: Any = None
    for turn in call.request.messages:
        role = "model" if turn.role is Role.ASSISTANT else "user"
        if content is None or content.role != role:
            content = message.contents.add(role=role)
        _add_parts(content, turn, names, call.profile.id)
        if not content.parts:
            message.contents.pop()
            content = message.contents[-1] if message.contents else None
    if needs_signature:
        for content in message.contents:
            _sign_foreign_calls(content)


def _add_parts(content: Any, turn: Message, names: dict[str, str], model_id: str) -> None:
    for part in turn.parts:
        _add_part(content, part, names, model_id)


def _add_part(content: Any, part: Part, names: dict[str, str], model_id: str) -> None:
    match part:
        case TextPart(text=text):
            if text:
                content.parts.add(text=text)
        case MediaPart():
            _add_media(content, part)
        case ThinkingPart():
            signature = _signature(part.signature, part.origin_model_id, model_id)
            if signature:
                content.parts.add(text=part.text, thought=bool(part.text), thought_signature=signature)
        case ToolCallPart():
            names[part.id] = part.name
            added = content.parts.add()
            added.function_call.name = part.name
            added.function_call.args.SetInParent()
            set_struct(added.function_call.args, _arguments(part.arguments_json))
            added.thought_signature = _signature(part.signature, part.origin_model_id, model_id)
        case ToolResultPart():
            answer = content.parts.add().function_response
            answer.name = part.name or names[part.tool_call_id]
            set_struct(answer.response, {"error" if part.is_error else "output": part.text})


def _add_media(content: Any, part: MediaPart) -> None:
    if part.data is not None:
        content.parts.add(inline_data={"mime_type": part.mime_type, "data": part.data})
    else:
        content.parts.add(file_data={"mime_type": part.mime_type, "file_uri": part.uri})


def _signature(signature: str | None, origin_model_id: str | None, model_id: str) -> bytes:
    """The signature's bytes when this model gave it; another model's, or a broken one, would be a 400."""
    if signature is None or origin_model_id != model_id:
        return b""
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _sign_foreign_calls(content: Any) -> None:
    """The first call of a turn must carry a signature; Gemini itself signs only that one of parallel calls."""
    calls = [part for part in content.parts if part.HasField("function_call")]
    if calls and not any(part.thought_signature for part in calls):
        calls[0].thought_signature = FOREIGN_CALL_SIGNATURE


def _arguments(text: str) -> Any:
    return orjson.loads(text) if text.strip() else {}


# --- configuration ---------------------------------------------------------------------------------------------------


def _set_config(config: Any, call: ProviderCall) -> None:
    request, sampling = call.request, call.request.sampling
    config.max_output_tokens = call.max_output_tokens
    for name in ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed"):
        value = getattr(sampling, name)
        if value is not None:
            setattr(config, name, value)
    config.stop_sequences.extend(sampling.stop)
    if request.response_format.kind is not FormatKind.TEXT:
        config.response_mime_type = "application/json"
    if request.response_format.kind is FormatKind.JSON_SCHEMA:
        set_value(config.response_json_schema, request.response_format.schema or {})
    if request.reasoning_effort is not None and call.profile.capabilities.thinking:
        _set_thinking(config.thinking_config, request.reasoning_effort, is_new=_is_new(call.deployment))


def _set_thinking(config: Any, effort: ReasoningEffort, *, is_new: bool) -> None:
    config.include_thoughts = effort is not ReasoningEffort.NONE
    if is_new:
        config.thinking_level = type(config).ThinkingLevel.Value(_LEVEL[effort])
    else:
        config.thinking_budget = _BUDGET_TOKENS[effort]


def _set_tools(message: Any, request: ChatRequest) -> None:
    tool = message.tools.add()
    for wanted in request.tools:
        declaration = tool.function_declarations.add(name=wanted.name, description=wanted.description)
        if wanted.parameters:
            set_value(declaration.parameters_json_schema, wanted.parameters)
    config = message.tool_config.function_calling_config
    config.mode = type(config).Mode.Value(_TOOL_MODE[request.tool_choice.mode])
    if request.tool_choice.name is not None:
        config.mode = type(config).Mode.Value("ANY")
        config.allowed_function_names.append(request.tool_choice.name)
