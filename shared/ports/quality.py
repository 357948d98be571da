"""What is found out about the quality of answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.domain.quality_signals import Evidence, QualitySource, Sent


class QualityStore(Protocol):
    """Evidence on answers, and the one score that is kept with each request."""

    async def note(self, found: Sequence[Evidence]) -> None:
        """Keep evidence, also on requests whose record has not arrived; a request has each kind once, the first stays.

        Raises:
            DependencyUnavailable: nothing was kept, as far as can be known; noting again is safe.
        """
        ...

    async def settle(self, now: datetime) -> int:
        """Combine what is new on some requests into their scores; returns how many were looked at, 0: nothing is due.

        Of several processes one settles, the others find nothing to do. Doing it again changes nothing.

        Args:
            now: what has waited for its record longer than `WAITING` before it is forgotten.

        Raises:
            DependencyUnavailable: no answer in time; nothing was changed.
        """
        ...


class SentMessages(Protocol):
    """Remembers for some minutes by keyed fingerprints which messages were sent; never what they said."""

    async def seen(self, sent: Sequence[Sent]) -> Sequence[Sent | None]:
        """For each message the last one before it that was nearly the same and of the same principal, or None.

        The messages are remembered from then on.

        Raises:
            DependencyUnavailable: no answer in time; some may be remembered.
        """
        ...


@dataclass(frozen=True, slots=True)
class QualityMean:
    """What answers of one model to one kind of task were worth, by one source.

    Attributes:
        count: answers with such a score.
        mean: of their scores, 0 to 1.
        squares: sum of the squares of the scores, for an interval or a weight.
    """

    model_id: str
    category: str
    source: QualitySource
    count: int
    mean: float
    squares: float


class QualityMeans(Protocol):
    """What was observed of models by category: read by whoever learns from it."""

    async def means(self, tenant_id: str, since: datetime, until: datetime) -> Sequence[QualityMean]:
        """By model, category and source; those without scores are left out.

        Args:
            tenant_id: whose requests.
            since: a whole UTC hour.
            until: a later one.

        Raises:
            DependencyUnavailable: no answer in time.
        """
        ...
