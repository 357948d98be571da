"""The form of a short question: two texts of one form may share an answer, texts of two forms never do.

Similarity of embeddings cannot tell "enable" from "disable", 30 days from 60, or London-bigger-than-Paris from its
reverse (docs/caching.md has the figures), so the semantic cache asks this first. A form keeps every word that carries
meaning, in order, with negations, numbers, names, prepositions and tense; it drops how one asks ("could you tell me",
"how can I" for "how do I"), articles, plurals and case. English only: in other languages, where nobody here could
write the rules with confidence, only case, punctuation and white space are dropped.
"""

import re
from typing import Final

from shared.analysis.text_kind import UNDETERMINED

MAX_CHARS: Final = 400
"""Longer turns bring their own material; there a small difference hides too easily."""
_MAX_WORDS: Final = 60

_TOKEN = re.compile(r"[^\W_]+(?:[.,'-][^\W_]+)*|[^\w\s?.!,;:\"()]+")
_CODE = re.compile(r"[`{}\[\]\\|<>]|[=;]\s*$|\w\(|\w\.\w+\(|==|!=|->|::|/\w+/|\n\s*\n|https?:", re.MULTILINE)
_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTRACTIONS: Final = (
    (re.compile(r"\bcan't\b|\bcannot\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(what|who|where|when|how|why|it|that|there)'s\b"), r"\1 is"),
    (re.compile(r"'(?:re|m)\b"), " are"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
)
_OPENINGS = re.compile(
    r"^(?:(?:hello|hi|hey|good morning|good evening|thanks|please|so|ok|okay)\b[\s,.!]*"
    r"|(?:can|could|would|will) you (?:please )?(?:tell me (?!about\b)(?:if )?|(?=(?:explain|describe|show|give)\b))"
    r"|(?:i (?:would|'d) like to know|i want to know|i wonder|do you know)\b[\s,:]*"
    r"|tell me\b[\s,:]*(?!about)"
    r")+"
)
_CLOSINGS = re.compile(r"[\s,]*\b(?:please|thanks|thank you)[\s.!?]*$")

_FRAMES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\b(?:the )?([a-z]+)'s (\w+)", r"the \2 of \1"),
        (r"^(?:how (?:do|can|could|should|would) (?:i|we|you|one)|how to|i (?:want|need) to know how to)\b", "howto"),
        (r"^what (?:do|must|should) (?:i|we) (?:have to |need to )?do to\b", "howto"),
        (r"^what (?:is|are) the (?:best |right |easiest )?(?:way|ways|steps|process|procedure) (?:to|for)\b", "howto"),
        (r"^is there a way to\b", "howto"),
        (r"^is it possible (?:for me )?to\b|^am i able to\b", "can i"),
        (r"^(?:explain|describe|show)(?: me)? how (.+?) works?\b", r"how do \1 work"),
        (r"^(?:explain|describe)(?: me)? why\b|^(?:what is|tell me) the reason(?: that| why| for)?\b", "why"),
        (r"^(?:explain|describe|define)(?: me)?(?: what)?\b", "what is"),
        (r"^what does (.+?) stand for\b|^what is (.+?) short for\b", r"expand \1\2"),
        (r"^what does (.+?) mean\b|^what is the meaning of (.+)", r"meaning \1\2"),
        (r"^who (?:is|was) the (?:author|writer) of\b|^which author wrote\b", "who wrote"),
        (r"^which (?:artist|painter) painted\b", "who painted"),
        (r"^(?:in|on|at) (?:which|what) (?:year|date|day|time)\b", "when"),
        (r"^when is the best time\b", "what is the best time"),
        (r"^which (?:city|town) is the capital\b", "what is the capital"),
        (r"^which (\S+) (is|are) the (\S+)(?=\W*$)", r"what \2 the \3 \1"),
        (r"^which\b", "what"),
        (r"^what are some\b", "give me"),
        (r"^how much (?:does|do|is|are) (.+?)(?: cost)?(?=\W*$)", r"price \1"),
        (r"^what (?:is|are) the (?:price|cost) of\b|^what does (.+?) cost\b", r"price \1"),
        (r"^how tall is (.+)", r"what is the height of \1"),
        (r"^how fast is (.+)", r"what is the speed of \1"),
        (r"^how many people live in\b", "what is the population of"),
        (r"^where (?:do|can|should|could) (?:i|we) find\b", "where is"),
        (r"^where (?:do|can|should|could|would) (?:i|we)\b", "where i"),
        (r"^(where (?:is|are) .+?) (?:located|situated)(?=\W*$)", r"\1"),
        (r"^who (?:do|can|should) (?:i|we)\b", "who i"),
        (r"^do you (?:offer|have)(?: an?)?\b|^is there (?:an?)?\b|^are there\b", "exists"),
        (r"^what (?:does|do) (.+?) do(?=\W*$)", r"role \1"),
        (r"^what is the (?:job|role) of\b", "role"),
        (r"^(?:is|are|am|do|does)\b", "whether"),
        (r"^(was|were|did)\b", r"whether \1"),
        (r"\b(?:turn|switch) on\b|\bactivate\b", "enable"),
        (r"\b(?:turn|switch) off\b|\bdeactivate\b", "disable"),
        (r"\bget in touch with\b", "contact"),
        (r"\bget rid of\b", "remove"),
        (r"\b(?:sign|log) ?in(?:to)?\b", "login"),
        (r"^how many (.+?) (?:does|do) (.+?) have\b", r"how many \1 in \2"),
        (r"^how many (.+?) (?:is|are) (?:there )?in\b", r"how many \1 in"),
    )
)
_DROPPED: Final = _words("a an the of do does is are am be me your")
_PAST: Final = _words("was were did had been")
_SAME: Final = {
    word: group.split()[0]
    for group in (
        "buy purchase",
        "begin start",
        "delivery shipping",
        "film movie",
        "picture photo",
        "big large",
        "quick fast",
    )
    for word in group.split()
}
_NUMBER_WORDS: Final = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBERS: Final = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}
_CASED: Final = _words(
    "us it who polish turkey china apple amazon march may mark bill chile jordan oracle shell meta orange target visa "
    "mercury windows java go swift ruby rust"
)
"""Words that mean something else with a capital letter."""


