"""What an OpenAI chat completion cannot carry, refused before the call."""

from shared.domain.chat import ChatRequest, FormatKind, MediaPart, Modality, ReasoningEffort, Role
from shared.domain.errors import UnsupportedFeature
from shared.domain.models import Capabilities, Deployment, ModelProfile
from shared.providers.openai_wire import AUDIO_FORMATS, ChatDialect, ReasoningForm


def unsupported(deployment: Deployment, param: str, what: str) -> UnsupportedFeature:
    """The refusal of one field; `what` completes "the model at ... does not take"."""
    return UnsupportedFeature(f"the model at {deployment.id} does not take {what}", param=param)


def check_capabilities(request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
    """Refuse what the model itself does not do.

    Raises:
        UnsupportedFeature: naming the field.
    """
    can = profile.capabilities
    if request.tools and not can.tools:
        raise unsupported(deployment, "tools", "tools")
    if request.system and not can.system:
        raise unsupported(deployment, "system", "a system prompt")
    if request.response_format.kind is FormatKind.JSON_OBJECT and not can.json_object:
        raise unsupported(deployment, "response_format", "JSON mode")
    if request.response_format.kind is FormatKind.JSON_SCHEMA and not can.json_schema:
        raise unsupported(deployment, "response_format", "a JSON schema")
    if not can.sampling:
        for name in ("temperature", "top_p", "top_k"):
            if getattr(request.sampling, name) is not None:
                raise unsupported(deployment, name, name)
    for path, part in media_with_paths(request):
        _check_modality(deployment, can, path, part)


def check_chat(
    request: ChatRequest,
    profile: ModelProfile,
    deployment: Deployment,
    dialect: ChatDialect,
    reasoning: ReasoningForm,
) -> None:
    """Refuse what this model or this dialect of chat completions cannot carry.

    Raises:
        UnsupportedFeature: naming the field.
    """
    check_capabilities(request, profile, deployment)
    if request.sampling.top_k is not None and not dialect.top_k:
        raise unsupported(deployment, "top_k", "top_k")
    _check_reasoning(request.reasoning_effort, profile, deployment, reasoning)
    for path, part in media_with_paths(request):
        if part.modality not in dialect.media:
            raise unsupported(deployment, path, f"{part.modality.value} attachments")
        if part.modality is Modality.AUDIO:
            _check_audio(deployment, path, part)
    for turn, message in enumerate(request.messages):
        if message.role is not Role.USER and any(isinstance(part, MediaPart) for part in message.parts):
            raise unsupported(deployment, f"messages[{turn}]", f"attachments in {message.role.value} turns")


def media_with_paths(request: ChatRequest) -> list[tuple[str, MediaPart]]:
    """Every attachment with its place in the request."""
    return [
        (f"messages[{turn}].content[{place}]", part)
        for turn, message in enumerate(request.messages)
        for place, part in enumerate(message.parts)
        if isinstance(part, MediaPart)
    ]


def _check_reasoning(
    effort: ReasoningEffort | None, profile: ModelProfile, deployment: Deployment, form: ReasoningForm
) -> None:
    thinks = profile.capabilities.thinking
    if effort not in (None, ReasoningEffort.NONE) and not thinks:
        raise unsupported(deployment, "reasoning_effort", "a reasoning effort")
    if effort is ReasoningEffort.NONE and thinks and form is ReasoningForm.EFFORT:
        raise unsupported(deployment, "reasoning_effort", "reasoning_effort none: it always thinks")


def _check_modality(deployment: Deployment, can: Capabilities, path: str, part: MediaPart) -> None:
    if part.modality not in can.modalities:
        raise unsupported(deployment, path, f"{part.modality.value} attachments")
    if part.uri is not None and not can.media_uris:
        raise unsupported(deployment, path, "attachments by URI")


def _check_audio(deployment: Deployment, path: str, part: MediaPart) -> None:
    if part.data is None:
        raise unsupported(deployment, path, "audio by URI")
    if part.mime_type not in AUDIO_FORMATS:
        raise unsupported(deployment, path, "audio that is neither wav nor mp3")
