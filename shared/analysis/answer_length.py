"""How long the answer will be, with an interval: from what is asked, the kind of task, the schema and the limits.

The figures are judgements of ours, to be replaced by what the ledger shows of real answers. Order of evidence: a length
that is asked for in words ("in one sentence", "200-300 words", "a list of ten"), the size of the JSON schema, else what
is usual for the category, shortened or lengthened by words such as "briefly". Thinking is billed as output and added.
The request's limit cuts all three figures.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.analysis.wording import Wording
from shared.domain.chat import ChatRequest, ReasoningEffort
from shared.domain.features import Category


@dataclass(frozen=True, slots=True)
class AnswerLength:
    """Tokens that one answer in ten, one in two and nine in ten stay below."""

    p10: int
    p50: int
    p90: int


_Spread = tuple[float, float, float]
_USUAL: Final[Mapping[Category, _Spread]] = {
    Category.CLASSIFICATION: (3, 20, 150),
    Category.CONVERSATION: (15, 60, 250),
    Category.EXTRACTION: (30, 150, 700),
    Category.QUESTION_ANSWERING: (30, 200, 700),
    Category.GROUNDED_ANSWER: (30, 220, 600),
    Category.SUMMARIZATION: (60, 200, 500),
    Category.TRANSLATION: (15, 150, 600),
    Category.AGENTIC: (30, 200, 900),
    Category.UNKNOWN: (30, 300, 1200),
    Category.MATH: (60, 400, 1300),
    Category.REASONING: (200, 600, 1600),
    Category.CODE_REVIEW: (150, 600, 1800),
    Category.CODE_GENERATION: (120, 700, 2600),
    Category.CREATIVE_WRITING: (60, 600, 1800),
}
_THINKING: Final[Mapping[ReasoningEffort, _Spread]] = {
    ReasoningEffort.LOW: (50, 200, 700),
    ReasoningEffort.MEDIUM: (200, 800, 2500),
    ReasoningEffort.HIGH: (700, 2500, 9000),
}
_WORD, _CHARACTER, _SENTENCE, _PARAGRAPH = 1.35, 0.7, 28, 110
_UNITS: Final = (
    (
        _WORD,
        "word words wort worte worten wörter wörtern mot mots palabra palabras parole palavras woorden słów kelime",
    ),
    (_WORD, "слово слова слов слів"),
    (_SENTENCE, "sentence sentences satz sätze sätzen phrase phrases frase frases frasi oración oraciones zin zinnen"),
    (_SENTENCE, "zdanie zdania cümle предложение предложения предложений речення"),
    (_PARAGRAPH, "paragraph paragraphs absatz absätze absätzen paragraphe paragraphes párrafo párrafos paragrafo"),
    (_PARAGRAPH, "paragrafi parágrafo parágrafos alinea alineas абзац абзаца"),
    (650, "page pages seite seiten página páginas pagina pagine"),
    (30, "bullet bullets stichpunkte stichpunkten puntos punti pontos punten"),
    (14, "line lines zeile zeilen ligne lignes línea líneas righe linha linhas regel regels"),
)
"""Tokens of what lengths are counted in, and its names in the languages whose words we know."""
_NUMBER_WORDS: Final = {
    "a": 1, "an": 1, "single": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "twenty": 20, "ein": 1, "einem": 1, "einen": 1, "zwei": 2,
    "drei": 3, "vier": 4, "fünf": 5, "zehn": 10, "une": 1, "un": 1, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5,
    "dix": 10, "una": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5, "diez": 10, "due": 2, "tre": 3, "quattro": 4,
    "cinque": 5, "uma": 1, "duas": 2, "dois": 2, "três": 3, "een": 1, "één": 1, "twee": 2, "drie": 3, "vijf": 5,
}  # fmt: skip
_ASKED: Final = re.compile(
    r"(?<![^\W\u3040-\u9fff\uac00-\ud7af])(\d{1,5}|[^\W\d_]{1,8}+)(?:\s?(?:-|\u2013|to|bis|a|à)\s?(\d{1,5}))?"
    r"[ -]{0,2}(?=([^\W\d_]{1,14}+)(?!\s(?:below|above|of advice)))"
)
"""A number or a word, perhaps a second number, and the word after it, which may be a unit."""
_AT_LEAST_WORDS: Final = re.compile(r"(?:at least|no less than|more than|mindestens|au moins|al menos|almeno)\s$")
_AT_MOST_WORDS: Final = re.compile(
    r"(?:at most|(?:no|not) more than|up to|under|below|max\.?|maximum|(?:less|fewer) than|within|höchstens|maximal"
    r"|au plus|como máximo)\s(?:of\s)?$"
)
_RATES: Final = {name: rate for rate, names in _UNITS for name in names.split()}
_CHARACTERS: Final = ("字", "个字", "個字", "文字", "자", "글자")
"""Units that the next word follows without a space."""
_LIST_WORDS: Final = ("list", "give me", "name", "suggest", "brainstorm", "propose", "top", "come up with")
_LIST: Final = re.compile(
    rf"\b(?:list of|list|{'|'.join(_LIST_WORDS[1:])})\s(?:the\s)?(?:top\s)?"
    r"(\d{1,3}|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty)(?![\w.,:])(?!\s(?:years?|minutes?|hours?|days?))"
)
_LIST_ITEM: Final = (8, 25, 70)
_BRIEF: Final = frozenset(
    ("briefly", "brief", "concise", "concisely", "kurz", "knapp", "brièvement", "brevemente", "kort", "tldr")
)
_BRIEF_PHRASES: Final = ("short answer", "in short", "keep it short", "en bref", "tl;dr")
_ONE_WORD: Final = (
    "in one word", "in a word", "yes or no", "yes/no", "y/n", "true or false", "ja oder nein", "oui ou non",
    "nothing else", "only the number", "only the label", "only the name", "only the answer", "only the letter",
    "just the number", "just the label", "just the name", "just the answer", "just the letter",
)  # fmt: skip
_LONG: Final = frozenset(
    ("detailed", "comprehensive", "thorough", "thoroughly", "long-form", "in-depth", "exhaustive", "ausführlich",
     "ausführliche", "detallado", "detallada", "dettagliato", "dettagliata")
)  # fmt: skip
_LONG_PHRASES: Final = ("in detail", "in depth", "en détail")
_SHORTEST: Final = (1.0, 8.0, 60.0)
"""One word, with the politeness that models add to it."""
_TIGHT: Final = (0.7, 1.0, 1.5)
_AT_MOST: Final = (0.35, 0.8, 1.1)
_AT_LEAST: Final = (1.0, 1.3, 2.2)
_MOST_SCHEMA_NODES: Final = 400
_FIELD_TOKENS: Final = 14
_LIST_LENGTH: Final = 3
"""Elements of an array whose length the schema leaves open."""


def answer_length(request: ChatRequest, category: Category, prompt_tokens: int, wording: Wording) -> AnswerLength:
    """The answer's tokens, thinking included, within what the request allows.

    Args:
        request: the request.
        category: its kind.
        prompt_tokens: its estimated length.
        wording: the words of what is asked.
    """
    spread = _asked(wording) or _schema(request) or _usual(wording, category, prompt_tokens)
    thinking = _THINKING.get(request.reasoning_effort) if request.reasoning_effort is not None else None
    if thinking is not None:
        spread = (spread[0] + thinking[0], spread[1] + thinking[1], spread[2] + thinking[2])
    limit = request.max_output_tokens
    p10, p50, p90 = (max(1, math.ceil(tokens if limit is None else min(tokens, limit))) for tokens in spread)
    return AnswerLength(p10, p50, p90)


def _asked(wording: Wording) -> _Spread | None:
    text = wording.text
    counted = not wording.vocabulary.isdisjoint(_RATES) or _mentions(text, ("字", "자"))
    for found in _ASKED.finditer(text) if counted else ():
        rate = _CHARACTER if found[3].startswith(_CHARACTERS) else _RATES.get(found[3])
        if rate is not None and (found[1].isdecimal() or found[1] in _NUMBER_WORDS):
            return _of_length(found, rate, text)
    listed = _LIST.search(text) if _mentions(text, _LIST_WORDS) else None
    return _times(_number(listed[1]), _LIST_ITEM) if listed else None


def _of_length(found: re.Match[str], rate: float, text: str) -> _Spread | None:
    count, last = _number(found[1]), found[2]
    if rate == _WORD and count == 1:
        return _SHORTEST if text[: found.start()].endswith("in ") else None
    if last is not None and int(last) > count:
        return count * rate, (count + int(last)) / 2 * rate, int(last) * rate * 1.2
    before = text[max(0, found.start() - 24) : found.start()]
    bound = _AT_LEAST if _AT_LEAST_WORDS.search(before) else _AT_MOST if _AT_MOST_WORDS.search(before) else _TIGHT
    return _times(count * rate, bound)


def _mentions(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def _number(word: str) -> float:
    return float(max(1, _NUMBER_WORDS.get(word) or int(word)))


def _times(factor: float, spread: _Spread) -> _Spread:
    return factor * spread[0], factor * spread[1], factor * spread[2]


def _schema(request: ChatRequest) -> _Spread | None:
    schema = request.response_format.schema
    if schema is None:
        return None
    return _times(_schema_tokens(schema), (0.5, 1.0, 3.0))


def _schema_tokens(schema: Mapping[str, Any]) -> float:
    """Tokens of an answer with every property once and `_LIST_LENGTH` elements an open array; at most so many nodes."""
    total, seen = 4.0, 0
    waiting: list[tuple[Any, float]] = [(schema, 1.0)]
    while waiting and seen < _MOST_SCHEMA_NODES:
        node, times = waiting.pop()
        seen += 1
        if not isinstance(node, Mapping):
            continue
        properties, items = node.get("properties"), node.get("items")
        if isinstance(properties, Mapping):
            waiting += [(child, times) for child in list(properties.values())[:_MOST_SCHEMA_NODES]]
        elif items is not None:
            waiting.append((items, min(times * _LIST_LENGTH, 100.0)))
        elif isinstance(node.get("anyOf"), Sequence) and node["anyOf"]:
            waiting.append((node["anyOf"][0], times))
        else:
            total += _FIELD_TOKENS * times
    return total


def _usual(wording: Wording, category: Category, prompt_tokens: int) -> _Spread:
    text = wording.text
    if _mentions(text, _ONE_WORD):
        return _SHORTEST
    usual = _USUAL[category]
    match category:
        case Category.TRANSLATION:
            usual = _times(max(20.0, 1.1 * prompt_tokens), (0.6, 1.0, 1.6))
        case Category.SUMMARIZATION:
            usual = _times(min(1200.0, max(usual[1], 0.12 * prompt_tokens)) / usual[1], usual)
        case Category.EXTRACTION | Category.CODE_REVIEW:
            usual = _times(min(3000.0, max(usual[1], 0.25 * prompt_tokens)) / usual[1], usual)
        case _:
            pass
    if wording.vocabulary & _BRIEF or _mentions(text, _BRIEF_PHRASES):
        return _times(0.4, usual)
    return _times(2, usual) if wording.vocabulary & _LONG or _mentions(text, _LONG_PHRASES) else usual