def question_form(text: str, language: str) -> str | None:
    """The form of a user's turn, or None when only its exact repetition may share its answer (code, long texts).

    Linear in the text, which is at most `MAX_CHARS` long.

    Args:
        text: the turn.
        language: ISO 639-1 code, as the analysis found it; it is part of the form.
    """
    if len(text) > MAX_CHARS or _CODE.search(text):
        return None
    plain = text.strip().translate(_QUOTES)
    # Few words of any language are found in a short question, and the rules below do no harm to names and numbers.
    spoken = "en" if language == UNDETERMINED and plain.isascii() else language
    words = _english(plain) if spoken == "en" else _TOKEN.findall(plain.lower())
    if not words or len(words) > _MAX_WORDS:
        return None
    return f"{spoken}\n{' '.join(words)}"


def _english(text: str) -> list[str]:
    folded = " ".join(_kept_case(text).split())
    for pattern, replacement in _CONTRACTIONS:
        folded = pattern.sub(replacement, folded)
    folded = _CLOSINGS.sub("", _OPENINGS.sub("", folded))
    for pattern, replacement in _FRAMES:
        folded = pattern.sub(replacement, folded)
    words = [_word(word) for word in _TOKEN.findall(folded) if word not in _DROPPED]
    return ["PAST" if word in _PAST else word for word in words]


def _kept_case(text: str) -> str:
    """Lower case, but for capitals that change what a word means, beyond the first word."""
    first, _, rest = text.partition(" ")
    return f"{first.lower()} " + re.sub(r"\w+", _folded, rest)


def _folded(match: re.Match[str]) -> str:
    word, small = match[0], match[0].lower()
    return word if word != small and small in _CASED else small


def _word(word: str) -> str:
    """One spelling for one meaning: numbers as digits, plurals and third persons without their s, near synonyms."""
    word = _NUMBERS.get(word, word)
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word.isalpha():  # noqa: PLR2004 - "was", "gas"
        word = word[:-3] + "y" if word.endswith("ies") else word[:-1]
    return _SAME.get(word, word)
