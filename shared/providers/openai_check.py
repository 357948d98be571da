"""What an OpenAI chat completion cannot carry, refused before the call."""

from shared.domain.chat import ChatRequest, MediaPart, Modality, ReasoningEffort, Role
from shared.domain.models import Deployment, ModelProfile
from shared.providers.capabilities import check_capabilities, media_with_paths, unsupported
from shared.providers.openai_wire import AUDIO_FORMATS, ChatDialect, ReasoningForm


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


def _check_reasoning(
    effort: ReasoningEffort | None, profile: ModelProfile, deployment: Deployment, form: ReasoningForm
) -> None:
    thinks = profile.capabilities.thinking
    if effort not in (None, ReasoningEffort.NONE) and not thinks:
        raise unsupported(deployment, "reasoning_effort", "a reasoning effort")
    if effort is ReasoningEffort.NONE and thinks and form is ReasoningForm.EFFORT:
        raise unsupported(deployment, "reasoning_effort", "reasoning_effort none: it always thinks")


def _check_audio(deployment: Deployment, path: str, part: MediaPart) -> None:
    if part.data is None:
        raise unsupported(deployment, path, "audio by URI")
    if part.mime_type not in AUDIO_FORMATS:
        raise unsupported(deployment, path, "audio that is neither wav nor mp3")
