"""Twins of the stores of quality: evidence over the records of a ledger in memory, and messages that were sent."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from shared.analysis.fingerprint import bands, is_near
from shared.analytics.quality import combined
from shared.domain.errors import DependencyUnavailable
from shared.domain.quality_signals import WAITING, Evidence, Sent, Sign, read, written
from shared.ports import Clock
from shared.stores.memory_analytics import MemoryFeedback


class MemoryQuality:
    """`QualityStore` over the records that a `MemoryFeedback` is about.

    Args:
        feedback: what was said of them.
    """

    def __init__(self, feedback: MemoryFeedback) -> None:
        self._feedback = feedback
        self.found: dict[tuple[str, str, str], Evidence] = {}
        self.away = False

    async def note(self, found: Sequence[Evidence]) -> None:
        """Keep evidence; a request has each kind once, the first stays.

        Raises:
            DependencyUnavailable: while `away`.
        """
        if self.away:
            raise DependencyUnavailable("switched away")
        for one in found:
            self.found.setdefault((one.tenant_id, one.request_id, one.kind), one)

    async def settle(self, now: datetime) -> int:
        """Make the scores of all records anew; returns how many changed.

        Raises:
            DependencyUnavailable: while `away`.
        """
        if self.away:
            raise DependencyUnavailable("switched away")
        by_id, ratings, changed = self._feedback.records.by_id, self._feedback.ratings(), 0
        for record in list(by_id.values()):
            kept = [
                one
                for (tenant_id, request_id, _), one in self.found.items()
                if (tenant_id, request_id) == (record.tenant_id, record.id) and one.noted_at >= now - WAITING
            ]
            signs: frozenset[Sign] = read(record.quality_signs) | {one.sign for one in kept if one.sign is not None}
            verdict = next((one.score for one in kept if one.score is not None), None)
            made = combined(ratings.get((record.id, record.tenant_id, record.service_name)), verdict, signs)
            foreign = made is None and record.quality_source is None
            scored = replace(
                record,
                quality_score=record.quality_score if foreign else None if made is None else made.value,
                quality_source=None if made is None else made.source.value,
                quality_signs=written(signs),
            )
            changed += scored != record
            by_id[record.id] = scored
        return changed


class MemorySentMessages:
    """`SentMessages` in a dictionary.

    Args:
        clock: how long they are remembered.
        window_s: for how long at least.
    """

    def __init__(self, clock: Clock, *, window_s: float) -> None:
        self._clock = clock
        self._window_s = window_s
        self._known: dict[tuple[str, str], tuple[float, Sent]] = {}
        self.away = False

    async def seen(self, sent: Sequence[Sent]) -> Sequence[Sent | None]:
        """The last message before each that was nearly the same.

        Raises:
            DependencyUnavailable: while `away`.
        """
        if self.away:
            raise DependencyUnavailable("switched away")
        return [self._seen(one) for one in sent]

    def _seen(self, sent: Sent) -> Sent | None:
        now_s, near = self._clock.monotonic(), list[Sent]()
        for band in bands(sent.fingerprint):
            at_s, known = self._known.get((sent.whose, band), (-self._window_s, sent))
            if now_s - at_s < self._window_s and known is not sent and is_near(known.fingerprint, sent.fingerprint):
                near.append(known)
            self._known[sent.whose, band] = (now_s, sent)
        return max(near, key=lambda one: one.end_time, default=None)
