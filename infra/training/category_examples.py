"""Requests to learn the task taxonomy from: phrases written by hand, in the shapes in which people send them.

A phrase of data/categories/<language>.jsonl has gaps such as {topic}; slots.jsonl fills them, and materials.jsonl holds
what people paste beside a request. The shapes are ours: courtesy, case, missing punctuation, material before or after.
"""

import json
import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from shared.analysis.category_evidence import Evidence
from shared.analysis.text_kind import has_code
from shared.domain.features import Category

FOLDER = Path(__file__).parent / "data" / "categories"
_GAP = re.compile(
    r"\{(topic|target_language|programming_language|sentence|message|question|material"
    r"|document|audience|length|fields|labels|decision)\}"
)
_SPLIT = re.compile(r"[.!?。?؟]+$")

_KINDS = {
    Category.SUMMARIZATION: (0.75, ("prose", "prose", "prose", "dialogue", "list", "log")),
    Category.EXTRACTION: (0.75, ("prose", "prose", "prose", "dialogue", "log", "data")),
    Category.CLASSIFICATION: (0.6, ("prose", "list", "list", "dialogue")),
    Category.TRANSLATION: (0.45, ("prose", "prose", "list", "code", "formula")),
    Category.GROUNDED_ANSWER: (0.85, ("prose", "prose", "prose", "data", "log")),
    Category.CODE_REVIEW: (0.75, ("code", "code", "code", "trace", "log")),
    Category.CODE_GENERATION: (0.2, ("code", "code", "data")),
    Category.CREATIVE_WRITING: (0.12, ("prose", "dialogue")),
    Category.REASONING: (0.12, ("prose", "data", "list")),
    Category.MATH: (0.08, ("formula",)),
    Category.AGENTIC: (0.06, ("prose", "dialogue")),
    Category.QUESTION_ANSWERING: (0.05, ("log", "trace")),
}
"""How often a request of a kind brings material, and of which kinds."""
_COURTESY = {
    "en": ("please {}", "{} please", "can you {}", "could you {}?", "hey, {}", "hi, {}", "I'd like you to {}",
           "{}, thanks"),
    "de": ("bitte {}", "{} bitte", "kannst du mal: {}", "hallo, {}", "{}, danke"),
    "fr": ("s'il te plaît, {}", "{} s'il vous plaît", "bonjour, {}", "{}, merci"),
    "es": ("por favor, {}", "{}, por favor", "hola, {}", "{}, gracias"),
    "it": ("per favore {}", "{} per favore", "ciao, {}", "{}, grazie"),
    "pt": ("por favor, {}", "{}, por favor", "olá, {}", "{}, obrigado"),
    "nl": ("{} alsjeblieft", "hallo, {}", "kun je {}"),
    "pl": ("proszę, {}", "cześć, {}", "{}, dzięki"),
    "ru": ("пожалуйста, {}", "{}, пожалуйста", "привет, {}", "{}, спасибо"),
    "uk": ("будь ласка, {}", "{}, будь ласка", "привіт, {}"),
    "tr": ("lütfen {}", "merhaba, {}", "{} lütfen"),
    "ar": ("من فضلك {}", "مرحبا، {}"),
    "he": ("בבקשה {}", "{} בבקשה", "היי, {}"),
    "hi": ("कृपया {}", "नमस्ते, {}"),
    "zh": ("请{}", "你好，{}", "{}，谢谢", "帮我{}"),  # noqa: RUF001  # full-width commas are theirs
    "ja": ("{}お願いします", "こんにちは。{}", "すみません、{}"),
    "ko": ("{} 부탁해요", "안녕하세요, {}"),
}  # fmt: skip
_PERSONAS = (
    "You are a helpful assistant.",
    "You are a helpful, harmless and honest assistant. Answer concisely.",
    "You are the assistant of a bank. Be polite and never give legal advice.",
    "Answer in the language of the user. Today is Monday.",
    "Be brief and friendly.",
    "You are an expert. Use markdown.",
    "Du bist ein freundlicher Assistent.",
    "Tu es un assistant utile.",
)
"""System texts that set a tone and no task."""
_PLAIN = frozenset({Category.CONVERSATION, Category.UNKNOWN})
_NOISE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Example:
    """A made request. Examples of one `phrase` must not be split between fitting and judging."""

    evidence: Evidence
    category: Category
    language: str
    phrase: int


@dataclass
class _Corpus:
    phrases: list[tuple[Category, str, str]] = field(default_factory=list)
    slots: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    materials: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def sentences(self) -> list[str]:
        """Of all prose."""
        return [s for text in self.materials["prose"] for s in re.split(r"(?<=[.。])\s*", text) if s]


