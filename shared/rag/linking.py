"""Documents that are named by title: by the question, or by the best passages.

Where a question needs two documents, the first often says which the second is. "The director of Big Stone Gap is based
in which city?" finds the film, whose text names its director; the director's own document shares hardly a word with
the question. So what a passage names comes up with it, among what was found anyway: no further search, and no model.
Measured on sets of questions (docs/rag.md): coverage of the evidence of questions in two steps rises by five points,
and nothing falls where titles are not named.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from shared.domain.documents import Passage
from shared.rag.fusion import in_order

_NAMING: Final = 3
"""So many of the best passages are read for titles."""
_SHARE: Final = 0.3
"""Of the naming passage's score, for a title that nobody else names."""
_ASKED_FOR: Final = 0.2
"""For a title that stands in the question."""
_LEAST_CHARS: Final = 3


def with_linked(passages: Sequence[Passage], question: str) -> list[Passage]:
    """The passages in their new order: of each document that is named, the best passage has risen.

    A title that much of what was found names, such as "Overview", counts for less. Case counts: titles are names.

    Args:
        passages: the best first, with scores in [0, 1].
        question: as it was searched for.
    """
    lent = _lent(passages, question)
    if not lent:
        return list(passages)
    raised = [passage.score + lent.get(place, 0.0) for place, passage in enumerate(passages)]
    most = max(1.0, *raised)
    return in_order(replace(passage, score=score / most) for passage, score in zip(passages, raised, strict=True))


def _lent(passages: Sequence[Passage], question: str) -> Mapping[int, float]:
    """What the best passage of each named document is lent, by its place."""
    lent: dict[int, float] = {}
    looked_at: set[str] = set()
    for place, passage in enumerate(passages):
        if passage.document_id in looked_at:
            continue
        looked_at.add(passage.document_id)
        name = _name(passage.title)
        if not name:
            continue
        naming = [other for other in passages[:_NAMING] if _names(other, name, passage)]
        share = _ASKED_FOR if _stands_in(question, name) else 0.0
        if naming:
            named_by = sum(_names(other, name, passage) for other in passages)
            share += _SHARE * naming[0].score * (1 - math.log(named_by) / math.log(len(passages)))
        if share:
            lent[place] = share
    return lent


def _name(title: str) -> str:
    """A title as running text names it: without what tells two of one name apart, as in `Mercury (planet)`."""
    name = title.strip()
    name = name.rpartition("(")[0].strip() if name.endswith(")") else name
    return name if len(name) >= _LEAST_CHARS else ""


def _names(passage: Passage, name: str, named: Passage) -> bool:
    """Whether a passage names another document; one of the same name means itself."""
    is_named = passage.document_id != named.document_id and _stands_in(passage.chunk.text, name)
    return is_named and _name(passage.title) != name


def _stands_in(text: str, name: str) -> bool:
    """Whether a text has a name as words of its own."""
    return name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
