"""What a text says of its own level: a line that classifies it, as letterheads and document templates have them.

Talk about classifications ("how do we treat confidential files?") is none: a marking stands for itself.
"""
# ruff: noqa: RUF001  # the unusual characters are what is looked for

import re
from collections.abc import Iterator
from typing import Final

from shared.analysis.detectors.detector import Detector, Hit, at_anchors, fast, settled
from shared.domain.security import DECLARED_LABEL, SecurityLevel

_WORDS: Final = {
    SecurityLevel.RESTRICTED: (
        r"top secret|strictly private|highly confidential|highly restricted|restricted|secret"
        r"|streng geheim|streng vertraulich"
        r"|geheim|très secret|estrictamente confidencial|riservatissimo|strikt geheim|eyes only"
    ),
    SecurityLevel.CONFIDENTIAL: (
        r"strictly confidential|private (?:and|&) confidential|company confidential"
        r"|commercial in confidence|confidential|vertraulich"
        r"|confidentiel|confidencial|riservato|vertrouwelijk|poufne|конфиденциально|confidenziale|förtrolig"
    ),
    SecurityLevel.INTERNAL: (
        r"(?:for )?internal use(?: only)?|internal only|company internal|internal"
        r"|nur (?:für den )?(?:internen|dienst)\w*(?: gebrauch)?"
        r"|nur intern|intern|usage interne|uso interno|solo uso interno|alleen voor intern gebruik|intern gebruik"
    ),
}
_LEVEL_OF: Final = tuple((re.compile(settled(words), re.IGNORECASE), level) for level, words in _WORDS.items())
_ANY: Final = "|".join(_WORDS.values())
_KEYED: Final = re.compile(
    r"\b(?:(?:security |data |document |information )?classification|classified(?: as)?"
    r"|sensitivity(?: label)?|confidentiality"
    r"|protective marking|tlp|klassifizierung|einstufung|schutzklasse|clasificación"
    r"|classificazione|rubricering)\s?[:=]\s?[\"'*]{0,2}"
    rf"(?P<word>{settled(_ANY)})\b",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(
    rf"[ \t*#_=\[(>|-]{{0,12}}(?P<word>{settled(_ANY)})(?P<rest>[ \t]?(?:[!*#_=\])|:.–—-]|$|\n)|[ \t]++(?=\n|$))",
    re.IGNORECASE,
)
"""A line of its own, or the words before the colon, dash or exclamation mark that a text begins with."""


_KEYED_ANCHOR: Final = fast(
    r"\b(?:(?:security |data |document |information )?classifi|sensitivity|confidentiality"
    r"|protective|tlp|klassifi|einstufung|schutzkl"
    r"|clasifi|rubricering)"
)
_LINE_ANCHOR: Final = fast(rf"(?m)^[ \t*#_=\[(>|-]{{0,12}}(?:{_ANY})")


def _markings(text: str) -> Iterator[Hit]:
    for match in at_anchors(_KEYED_ANCHOR, _KEYED, text):
        yield match.start("word"), match.end("word"), _level(match["word"]), 0.9
    for match in at_anchors(_LINE_ANCHOR, _HEADER, text):
        word = match["word"]
        alone = match["rest"].strip(" \t*#_=])|-–—") in {"", "\n"}
        if word.isupper() or (word[0].isupper() and (not alone or match["rest"].strip(" \t"))):
            yield match.start("word"), match.end("word"), _level(word), 0.9
    for match in at_anchors(_LINE_ANCHOR, _SHOUTED, text):
        yield match.start("word"), match.end("word"), _level(match["word"]), 0.9


_SHOUTED: Final = re.compile(
    r"[ \t*#_=\[(>|-]{0,12}(?P<word>INTERNAL USE ONLY|FOR INTERNAL USE ONLY|STRICTLY CONFIDENTIAL"
    r"|TOP SECRET|COMPANY CONFIDENTIAL"
    r"|HIGHLY CONFIDENTIAL|CONFIDENTIAL|STRENG VERTRAULICH|VERTRAULICH|CONFIDENTIEL|CONFIDENCIAL)\b"
)


def _level(word: str) -> SecurityLevel:
    """The highest level whose words are the whole of it."""
    return next((level for words, level in _LEVEL_OF if words.fullmatch(word)), SecurityLevel.CONFIDENTIAL)


MARKINGS: Final = (
    Detector(
        DECLARED_LABEL,
        (
            (
                "(?:classif|sensitiv|confidentiality|protective marking|tlp|klassifizierung|einstufung|schutzklasse"
                "|rubricering)[a-z :=]{0,24}[:=]"
            ),
            rf"(?m)^[ \t*#_=\[(>|-]{{0,12}}(?:{_ANY})",
        ),
        _markings,
    ),
)
