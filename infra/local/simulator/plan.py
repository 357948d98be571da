"""One answer, computed once from (seed, model, normalised request) and then written in whichever wire form was used."""

import hashlib
import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist
from typing import Any, NamedTuple

import orjson

from infra.local.simulator import prose
from infra.local.simulator.ask import CHARS_PER_TOKEN, Ask, ToolSpec, count_tokens, preamble_tokens, turn_text_tokens
from infra.local.simulator.problems import invalid
from infra.local.simulator.profiles import Profile
from infra.local.simulator.schema_instance import UnsupportedSchema, instance_of

_NORMAL = NormalDist()
_TOOL_WORDS = re.compile(r"\b(?:use|call|invoke|run)\b.{0,20}\b(?:tools?|functions?)\b", re.IGNORECASE)


class Finish(StrEnum):
    """How the answer ends, before any vendor's word for it."""

    STOP = "stop"
    LENGTH = "length"
    TOOLS = "tools"
    STOP_SEQUENCE = "stop_sequence"
    SAFETY = "safety"
    """The answer was stopped half-way by a filter."""
    BLOCKED = "blocked"
    """The prompt was blocked: there is no answer."""
    EMPTY = "empty"
    """The vendor answers without any candidate, for no stated reason."""
    MALFORMED = "malformed"
    """The answer does not parse, or lacks its content."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Tokens of a prompt by modality; `prefixes` counts them up to the end of system and tools, then of each turn."""

    text: int = 0
    image: int = 0
    document: int = 0
    audio: int = 0
    video: int = 0
    prefixes: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """All of them."""
        return self.text + self.image + self.document + self.audio + self.video


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How the prompt divides over the prompt cache; the rest was neither read nor written."""

    read_tokens: int = 0
    write_tokens: int = 0
    write_long_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A tool call; `id` is 24 hex digits that each wire dresses in its own way."""

    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def arguments_json(self) -> str:
        """Arguments as compact JSON."""
        return orjson.dumps(self.arguments).decode()


@dataclass(frozen=True, slots=True)
class Plan:
    """One answer.

    Attributes:
        id: 24 hex digits, the same for the same request.
        text: visible text, already cut to `max_tokens` and stop sequences.
        thought: simulated reasoning; `thinking_tokens` counts it even when it is not shown.
        ttft_s, s_per_token: drawn delays before scaling.
        good: whether the answer is of good quality, which is also written into it.
    """

    id: str
    profile: Profile
    text: str
    calls: tuple[PlannedCall, ...]
    finish: Finish
    prompt: PromptTokens
    cache: CacheUse
    output_tokens: int
    thinking_tokens: int
    ttft_s: float
    s_per_token: float
    good: bool
    thought: str = ""
    show_thinking: bool = False
    stop_sequence: str | None = None

    @property
    def version(self) -> str:
        """What the wire says as the model's version."""
        return f"{self.profile.id}-simulated"

    @property
    def duration_s(self) -> float:
        """Unscaled time until the answer is whole."""
        return self.ttft_s + (self.output_tokens + self.thinking_tokens) * self.s_per_token

    def pieces(self) -> list[str]:
        """The text as a stream sends it."""
        return split(self.text, self.profile.piece_tokens)

    def thought_pieces(self) -> list[str]:
        """Shown thoughts as a stream sends them."""
        return split(self.thought, self.profile.piece_tokens * 2) if self.show_thinking else []

    def signature(self, index: int = 0) -> bytes:
        """Opaque state of the thought behind part `index`; see `is_signature`."""
        return b"simulated:" + hashlib.blake2b(f"{self.id}:{index}".encode(), digest_size=18).digest()


def is_signature(value: bytes) -> bool:
    """Whether some simulated model wrote this signature."""
    return value.startswith(b"simulated:") and len(value) == len(b"simulated:") + 18


def split(text: str, tokens: int) -> list[str]:
    """Pieces of `tokens` tokens each."""
    width = tokens * CHARS_PER_TOKEN
    return [text[start : start + width] for start in range(0, len(text), width)]