def examples(copies: dict[str, int], default_copies: int, seed: int) -> Iterator[Example]:
    """Every phrase in several shapes, then requests without a task.

    Args:
        copies: shapes of each phrase, by language.
        default_copies: the same for other languages.
        seed: of everything that is drawn.
    """
    corpus = _read()
    rng = random.Random(seed)  # noqa: S311  # data, not secrets
    for number, (category, language, phrase) in enumerate(corpus.phrases):
        for copy in range(copies.get(language, default_copies)):
            yield _shape(corpus, rng, (category, language, phrase, number), plain=copy == 0)
    offset = len(corpus.phrases)
    for number, text in enumerate(_without_task(corpus, rng)):
        yield Example(_evidence(text), Category.UNKNOWN, "und", offset + number)


def _read() -> _Corpus:
    corpus = _Corpus()
    for path in sorted(FOLDER.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if path.stem == "slots":
                corpus.slots[row["language"], row["slot"]] = row["values"]
            elif path.stem == "materials":
                corpus.materials.setdefault(row["kind"], []).append(row["text"])
            else:
                corpus.phrases.append((Category(row["category"]), path.stem, row["text"]))
    return corpus


def _shape(corpus: _Corpus, rng: random.Random, source: tuple[Category, str, str, int], *, plain: bool) -> Example:
    category, language, phrase, number = source
    text = _filled(corpus, rng, language, phrase)
    if not plain and category not in _PLAIN and rng.random() < 0.3:  # noqa: PLR2004  # the share of polite people
        text = rng.choice(_COURTESY.get(language, _COURTESY["en"])).format(_SPLIT.sub("", text))
    if rng.random() < 0.4:  # noqa: PLR2004  # a capital letter
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.3:  # noqa: PLR2004  # no punctuation
        text = _SPLIT.sub("", text)
    elif text[-1:].isalpha() and rng.random() < 0.3:  # noqa: PLR2004  # or more of it
        text += rng.choice((".", ".", "!", ":", "..."))
    share, kinds = _KINDS.get(category, (0.0, ("prose",)))
    if "{material}" not in phrase and rng.random() < share:
        kind = rng.choice(kinds)
        material = "\n".join(rng.choice(corpus.materials[kind]) for _ in range(rng.choice((1, 1, 1, 2, 4))))
        if kind == "prose" and rng.random() < 0.5:  # noqa: PLR2004  # sentences of many places, so that none tells the task
            material = " ".join(rng.choice(corpus.sentences) for _ in range(rng.randrange(2, 10)))
        text = _joined(rng, text, material)
    wants_schema = rng.random() < (0.3 if category is Category.EXTRACTION else 0.02)
    return Example(_evidence(text, wants_schema=wants_schema), category, language, number)


def _filled(corpus: _Corpus, rng: random.Random, language: str, phrase: str) -> str:
    def value(gap: re.Match[str]) -> str:
        if gap[1] == "material":
            return rng.choice(corpus.materials["prose"])
        return rng.choice(corpus.slots.get((language, gap[1])) or corpus.slots["en", gap[1]])

    return _GAP.sub(value, phrase)


def _joined(rng: random.Random, text: str, material: str) -> str:
    if rng.random() < 0.3:  # noqa: PLR2004  # the request comes last
        return f"{material}\n\n{text}"
    if "\n" not in material and rng.random() < 0.3:  # noqa: PLR2004  # on the same line
        return text.rstrip(".:") + rng.choice((f": {material}", f': "{material}"'))
    return text + rng.choice(("\n\n", "\n", ":\n\n", "\nText: ")) + material


def _without_task(corpus: _Corpus, rng: random.Random) -> Iterator[str]:
    yield from _PERSONAS * 4
    for kind, materials in corpus.materials.items():
        for material in materials:
            yield material
            yield f"{material}\n{rng.choice(corpus.materials[kind])}"
    yield from corpus.sentences
    words = " ".join(corpus.materials["prose"]).split()
    for _ in range(int(len(corpus.phrases) * _NOISE_SHARE)):
        if rng.random() < 0.4:  # noqa: PLR2004  # keys hit at random
            keys = (rng.choices(string.ascii_lowercase, k=rng.randrange(2, 8)) for _ in range(rng.randrange(1, 5)))
            yield " ".join(map("".join, keys))
        elif rng.random() < 0.3:  # noqa: PLR2004  # figures without a question
            yield " ".join(str(rng.randrange(10_000)) for _ in range(rng.randrange(1, 5)))
        else:
            yield " ".join(rng.choices(words, k=rng.randrange(1, 9)))


def _evidence(text: str, *, wants_schema: bool = False) -> Evidence:
    return Evidence(instruction=text, has_code=has_code(text), wants_schema=wants_schema)
