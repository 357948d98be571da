"""Reuse of answers: looked up after the decision, kept after the answer, and never the reason why a request fails.

The decision comes first, so that everything it obeys binds on hits too: an answer is served only when the deployment
that gave it is among the eligible candidates of this request, now.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.domain.cached_answers import CachedAnswer, pack, unpack
from shared.domain.caching import BypassReason, CacheMode, CacheOutcome, CachePolicy
from shared.domain.chat import TextPart, ThinkingPart, ToolCallPart
from shared.domain.decisions import Candidate, Decision
from shared.domain.errors import DependencyUnavailable
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import (
    ChatReply,
    CitationFound,
    Finished,
    FinishReason,
    Origin,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageUpdate,
)
from shared.domain.security import SecurityLevel
from shared.learning.quality_model import QualityModel
from shared.ports import AnswerCache, Clock, Telemetry
from shared.services.answer_keys import AnswerKeys, answer_keys
from shared.services.ledger_entry import Order


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """A text's meaning as a vector; vectors of two versions are never compared."""

    version: str
    encode: Callable[[str], NDArray[np.float32]]

    @classmethod
    def from_quality_model(cls, model: QualityModel) -> "SentenceEncoder":
        """The words' part of what the quality predictor reads: a tenth of a millisecond, and no call to anybody."""
        return cls(model.version, model.meaning)


_WHOLE = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})
_CHUNK_CHARS = 48
"""A replayed stream comes in pieces of about the size that models send."""
_MOST_PENDING = 256
"""Answers on their way into the cache; when it takes none, further ones are dropped."""
_CLOSING_S = 2.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """How a look-up ended.

    Attributes:
        answer: what is served instead of a call; on hits only.
        served: the candidate that gave it.
        age_s: seconds since it was kept.
        similarity: cosine of the two turns, on semantic hits.
        keys: where a fresh answer is kept; None: nowhere.
    """

    outcome: CacheOutcome = CacheOutcome.OFF
    reason: BypassReason | None = None
    answer: CachedAnswer | None = None
    served: Candidate | None = None
    age_s: float = 0.0
    similarity: float | None = None
    keys: AnswerKeys | None = None
    rules: CachePolicy | None = None


NOT_LOOKED_UP = Lookup()


class AnswerReuse:
    """Finds and keeps answers.

    Args:
        cache: where they are.
        clock: their age.
        telemetry: counts outcomes, and what could not be kept.
        encoder: meaning of a turn, for semantic hits.
    """

    def __init__(self, cache: AnswerCache, clock: Clock, telemetry: Telemetry, encoder: SentenceEncoder) -> None:
        self._cache = cache
        self._clock = clock
        self._telemetry = telemetry
        self._encoder = encoder
        self._keeping: set[asyncio.Task[None]] = set()

    async def find(self, order: Order, decision: Decision, rules: CachePolicy | None) -> Lookup:
        """The answer that may be served instead of a call, or why there is none. Raises nothing but cancellation."""
        lookup = await self._find(order, decision, rules)
        reason = "none" if lookup.reason is None else lookup.reason.value
        self._telemetry.count("cache_lookups", outcome=lookup.outcome.value, reason=reason)
        return lookup

    async def _find(self, order: Order, decision: Decision, rules: CachePolicy | None) -> Lookup:
        if rules is None or order.cache is CacheMode.OFF:
            return NOT_LOOKED_UP
        reason = _unfit(order, decision, rules)
        if reason is not None:
            return Lookup(CacheOutcome.BYPASS, reason)
        try:
            keys = await answer_keys(order, decision, rules)
        except TypeError:
            return Lookup(CacheOutcome.BYPASS, BypassReason.UNREADABLE)
        if order.cache is CacheMode.REFRESH:
            return Lookup(CacheOutcome.BYPASS, BypassReason.REFRESH, keys=keys, rules=rules)
        try:
            hit = await self._looked_up(keys, decision, rules)
        except DependencyUnavailable:
            return Lookup(CacheOutcome.BYPASS, BypassReason.UNAVAILABLE)
        return hit or Lookup(CacheOutcome.MISS, keys=keys, rules=rules)

    async def _looked_up(self, keys: AnswerKeys, decision: Decision, rules: CachePolicy) -> Lookup | None:
        exact, neighbour = await self._cache.find(keys.exact, keys.form)
        hit = self._hit(CacheOutcome.HIT, exact, decision, rules)
        if hit is not None or neighbour is None:
            return hit
        threshold = rules.threshold(decision.features.category)
        found = None if threshold is None else self._neighbour(neighbour, keys.turn, threshold)
        if found is None:
            return None
        answer_key, similarity = found
        answer, _ = await self._cache.find(answer_key, None)
        return self._hit(CacheOutcome.SEMANTIC_HIT, answer, decision, rules, similarity)

    def _neighbour(self, document: bytes, turn: str, threshold: float) -> tuple[str, float] | None:
        """Where the answer of a turn of the same form is, if its meaning is near enough."""
        try:
            kept = orjson.loads(document)
            if kept["encoder"] != self._encoder.version:
                return None
            similarity = _cosine(self._encoder.encode(turn), np.asarray(kept["vector"], np.float32))
            return (str(kept["answer"]), similarity) if similarity >= threshold else None
        except (ValueError, KeyError, TypeError):
            return None

    def _hit(
        self,
        outcome: CacheOutcome,
        data: bytes | None,
        decision: Decision,
        rules: CachePolicy,
        similarity: float | None = None,
    ) -> Lookup | None:
        answer = None if data is None else unpack(data)
        if answer is None:
            return None
        age_s = max(0.0, (self._clock.now() - answer.kept_at).total_seconds())
        served = _eligible(answer, decision)
        # A shorter time to live binds at once, also for what was kept under a longer one.
        if served is None or age_s >= rules.ttl_s:
            return None
        return Lookup(outcome, None, answer, served, age_s, similarity)

    def keep(self, lookup: Lookup, reply: ChatReply, record: RequestRecord, *, by_fallback: bool = False) -> None:
        """Keep a fresh answer, in the background.

        Only whole answers, and not those of a model that stood in for the chosen one (`by_fallback`): what it said
        while that one was away does not outlive its absence.
        """
        rules = lookup.rules
        if rules is None or lookup.keys is None or by_fallback or not _is_whole(reply, record):
            return
        if len(self._keeping) >= _MOST_PENDING:
            self._telemetry.count("cache_answers_dropped", reason="busy")
            return
        answer = CachedAnswer(
            reply=reply,
            model_id=record.model_used or "",
            deployment_id=record.deployment_used or "",
            cost_usd=sum((a.cost_usd for a in record.attempts if a.outcome == "success"), Decimal(0)),
            kept_at=self._clock.now(),
        )
        task = asyncio.create_task(self._keep(lookup.keys, answer, rules), name="keep-answer")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep(self, keys: AnswerKeys, answer: CachedAnswer, rules: CachePolicy) -> None:
        try:
            data = pack(answer)
            if len(data) > rules.max_answer_bytes:
                self._telemetry.count("cache_answers_dropped", reason="size")
                return
            neighbour = None
            if keys.form is not None:
                vector = [round(number, 4) for number in self._encoder.encode(keys.turn).tolist()]
                document = {"answer": keys.exact, "encoder": self._encoder.version, "vector": vector}
                neighbour = (keys.form, orjson.dumps(document))
            await self._cache.keep(keys.exact, data, ttl_s=rules.ttl_s, neighbour=neighbour)
        except DependencyUnavailable:
            self._telemetry.count("cache_answers_dropped", reason="unavailable")
        except Exception as error:  # noqa: BLE001 - a background task: no answer fails for its cache
            self._telemetry.log(logging.ERROR, "cache_keep_failed", error=type(error).__name__)

    async def settled(self) -> None:
        """Wait until what is to be kept is kept, or cannot be."""
        while self._keeping:
            await asyncio.wait(set(self._keeping))

    async def aclose(self) -> None:
        """Finish what is under way, within a few seconds."""
        if self._keeping:
            _, late = await asyncio.wait(set(self._keeping), timeout=_CLOSING_S)
            for task in late:
                task.cancel()


