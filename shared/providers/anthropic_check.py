"""What Claude on Vertex AI cannot carry, refused before the call."""

from typing import Final

import orjson

from shared.domain.chat import ChatRequest, MediaPart, Modality, ReasoningEffort, Role, ToolCallPart, ToolMode
from shared.domain.models import Deployment, ModelProfile
from shared.providers.anthropic_request import answers_by_tool
from shared.providers.anthropic_traits import ClaudeTraits, ThinkingForm, traits_of
from shared.providers.capabilities import check_capabilities, media_with_paths, unsupported

_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_DOCUMENTS: Final = frozenset({"application/pdf", "text/plain"})
_MAX_IMAGE_BYTES: Final = 5 * 1024 * 1024
_ABSENT: Final = ("seed", "presence_penalty", "frequency_penalty")


def check_request(request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
    """Refuse what this model cannot carry.

    Raises:
        UnsupportedFeature: naming the field.
    """
    check_capabilities(request, profile, deployment)
    traits = traits_of(deployment)
    _check_sampling(request, traits, deployment)
    _check_tools(request, traits, deployment)
    _check_thinking(request, profile, traits, deployment)
    for path, part in media_with_paths(request):
        _check_media(path, part, deployment)
    _check_turns(request, traits, deployment)


def _check_sampling(request: ChatRequest, traits: ClaudeTraits, deployment: Deployment) -> None:
    sampling = request.sampling
    for name in _ABSENT:
        value = getattr(sampling, name)
        if value is not None and (name == "seed" or value != 0):
            raise unsupported(deployment, name, name)
    if sampling.temperature is not None and sampling.temperature > 1:
        raise unsupported(deployment, "temperature", "a temperature above 1")
    if sampling.temperature is not None and sampling.top_p is not None and not traits.temperature_and_top_p:
        raise unsupported(deployment, "top_p", "top_p beside temperature")
    if any(not stop.strip() for stop in sampling.stop):
        raise unsupported(deployment, "stop", "a stop sequence of white space")


def _check_tools(request: ChatRequest, traits: ClaudeTraits, deployment: Deployment) -> None:
    choice = request.tool_choice
    forced = bool(request.tools) and (choice.mode is ToolMode.REQUIRED or choice.name is not None)
    if forced and not traits.forced_tools:
        raise unsupported(deployment, "tool_choice", "a forced tool call")
    if answers_by_tool(request, traits):
        if not traits.forced_tools:
            raise unsupported(deployment, "response_format", "a JSON schema")
        if request.tools:
            raise unsupported(deployment, "response_format", "a JSON schema beside tools")


def _check_thinking(request: ChatRequest, profile: ModelProfile, traits: ClaudeTraits, deployment: Deployment) -> None:
    effort = request.reasoning_effort
    if effort is None:
        return
    if effort is ReasoningEffort.NONE:
        if profile.capabilities.thinking and traits.always_thinks:
            raise unsupported(deployment, "reasoning_effort", "reasoning_effort none: it always thinks")
        return
    if not profile.capabilities.thinking:
        raise unsupported(deployment, "reasoning_effort", "a reasoning effort")
    if traits.thinking_form is ThinkingForm.BUDGET:
        for name, neutral in (("temperature", 1), ("top_k", None)):
            if getattr(request.sampling, name) not in (None, neutral):
                raise unsupported(deployment, name, f"{name} beside a reasoning effort")


def _check_media(path: str, part: MediaPart, deployment: Deployment) -> None:
    mime = part.mime_type.lower()
    if part.data is None:
        raise unsupported(deployment, path, "attachments by URI")
    if part.modality is Modality.IMAGE:
        if mime not in _IMAGES:
            raise unsupported(deployment, path, "images other than JPEG, PNG, GIF and WebP")
        if len(part.data) > _MAX_IMAGE_BYTES:
            raise unsupported(deployment, path, "images over 5 MB")
    elif part.modality is Modality.DOCUMENT:
        if mime not in _DOCUMENTS:
            raise unsupported(deployment, path, "documents other than PDF and plain text")
    else:
        raise unsupported(deployment, path, f"{part.modality.value} attachments")


def _check_turns(request: ChatRequest, traits: ClaudeTraits, deployment: Deployment) -> None:
    last = len(request.messages) - 1
    if request.messages[last].role is Role.ASSISTANT and not traits.prefill:
        raise unsupported(deployment, f"messages[{last}]", "an assistant's turn at the end, to be continued")
    for turn, message in enumerate(request.messages):
        for place, part in enumerate(message.parts):
            path = f"messages[{turn}].content[{place}]"
            if isinstance(part, MediaPart) and message.role is Role.ASSISTANT:
                raise unsupported(deployment, path, "attachments in an assistant's turn")
            if isinstance(part, ToolCallPart) and not _is_object(part.arguments_json):
                raise unsupported(deployment, f"{path}.arguments", "tool arguments that are not a JSON object")


def _is_object(text: str) -> bool:
    try:
        return not text.strip() or isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
