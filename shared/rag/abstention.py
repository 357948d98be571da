"""Whether a collection answers a question at all.

How near the best passage must be differs from collection to collection: in one of all things everything is a little
near. So each is measured with questions about everything (`shared.rag.off_topic`): what they score is what a question
without an answer scores. Measured on eleven sets with the questions of others as off topic: 95% of them are refused,
and 3% of the questions with an answer (docs/rag.md).

A few keywords are no question, and no passage is near them by meaning: "turnips" is 0.2 near to a paper on turnips, as
it is to any other. So the words decide there: what holds every word that was asked for is something to show.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from shared.domain.documents import Candidates
from shared.rag.terms import telling_terms, text_terms

_LEXICAL_SHARE: Final = 0.3
_SPREADS: Final = 2.0
_SPREAD_OF_MEDIAN: Final = 1.4826
"""Times the median deviation, the standard deviation of a normal distribution."""
USUAL_THRESHOLD: Final = 0.2
"""For a collection that was not measured yet: below it, hardly any question of any measured set has an answer."""


def confidence(found: Candidates) -> float:
    """How much the best passages look like an answer, about in [0, 1].

    The cosine of the nearest passage, and BM25 of the best as a share of what it could be at most.
    """
    dense = max((passage.dense for passage in found.passages if passage.dense is not None), default=0.0)
    lexical = max((passage.lexical for passage in found.passages if passage.lexical is not None), default=0.0)
    share = min(lexical / found.most_lexical, 1.0) if found.most_lexical else 0.0
    return (1 - _LEXICAL_SHARE) * dense + _LEXICAL_SHARE * share


def holds_every_word(found: Candidates, question: str) -> bool:
    """Whether the best passage by words holds every word of the question, of those that do not only ask."""
    by_words = [passage for passage in found.passages if passage.lexical is not None]
    asked = telling_terms(question)
    if not by_words or not asked:
        return False
    best = max(by_words, key=lambda passage: passage.lexical or 0.0).chunk
    return asked <= text_terms(best.text, best.prefix).keys()


def threshold(off_topic: Sequence[float]) -> float:
    """From which confidence on a question is taken to have an answer.

    The median of questions about everything and two standard deviations, as the median deviation tells them: the few
    questions that the collection does answer move neither.
    """
    middle = median(off_topic)
    spread = median(abs(score - middle) for score in off_topic)
    return middle + _SPREADS * _SPREAD_OF_MEDIAN * spread
