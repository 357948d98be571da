"""What a model itself does not do, refused before the call: shared by every wire form."""

from shared.domain.chat import ChatRequest, FormatKind, MediaPart
from shared.domain.errors import UnsupportedFeature
from shared.domain.models import Capabilities, Deployment, ModelProfile


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


def media_with_paths(request: ChatRequest) -> list[tuple[str, MediaPart]]:
    """Every attachment with its place in the request."""
    return [
        (f"messages[{turn}].content[{place}]", part)
        for turn, message in enumerate(request.messages)
        for place, part in enumerate(message.parts)
        if isinstance(part, MediaPart)
    ]


def _check_modality(deployment: Deployment, can: Capabilities, path: str, part: MediaPart) -> None:
    if part.modality not in can.modalities:
        raise unsupported(deployment, path, f"{part.modality.value} attachments")
    if part.uri is not None and not can.media_uris:
        raise unsupported(deployment, path, "attachments by URI")
