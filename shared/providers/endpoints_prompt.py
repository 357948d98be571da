"""Prompt text for endpoints that take a string instead of messages.

Each template is the published one of its model family, without the beginning-of-sequence token, which the servers add
themselves. Text from the request never writes a control token: whatever reads like one is broken by a space, so that a
user cannot forge a turn.

Sources: ChatML (https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md),
https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/,
https://ai.google.dev/gemma/docs/core/prompt-structure,
https://docs.mistral.ai/cookbooks/concept-deep-dive-tokenization-chat_templates (V3: system text in the first turn).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.domain.chat import ChatRequest, Role


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """How turns become one string; ``{}`` stands for a turn's text.

    Attributes:
        system: None folds the system text into the first user turn, for families that have no system turn.
        generation: what invites the model's turn, after the last one.
        control: what the request's text may not contain.
    """

    system: str | None
    user: str
    assistant: str
    generation: str
    control: re.Pattern[str]


TEMPLATES: Final[Mapping[str, PromptTemplate]] = {
    "chatml": PromptTemplate(
        system="<|im_start|>system\n{}<|im_end|>\n",
        user="<|im_start|>user\n{}<|im_end|>\n",
        assistant="<|im_start|>assistant\n{}<|im_end|>\n",
        generation="<|im_start|>assistant\n",
        control=re.compile(r"<\|"),
    ),
    "llama3": PromptTemplate(
        system="<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>",
        user="<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
        assistant="<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>",
        generation="<|start_header_id|>assistant<|end_header_id|>\n\n",
        control=re.compile(r"<\|"),
    ),
    "gemma": PromptTemplate(
        system=None,
        user="<start_of_turn>user\n{}<end_of_turn>\n",
        assistant="<start_of_turn>model\n{}<end_of_turn>\n",
        generation="<start_of_turn>model\n",
        control=re.compile(r"<(?=start_of_turn>|end_of_turn>|bos>|eos>)"),
    ),
    "mistral": PromptTemplate(
        system=None,
        user="[INST] {}[/INST]",
        assistant=" {}</s>",
        generation="",
        control=re.compile(r"\[(?=/?INST\])|<(?=/?s>)"),
    ),
    "plain": PromptTemplate(
        system="{}\n\n",
        user="User: {}\n\n",
        assistant="Assistant: {}\n\n",
        generation="Assistant:",
        control=re.compile(r"(?!)"),
    ),
}
"""``plain`` is for models without control tokens: nothing sets its turns apart from text that looks like them."""

DEFAULT_TEMPLATE: Final = "chatml"


def render(request: ChatRequest, template_name: str) -> str:
    """The prompt, ready for the model to continue. Only text is written; the adapters refuse the rest.

    Args:
        request: the conversation.
        template_name: a key of `TEMPLATES`.
    """
    template = TEMPLATES[template_name]
    folded = request.system if template.system is None else ""
    pieces = []
    if request.system and template.system is not None:
        pieces.append(_filled(template.system, template, request.system))
    for message in request.messages:
        text = message.text()
        if message.role is Role.ASSISTANT:
            pieces.append(_filled(template.assistant, template, text))
            continue
        if folded:
            text, folded = f"{folded}\n\n{text}", ""
        pieces.append(_filled(template.user, template, text))
    return "".join(pieces) + template.generation


def plain_messages(request: ChatRequest) -> list[dict[str, str]]:
    """The conversation as ``{"role", "content"}`` objects, system first."""
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, *({"role": _ROLES[message.role], "content": message.text()} for message in request.messages)]


_ROLES: Final = {Role.USER: "user", Role.ASSISTANT: "assistant", Role.TOOL: "user"}


def _filled(turn: str, template: PromptTemplate, text: str) -> str:
    safe = template.control.sub(lambda found: f"{found[0]} ", text)
    before, after = turn.split("{}")
    return f"{before}{safe}{after}"