class ReplayedStream:
    """A kept answer as a stream: what `OpenStream` is for a call."""

    ttft_ms: float | None = None
    """No model was waited for."""

    def __init__(self, served: Candidate, reply: ChatReply) -> None:
        self.candidate = served
        self._reply = reply

    def reply(self) -> ChatReply:
        """The whole answer."""
        return self._reply

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """The answer in pieces, without pauses; others get their turn in between."""
        for event in replayed(self._reply):
            yield event
            await asyncio.sleep(0)

    async def abandon(self) -> None:
        """Nothing is under way."""


def replayed(reply: ChatReply) -> Iterator[StreamEvent]:
    """The events of a kept answer; folded, they give the same reply again."""
    yield Origin(reply.model_version, reply.response_id)
    calls = 0
    for part in reply.parts:
        match part:
            case TextPart(text=text):
                yield from (TextDelta(text[at : at + _CHUNK_CHARS]) for at in range(0, len(text), _CHUNK_CHARS))
            case ThinkingPart():
                yield ThinkingDelta(part.text, part.signature, part.redacted)
            case ToolCallPart():
                yield ToolCallDelta(calls, part.id, part.name, part.arguments_json, part.signature)
                calls += 1
    yield from (CitationFound(citation) for citation in reply.citations)
    yield UsageUpdate(reply.usage)
    yield Finished(reply.finish_reason, reply.native_finish_reason, reply.finish_detail)


def _unfit(order: Order, decision: Decision, rules: CachePolicy) -> BypassReason | None:
    """Why the request is neither looked up nor kept."""
    request, asked = order.request, order.cache is not None
    if decision.features.security_level > min(rules.max_level, SecurityLevel.CONFIDENTIAL):
        return BypassReason.LEVEL
    if (request.sampling.temperature or 0.0) > 0.0 and not (rules.sampled or asked):
        return BypassReason.TEMPERATURE
    if request.tools and not (rules.tools or asked):
        return BypassReason.TOOLS
    if any(part.uri is not None for part in request.media()):
        # What stands at an address may be another thing tomorrow.
        return BypassReason.MEDIA_URI
    return None


def _eligible(answer: CachedAnswer, decision: Decision) -> Candidate | None:
    """The candidate that gave the answer, if it may take this request now."""
    if decision.chosen.deployment.id == answer.deployment_id and decision.chosen.profile.id == answer.model_id:
        return decision.chosen
    for candidate in decision.candidates:
        if candidate.deployment.id == answer.deployment_id and candidate.profile.id == answer.model_id:
            return candidate
    return None


def _is_whole(reply: ChatReply, record: RequestRecord) -> bool:
    return record.status is RequestStatus.SUCCESS and reply.finish_reason in _WHOLE and bool(reply.parts)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0.0 and np.isfinite(size) else 0.0