def measure(ask: Ask, profile: Profile) -> PromptTokens:
    """Count a prompt."""
    kinds = {"image": 0, "document": 0, "audio": 0, "video": 0}
    text = preamble_tokens(ask) + ask.explicit_cache_tokens
    prefixes = [text]
    media_total = 0
    for turn in ask.turns:
        text += turn_text_tokens(turn)
        for media in turn.media:
            tokens = profile.media.tokens(media)
            kinds[media.kind] += tokens
            media_total += tokens
        prefixes.append(text + media_total)
    return PromptTokens(text=max(1, text), prefixes=tuple(prefixes), **kinds)


def make_plan(
    profile: Profile, ask: Ask, content: bytes, *, seed: int, prompt: PromptTokens, cache: CacheUse | None = None
) -> Plan:
    """Compute the answer.

    Args:
        profile: the model that answers.
        ask: what it is asked.
        content: `Ask.digest`, given because the caller needs it too.
        seed: of all draws, with the model and the content.
        prompt: the prompt's tokens.
        cache: how they divide over the prompt cache.

    Raises:
        Problem: a schema has no instance.
    """
    drawn = hashlib.blake2b(f"{seed}:{profile.key}:".encode() + content, digest_size=48).digest()
    good = _unit(drawn, 0) < profile.quality.get(prose.category_of(ask), profile.quality["overall"])
    limit = min(ask.max_tokens or profile.max_output_tokens, profile.max_output_tokens)
    thinking = min(_thinking_tokens(profile, ask, _unit(drawn, 1)), limit)
    plan_id = drawn[24:36].hex()
    body = _tool_body(ask, plan_id, limit - thinking) or _text_body(
        profile, ask, drawn, good=good, limit=limit - thinking
    )
    delay = profile.ttft_p50_ms / 1000 * math.exp(profile.ttft_sigma * _NORMAL.inv_cdf(_unit(drawn, 3)))
    return Plan(
        id=plan_id,
        profile=profile,
        text=body.text,
        calls=body.calls,
        finish=body.finish,
        stop_sequence=body.stop_sequence,
        prompt=prompt,
        cache=cache or CacheUse(),
        output_tokens=body.tokens,
        thinking_tokens=thinking,
        thought=prose.thought_text(profile.id, thinking) if thinking else "",
        show_thinking=ask.show_thinking and thinking > 0,
        ttft_s=delay + prompt.total / profile.prefill_tokens_per_s,
        s_per_token=1 / (profile.tokens_per_s * (0.8 + 0.4 * _unit(drawn, 4))),
        good=good and body.finish is not Finish.LENGTH,
    )


class _Body(NamedTuple):
    """The visible part of an answer."""

    text: str
    calls: tuple[PlannedCall, ...]
    finish: Finish
    stop_sequence: str | None
    tokens: int


def _tool_body(ask: Ask, plan_id: str, limit: int) -> _Body | None:
    """Tool calls, or None when none is asked for; calls that do not fit are lost, as with every vendor."""
    calls = _planned_calls(ask, plan_id)
    if not calls:
        return None
    tokens = sum(count_tokens(call.name) + count_tokens(call.arguments_json) for call in calls)
    if tokens > limit:
        return _Body("", (), Finish.LENGTH, None, limit)
    return _Body("", calls, Finish.TOOLS, None, tokens)


def _text_body(profile: Profile, ask: Ask, drawn: bytes, *, good: bool, limit: int) -> _Body:
    """Text of lognormal length, cut at the limit or a stop sequence."""
    length = max(16, round(profile.answer_tokens * math.exp(0.35 * _NORMAL.inv_cdf(_unit(drawn, 2)))))
    text = _text(profile, ask, tokens=length, good=good, draw=int.from_bytes(drawn[36:40], "big"))
    text, finish, stop_sequence = _cut(text, ask.stops, limit)
    return _Body(text, (), finish, stop_sequence, count_tokens(text))


