"""`Deployment.options` of MaaS, Hugging Face and custom deployments: checked when a registry loads."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.domain.errors import InvalidRequest
from shared.domain.models import Deployment, EndpointFormat, ProviderKind
from shared.providers.custom import CustomMapping
from shared.providers.openai_wire import ReasoningForm
from shared.providers.vertex_http import path_segment, trusted_host

_FORMATS: Final[Mapping[ProviderKind, frozenset[EndpointFormat | None]]] = {
    ProviderKind.OPENAI_MAAS: frozenset({None, EndpointFormat.OPENAI_CHAT}),
    ProviderKind.HUGGING_FACE: frozenset({EndpointFormat.TGI, EndpointFormat.VLLM, EndpointFormat.OPENAI_CHAT}),
    ProviderKind.CUSTOM: frozenset({EndpointFormat.PREDICT, EndpointFormat.RAW_PREDICT}),
}


class MaasOptions(BaseModel):
    """Options of an OPENAI_MAAS deployment.

    Attributes:
        publisher: set for publishers that Vertex serves by rawPredict with a chat body (``mistralai``).
        reasoning: how the model is told how much to think.
        return_thinking: whether its thinking goes back in later turns (DeepSeek wants it between tool calls); several
            servers refuse it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    publisher: Literal["mistralai"] | None = None
    reasoning: ReasoningForm = ReasoningForm.EFFORT
    return_thinking: bool = False


class ChatEndpointOptions(BaseModel):
    """Options of a HUGGING_FACE deployment with OPENAI_CHAT.

    Attributes:
        model: the name that the server serves the model under; left out of the body when unset.
        reasoning, return_thinking: as in `MaasOptions`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(default=None, min_length=1, max_length=256)
    reasoning: ReasoningForm = ReasoningForm.EFFORT
    return_thinking: bool = False


class PromptOptions(BaseModel):
    """Options of a HUGGING_FACE deployment with TGI or VLLM: how turns become the prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: Literal["chatml", "llama3", "gemma", "mistral", "plain"] = "chatml"


Options = TypeVar("Options", bound=BaseModel)


def validate_options(deployment: Deployment) -> None:
    """Check what an adapter relies on: of every deployment the host that gets its token, of endpoints their options.

    Raises:
        InvalidRequest: the message and `param` name the deployment and the key.
    """
    if deployment.dedicated_host is not None:
        trusted_host(deployment)
    formats = _FORMATS.get(deployment.provider)
    if formats is None:
        return
    if deployment.endpoint_format not in formats:
        known = ", ".join(sorted(form.value for form in formats if form is not None))
        raise _invalid(deployment, "endpoint_format", f"must be one of {known}")
    in_body = deployment.provider is ProviderKind.OPENAI_MAAS  # names such as meta/llama-4 are no part of an address
    path_segment(deployment, "target", deployment.target.replace("/", "-") if in_body else deployment.target)
    path_segment(deployment, "region", deployment.region)
    if deployment.project is not None:
        path_segment(deployment, "project", deployment.project)
    parsed(deployment, options_model(deployment))
    if deployment.endpoint_format is EndpointFormat.RAW_PREDICT and deployment.options.get("parameters") is not None:
        raise _invalid(deployment, "options.parameters", "is for predict; a rawPredict body is all in request")


def options_model(deployment: Deployment) -> type[BaseModel]:
    """The model of a deployment's options."""
    if deployment.provider is ProviderKind.OPENAI_MAAS:
        return MaasOptions
    if deployment.provider is ProviderKind.CUSTOM:
        return CustomMapping
    return ChatEndpointOptions if deployment.endpoint_format is EndpointFormat.OPENAI_CHAT else PromptOptions


def parsed(deployment: Deployment, model: type[Options]) -> Options:
    """The deployment's options.

    Raises:
        InvalidRequest: naming deployment and key.
    """
    try:
        return model.model_validate(dict(deployment.options))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(("options", *(str(step) for step in first["loc"])))
        raise _invalid(deployment, key, first["msg"]) from None


class OptionsCache:
    """Options of the deployments seen, checked once per registry version and not once per call."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, BaseModel]] = {}

    def of(self, deployment: Deployment, model: type[Options]) -> Options:
        """The deployment's options.

        Raises:
            InvalidRequest: naming deployment and key.
        """
        known = self._known.get(deployment.id)
        # A new registry holds new mappings; comparing identity keeps the old one alive, so that its id stays taken.
        if known is not None and known[0] is deployment.options and isinstance(known[1], model):
            return known[1]
        options = parsed(deployment, model)
        self._known[deployment.id] = (deployment.options, options)
        return options


def _invalid(deployment: Deployment, key: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"deployment {deployment.id}: {key}: {what}", param=f"deployments.{deployment.id}.{key}")
