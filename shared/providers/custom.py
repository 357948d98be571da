"""The declarative mapping of a custom endpoint: a request template with slots, and paths into the answer.

`Deployment.options` of a PREDICT or RAW_PREDICT deployment::

    {
      "request":   {"prompt": "{{prompt}}", "max_tokens": "{{max_tokens}}", "temperature": "{{temperature}}"},
      "parameters": {"raw": true},                                   # PREDICT only, may hold slots too
      "response":  {"text": "/predictions/0/content", "finish_reason": "/predictions/0/stop_reason",
                    "input_tokens": "/predictions/0/usage/in", "output_tokens": "/predictions/0/usage/out"},
      "finish_reasons": {"eos": "stop", "max_length": "length"},
      "template": "chatml"
    }

``request`` is the instance (PREDICT) or the whole body (RAW_PREDICT). A string that is exactly a slot becomes the
slot's value with its own type, and its key is left out when the request does not set it; ``{{prompt}}`` may also stand
inside a longer string. Nothing is evaluated, and inserted text is never searched for slots. Paths are JSON pointers
(RFC 6901) or dotted, from the top of the answer; a predict answer's top is ``{"predictions": [...]}``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.domain.chat import ChatRequest
from shared.domain.replies import Finished, FinishReason, StreamEvent, TextDelta, UsageUpdate
from shared.ports import ProviderCall
from shared.providers.endpoints_prompt import plain_messages, render
from shared.providers.errors import unreadable
from shared.providers.usage_estimate import NOT_REPORTED, estimated_usage, token_count

Slots = Mapping[str, Callable[[ProviderCall, str], object]]

_SLOTS: Final[Slots] = {
    "prompt": lambda call, template: render(call.request, template),
    "messages": lambda call, _: plain_messages(call.request),
    "max_tokens": lambda call, _: call.max_output_tokens,
    "temperature": lambda call, _: call.request.sampling.temperature,
    "top_p": lambda call, _: call.request.sampling.top_p,
    "top_k": lambda call, _: call.request.sampling.top_k,
    "presence_penalty": lambda call, _: call.request.sampling.presence_penalty,
    "frequency_penalty": lambda call, _: call.request.sampling.frequency_penalty,
    "seed": lambda call, _: call.request.sampling.seed,
    "stop": lambda call, _: list(call.request.sampling.stop) or None,
}
_SLOT: Final = re.compile(r"\{\{([a-z_]*)\}\}")
_DEFAULT_REASONS: Final = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_MAX_TEMPLATE_DEPTH: Final = 16
_UNSET: Final = object()


class ResponsePaths(BaseModel):
    """Where the answer's parts are; only the text is required."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(min_length=1)
    input_tokens: str | None = Field(default=None, min_length=1)
    output_tokens: str | None = Field(default=None, min_length=1)
    finish_reason: str | None = Field(default=None, min_length=1)