def without_answer(plan: Plan, finish: Finish) -> Plan:
    """The same plan with nothing in it (blocked, empty or malformed)."""
    return replace(
        plan, text="", thought="", calls=(), finish=finish, output_tokens=0, thinking_tokens=0, show_thinking=False
    )


def half(plan: Plan, finish: Finish) -> Plan:
    """The same plan cut after half of its text; tool calls are lost."""
    text = plan.text or prose.opening(plan.profile.id) + " This answer was cut off here."
    text = text[: max(CHARS_PER_TOKEN, len(text) // 2)]
    return replace(plan, text=text, calls=(), finish=finish, output_tokens=count_tokens(text), good=False)


def _unit(drawn: bytes, index: int) -> float:
    """Number `index` of the draws, strictly between 0 and 1."""
    return (int.from_bytes(drawn[index * 4 : index * 4 + 4], "big") + 0.5) / 2**32


def _thinking_tokens(profile: Profile, ask: Ask, unit: float) -> int:
    if not profile.can_think:
        return 0
    if ask.thinking_tokens is None or (ask.thinking_tokens == 0 and profile.default_thinking_tokens):
        return profile.default_thinking_tokens
    return min(ask.thinking_tokens, round(24 + unit * 0.25 * ask.thinking_tokens)) if ask.thinking_tokens else 0


def _planned_calls(ask: Ask, plan_id: str) -> tuple[PlannedCall, ...]:
    chosen = _chosen_tools(ask)
    calls = []
    for number, tool in enumerate(chosen):
        try:
            arguments = instance_of(tool.schema, "simulated") if tool.schema else {}
        except UnsupportedSchema as error:
            raise invalid(f"Invalid schema for function '{tool.name}': {error}") from error
        call_id = f"{plan_id[:22]}{number:02x}"
        calls.append(PlannedCall(call_id, tool.name, arguments if isinstance(arguments, dict) else {}))
    return tuple(calls)


def _chosen_tools(ask: Ask) -> list[ToolSpec]:
    """Tools to call: those that the user names; the first one when only `a tool` is asked for, or one is forced."""
    if not ask.tools or ask.tool_mode == "none":
        return []
    tools = [tool for tool in ask.tools if not ask.tool_names or tool.name in ask.tool_names]
    if not tools:
        return []
    forced = ask.tool_mode == "required"
    if ask.turns[-1].results and not forced:
        return []
    text = ask.last_user_text().lower()
    named = [tool for tool in tools if tool.name.lower() in text or tool.name.lower().replace("_", " ") in text]
    if not named and (forced or _TOOL_WORDS.search(text)):
        named = tools[:1]
    one_only = forced or ask.sampling.get("parallel_tool_calls") is False
    return named[:1] if one_only else named


def _text(profile: Profile, ask: Ask, *, tokens: int, good: bool, draw: int) -> str:
    mark = prose.GOOD if good else prose.POOR
    if ask.schema is not None:
        try:
            return orjson.dumps(instance_of(ask.schema, f"{prose.opening(profile.id)} {mark}")).decode()
        except UnsupportedSchema as error:
            raise invalid(f"Invalid response schema: {error}") from error
    if ask.json_mode:
        quality = "good" if good else "poor"
        answer = {"simulated_by": profile.id, "answer": prose.opening(profile.id), "quality": quality}
        return orjson.dumps(answer).decode()
    return prose.answer_text(profile.id, ask, tokens=tokens, good=good, draw=draw)


def _cut(text: str, stops: tuple[str, ...], limit: int) -> tuple[str, Finish, str | None]:
    """Text up to the first stop sequence or `limit` tokens, whichever comes first."""
    hits = [(position, stop) for stop in stops if stop and (position := text.find(stop)) >= 0]
    end, stop = min(hits) if hits else (len(text), None)
    if end > max(0, limit) * CHARS_PER_TOKEN:
        return text[: max(0, limit) * CHARS_PER_TOKEN], Finish.LENGTH, None
    return text[:end], Finish.STOP_SEQUENCE if stop is not None else Finish.STOP, stop
