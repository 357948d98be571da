"""What text-only wire forms cannot carry, refused before the call."""

from shared.domain.chat import ChatRequest, FormatKind, ReasoningEffort, ToolCallPart, ToolResultPart
from shared.domain.models import Deployment, ModelProfile
from shared.providers.capabilities import check_capabilities, media_with_paths, unsupported
from shared.providers.custom import CustomMapping, unset_slots


def check_tgi(request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
    """Refuse what TGI's generate route has no field for; JSON goes by its grammar.

    Raises:
        UnsupportedFeature: naming the field.
    """
    _check_text_only(request, profile, deployment)
    if request.sampling.presence_penalty is not None:
        raise unsupported(deployment, "presence_penalty", "presence_penalty")


def check_vllm(request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
    """Refuse what predict cannot bring to vLLM: JSON formats, and the parameters that must be integers.

    Raises:
        UnsupportedFeature: naming the field.
    """
    _check_text_only(request, profile, deployment)
    _check_free_text(request, deployment)
    for name in ("top_k", "seed"):
        if getattr(request.sampling, name) is not None:
            raise unsupported(deployment, name, f"{name}: predict makes a float of it")


def check_custom(request: ChatRequest, profile: ModelProfile, deployment: Deployment, mapping: CustomMapping) -> None:
    """Refuse what the declared template has no slot for.

    Raises:
        UnsupportedFeature: naming the field.
    """
    _check_text_only(request, profile, deployment)
    _check_free_text(request, deployment)
    for name in unset_slots(mapping, request):
        raise unsupported(deployment, name, name)


def _check_text_only(request: ChatRequest, profile: ModelProfile, deployment: Deployment) -> None:
    check_capabilities(request, profile, deployment)
    if request.tools:
        raise unsupported(deployment, "tools", "tools")
    for path, _ in media_with_paths(request):
        raise unsupported(deployment, path, "attachments")
    for turn, message in enumerate(request.messages):
        for place, part in enumerate(message.parts):
            if isinstance(part, ToolCallPart | ToolResultPart):
                raise unsupported(deployment, f"messages[{turn}].content[{place}]", "tool calls and their results")
    if request.reasoning_effort not in (None, ReasoningEffort.NONE):
        raise unsupported(deployment, "reasoning_effort", "reasoning_effort")


def _check_free_text(request: ChatRequest, deployment: Deployment) -> None:
    if request.response_format.kind is not FormatKind.TEXT:
        raise unsupported(deployment, "response_format", "a response format")