class CustomMapping(BaseModel):
    """`Deployment.options` of a custom endpoint, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: dict[str, Any] = Field(min_length=1)
    parameters: dict[str, Any] | None = None
    response: ResponsePaths
    finish_reasons: dict[str, FinishReason] = Field(default_factory=dict)
    template: Literal["chatml", "llama3", "gemma", "mistral", "plain"] = "plain"

    @field_validator("request", "parameters")
    @classmethod
    def _known_slots(cls, template: dict[str, Any] | None) -> dict[str, Any] | None:
        _slots_of(template, 0)
        return template

    @model_validator(mode="after")
    def _needed_slots(self) -> "CustomMapping":
        if not {"prompt", "messages"} & self.slots():
            raise ValueError("request must hold {{prompt}} or {{messages}}")
        if "max_tokens" not in self.slots():
            # Budgets reserve the price of max_tokens: an endpoint that is not told could answer past it.
            raise ValueError("request or parameters must hold {{max_tokens}}")
        return self

    def slots(self) -> frozenset[str]:
        """Every slot that the template uses."""
        return frozenset(_slots_of(self.request, 0) | _slots_of(self.parameters, 0))


def filled(template: Mapping[str, Any], call: ProviderCall, prompt_template: str) -> dict[str, Any]:
    """The template with the call's values in its slots.

    Args:
        template: `CustomMapping.request` or `.parameters`.
        call: the attempt.
        prompt_template: how turns become ``{{prompt}}``, a key of `TEMPLATES`.
    """

    def fill(node: Any) -> Any:
        if isinstance(node, str):
            whole = _SLOT.fullmatch(node)
            if whole:
                value = _SLOTS[whole[1]](call, prompt_template)
                return _UNSET if value is None else value
            return _SLOT.sub(lambda slot: str(_SLOTS[slot[1]](call, prompt_template)), node)
        if isinstance(node, Mapping):
            pairs = ((key, fill(item)) for key, item in node.items())
            return {key: value for key, value in pairs if value is not _UNSET}
        if isinstance(node, list):
            return [value for value in map(fill, node) if value is not _UNSET]
        return node

    result: dict[str, Any] = fill(template)
    return result


def answer_events(mapping: CustomMapping, call: ProviderCall, answer: object, vendor: str) -> list[StreamEvent]:
    """The events of a custom endpoint's answer.

    Without a finish reason in the answer, one that reached `max_output_tokens` counts as cut by length, when the
    endpoint reports its tokens.

    Raises:
        ProviderBadResponse: there is no text where the mapping says.
    """
    paths = mapping.response
    text = found(answer, paths.text)
    if not isinstance(text, str):
        raise unreadable(vendor, "no text where the deployment's response.text points")
    reported_input = token_count(found(answer, paths.input_tokens))
    reported_output = token_count(found(answer, paths.output_tokens))
    native = found(answer, paths.finish_reason)
    if isinstance(native, str):
        default = _DEFAULT_REASONS.get(native.lower(), FinishReason.STOP)
        finish = Finished(mapping.finish_reasons.get(native, default), native)
    else:
        at_limit = reported_output is not None and reported_output >= call.max_output_tokens
        finish = Finished(FinishReason.LENGTH if at_limit else FinishReason.STOP, NOT_REPORTED)
    usage = estimated_usage(call, len(text), input_tokens=reported_input, output_tokens=reported_output)
    return [TextDelta(text), UsageUpdate(usage), finish]


def found(answer: object, path: str | None) -> object:
    """What is at `path`, a JSON pointer (``/a/0/b``) or dotted (``a.0.b``); None when nothing is."""
    if path is None:
        return None
    for step in _steps(path):
        if isinstance(answer, Mapping):
            answer = answer.get(step)
        elif isinstance(answer, list) and step.isdecimal() and int(step) < len(answer):
            answer = answer[int(step)]
        else:
            return None
    return answer


def unset_slots(mapping: CustomMapping, request: ChatRequest) -> list[str]:
    """Sampling fields that the request sets and the template has no slot for."""
    sampling, slots = request.sampling, mapping.slots()
    return [
        name
        for name in ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed", "stop")
        if getattr(sampling, name) not in (None, ()) and name not in slots
    ]


def _steps(path: str) -> list[str]:
    if path.startswith("/"):
        return [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]
    return path.split(".")


def _slots_of(node: Any, depth: int) -> set[str]:
    """Slots below a node of a template.

    Raises:
        ValueError: an unknown slot, one inside a longer string that is no text, or too deep a template.
    """
    if depth > _MAX_TEMPLATE_DEPTH:
        raise ValueError(f"deeper than {_MAX_TEMPLATE_DEPTH} levels")
    if isinstance(node, Mapping):
        return set().union(*(_slots_of(item, depth + 1) for item in node.values()))
    if isinstance(node, list):
        return set().union(*(_slots_of(item, depth + 1) for item in node))
    if not isinstance(node, str):
        return set()
    names = set(_SLOT.findall(node))
    if unknown := sorted(names - _SLOTS.keys()):
        raise ValueError(f"unknown slot {{{{{unknown[0]}}}}}; known: {', '.join(sorted(_SLOTS))}")
    if names - {"prompt"} and not _SLOT.fullmatch(node):
        raise ValueError("only {{prompt}} may stand inside a longer string")
    return names
