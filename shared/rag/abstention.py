"""Whether a collection answers a question at all.

How near the best passage must be differs from collection to collection: in one of all things everything is a little
near. So each is measured with questions about everything (`shared.rag.off_topic`): what they score is what a question
without an answer scores. Measured on eleven sets with the questions of others as off topic: 95% of them are refused,
and 4% of the questions with an answer; one set of keywords about medicine loses a quarter (docs/rag.md).
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from shared.domain.documents import Candidates

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


def threshold(off_topic: Sequence[float]) -> float:
    """From which confidence on a question is taken to have an answer.

    The median of questions about everything and two standard deviations, as the median deviation tells them: the few
    questions that the collection does answer move neither.
    """
    middle = median(off_topic)
    spread = median(abs(score - middle) for score in off_topic)
    return middle + _SPREADS * _SPREAD_OF_MEDIAN * spread
