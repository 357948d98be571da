"""What the generations of Claude take, by the model id; a deployment's options override it.

Sources: the "what's new" and migration pages of each model below https://platform.claude.com/docs/en/models, and
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/structured_outputs.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from shared.domain.models import Deployment

_NAME = re.compile(r"claude-(?:([a-z]+)-)?(\d+)(?:-(\d{1,2})(?!\d))?(?:-([a-z]+))?")
_UNKNOWN: Final = (99, 0)
"""A name that tells no version is taken for the newest."""


class ThinkingForm(StrEnum):
    """How thinking is asked for."""

    BUDGET = "budget"
    """``{"type": "enabled", "budget_tokens": N}``, up to 4.5."""
    ADAPTIVE = "adaptive"
    """``{"type": "adaptive"}`` and ``output_config.effort``, from 4.6."""


@dataclass(frozen=True, slots=True)
class ClaudeTraits:
    """What a Claude model takes.

    Attributes:
        thinking_hidden: whether thinking comes without its text unless that is asked for (from 4.7 on).
        thinking_off: the type of ``thinking`` that turns it off; None where leaving it out does, or where nothing can.
        always_thinks: whether nothing can turn it off.
        forced_tools: whether ``tool_choice`` may be ``any`` or ``tool``.
        structured_outputs: whether ``output_config.format`` and strict tools exist. An organisation policy of Google
            Cloud can switch them off: say so in the deployment's options then.
        prefill: whether the last turn may be the assistant's, to be continued.
        temperature_and_top_p: whether both may be set at once.
    """

    thinking_form: ThinkingForm
    thinking_hidden: bool = True
    thinking_off: str | None = None
    always_thinks: bool = False
    forced_tools: bool = True
    structured_outputs: bool = True
    prefill: bool = False
    temperature_and_top_p: bool = False


def traits_of(deployment: Deployment) -> ClaudeTraits:
    """The traits of a deployment's model.

    They follow from its version; the boolean options ``forced_tools``, ``structured_outputs`` and ``prefill`` of the
    deployment replace those of the same name.
    """
    family, version = _family_and_version(deployment)
    traits, options = _by_version(family, version), deployment.options
    if not options:
        return traits
    return replace(
        traits,
        forced_tools=bool(options.get("forced_tools", traits.forced_tools)),
        structured_outputs=bool(options.get("structured_outputs", traits.structured_outputs)),
        prefill=bool(options.get("prefill", traits.prefill)),
    )


def _family_and_version(deployment: Deployment) -> tuple[str, tuple[int, int]]:
    match = _NAME.search(deployment.target) or _NAME.search(deployment.model_id)
    if match is None:
        return "", _UNKNOWN
    return match[1] or match[4] or "", (int(match[2]), int(match[3] or 0))


def _by_version(family: str, version: tuple[int, int]) -> ClaudeTraits:
    if version < (4, 6):
        return ClaudeTraits(
            thinking_form=ThinkingForm.BUDGET,
            thinking_hidden=False,
            structured_outputs=version >= (4, 5),
            prefill=True,
            temperature_and_top_p=version < (4, 1),
        )
    if version < (5, 0):
        return ClaudeTraits(thinking_form=ThinkingForm.ADAPTIVE, thinking_hidden=version >= (4, 7))
    if family == "fable" or (family == "opus" and version > (5, 0)):
        return ClaudeTraits(thinking_form=ThinkingForm.ADAPTIVE, always_thinks=True, forced_tools=False)
    if version == (5, 0) or family == "haiku":
        return ClaudeTraits(thinking_form=ThinkingForm.ADAPTIVE, thinking_off="disabled")
    return ClaudeTraits(thinking_form=ThinkingForm.ADAPTIVE, thinking_off="between_tools", forced_tools=False)
