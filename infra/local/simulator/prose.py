"""What the simulator says: text that names itself and the model, quotes little, and carries its quality at the end."""

import math
import re

from infra.local.simulator.ask import CHARS_PER_TOKEN, Ask
from infra.local.simulator.passages import quoted

GOOD, POOR = "(quality: good)", "(quality: poor)"
_SENTENCES = (
    "This text stands in for an answer of the model.",
    "Its length and its pace follow the profile of the model.",
    "The words are drawn from a fixed list, so the same request always reads the same.",
    "Nothing was looked up and nothing was reasoned about.",
    "A real deployment would put its own words here.",
    "First comes the part that states the problem.",
    "Then comes the part that weighs the options.",
    "After that the answer would name its sources.",
    "Numbers in this text, such as 17 or 42, mean nothing.",
    "The next step would be to check the result against the question.",
    "A careful reader would now ask for an example.",
    "An example would be placed here, with its inputs and its outcome.",
    "Limits and exceptions would follow, each in one sentence.",
    "Finally, a summary would repeat the main point in plain words.",
)
_STEPS = tuple(step for step in range(1, len(_SENTENCES)) if math.gcd(step, len(_SENTENCES)) == 1)
"""Strides that visit every sentence before one comes again."""
_CODE_THINGS = (
    "function|class|code|script|program|sql|query|regex|unit tests?|endpoint|"
    "python|javascript|typescript|java|rust|golang"
)
_LANGUAGES = "french|german|spanish|italian|japanese|chinese|english"
_CATEGORY_SIGNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (category, re.compile(pattern, re.IGNORECASE))
    for category, pattern in (
        (
            "code_review",
            r"\b(review|refactor|find the bug|code smell|debug)\b.*(```|\bdef |\bclass |\bcode\b|\bfunction\b)",
        ),
        ("code_generation", rf"```|\b(write|implement|create|generate|fix)\b.{{0,60}}\b({_CODE_THINGS})\b"),
        ("translation", rf"\btranslat(e|ion)\b|\b(in|into|to) ({_LANGUAGES})\b"),
        ("summarization", r"\b(summari[sz]e|summary|tl;?dr|condense|key points)\b"),
        ("extraction", r"\b(extract|list all|pull out|find all|parse)\b"),
        ("classification", r"\b(classif(y|ication)|categori[sz]e|sentiment|label (this|the|each)|which category)\b"),
        (
            "math",
            r"\b(solve|integral|derivative|equation|probability|calculate|compute|prove|theorem)\b|\d\s*[-+*/^=]\s*\d",
        ),
        ("creative_writing", r"\b(poem|story|haiku|lyrics|novel|slogan|limerick|screenplay)\b"),
        ("reasoning", r"\b(reason|step by step|trade-?offs?|compare|why would|puzzle|deduce|plan (a|the|how))\b"),
        ("question_answering", r"^\s*(who|what|when|where|which|why|how|is|are|does|do|can)\b"),
    )
)
_SIGN_CHARS = 2_000


def category_of(ask: Ask) -> str:
    """The task category that decides how likely a good answer is: by a few plain signs in the last user text."""
    if any(turn.results for turn in ask.turns) or ask.tools:
        return "agentic"
    text = ask.last_user_text()[:_SIGN_CHARS]
    if "context:" in text.lower() or "[1]" in ask.system:
        return "grounded_answer"
    for category, pattern in _CATEGORY_SIGNS:
        if pattern.search(text):
            return category
    return "conversation"


def opening(model: str) -> str:
    """How every free answer begins."""
    return f"[simulated by {model}]"


def answer_text(model: str, ask: Ask, *, tokens: int, good: bool, draw: int) -> str:
    """A free answer of about `tokens` tokens.

    Args:
        model: named at the beginning.
        ask: quoted shortly.
        tokens: the length aimed at; the answer ends with a whole sentence.
        good: the quality that the end tells.
        draw: chooses the sentences.
    """
    parts = [opening(model)]
    cited = quoted(ask.last_user_text(), good=good)
    if cited:
        return "\n\n".join((*parts, " ".join(cited), GOOD if good else POOR))
    results = ask.turns[-1].results
    if results:
        parts.extend(f"The tool {name} answered: {_short(text, 120)}" for name, text in results)
    else:
        parts.append(f'You asked: "{_short(ask.last_user_text(), 60)}".')
    attachments = ask.turns[-1].media
    if attachments:
        parts.append(f"Received {len(attachments)} attachment(s): {', '.join(one.mime_type for one in attachments)}.")
    mark = GOOD if good else POOR
    room = tokens * CHARS_PER_TOKEN - sum(len(part) + 1 for part in parts) - len(mark)
    step = _STEPS[draw % len(_STEPS)]
    position = draw // len(_STEPS) % len(_SENTENCES)
    while room > 0:
        sentence = _SENTENCES[position]
        parts.append(sentence)
        room -= len(sentence) + 1
        position = (position + step) % len(_SENTENCES)
    parts.append(mark)
    return " ".join(parts)


def thought_text(model: str, tokens: int) -> str:
    """Simulated reasoning of exactly `tokens` tokens."""
    seed = f"[simulated thoughts of {model}] Weighing the request before answering. "
    length = tokens * CHARS_PER_TOKEN
    return (seed * (length // len(seed) + 1))[:length]


def _short(text: str, limit: int) -> str:
    flat = " ".join(text[: limit * 2].split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
