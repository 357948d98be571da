"""Watches the quality of answers: signs at their end, the rest behind the response, and nothing of what was said stays.

On the path only what takes microseconds is looked at (`shared.analysis.answer_signs`). Behind it, from a bounded queue
in memory: whether JSON obeys its schema, and whether the message was sent before. What is found then is evidence, noted
in batches; the answer is let go of at once. The queue is small, and what does not fit is not watched.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from shared.analysis.answer_signs import signs_of
from shared.analysis.fingerprint import fingerprint, whose
from shared.analytics.quality import combined
from shared.domain.chat import ChatRequest, FormatKind, Role
from shared.domain.errors import DependencyUnavailable
from shared.domain.features import RequestFeatures
from shared.domain.judging import JUDGE_SERVICE
from shared.domain.quality_signals import Evidence, Sent, Sign, written
from shared.domain.records import RequestRecord, RequestStatus
from shared.domain.replies import ChatReply
from shared.ports import Clock, QualityStore, SentMessages, Telemetry
from shared.services.background import BackgroundWork
from shared.services.ledger_entry import Order
from shared.services.verification import form_fault_of

_MOST_WAITING = 256
_MOST_CHARS = 512 * 1024
"""Of an answer that is looked at behind the response; longer ones would cost more than they tell."""
_A_BATCH = 32
_LINGER_S = 0.05
_RETRY_S = 2.0
_MOST_EVIDENCE = 5_000
LEAST_PAUSE_S = 2.0
"""A message that follows faster was not sent by somebody who read the answer."""
_FAULTS = {"schema": Sign.SCHEMA_INVALID, "tool_arguments": Sign.TOOL_ARGUMENTS_INVALID}


class AnswerJudge(Protocol):
    """Has a sample of the answers judged: `shared.services.judging`."""

    def offer(self, order: Order, features: RequestFeatures, record: RequestRecord, reply: ChatReply) -> None:
        """Take an answer into the sample, if it is drawn."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """An answer that waits to be looked at, in memory only."""

    order: Order
    features: RequestFeatures
    record: RequestRecord
    reply: ChatReply


class QualityWatch(BackgroundWork):
    """Watches answers.

    Args:
        store: keeps evidence.
        sent: knows which messages were sent before.
        key: of fingerprints; 16 to 64 secret bytes, the same in all processes that are to know each other's messages.
        clock: time.
        telemetry: counts what was seen, and what was not looked at.
        retry_window_s: so soon a message is a retry of the one before.
    """

    def __init__(
        self,
        store: QualityStore,
        sent: SentMessages,
        key: bytes,
        clock: Clock,
        telemetry: Telemetry,
        *,
        retry_window_s: float,
    ) -> None:
        super().__init__("quality-watch")
        self._store = store
        self._sent = sent
        self._key = key
        self._clock = clock
        self._telemetry = telemetry
        self._retry_window_s = retry_window_s
        self._waiting: deque[Watched] = deque()
        self._evidence: deque[Evidence] = deque()
        self._judge: AnswerJudge | None = None

    def judged_by(self, judge: AnswerJudge) -> None:
        """From now on a share of the answers is judged. The judge asks through the service that is watched here."""
        self._judge = judge

    def signed(self, record: RequestRecord, order: Order, reply: ChatReply | None) -> RequestRecord:
        """The final record with what its answer shows at a glance."""
        signs = _signs(record, order.request, reply)
        if not signs:
            return record
        made = combined(None, None, signs)
        for sign in signs:
            self._telemetry.count("quality_signs", sign=sign.value, model=record.model_used or "none")
        score, source = (None, None) if made is None else (made.value, made.source.value)
        return replace(record, quality_signs=written(signs), quality_score=score, quality_source=source)

    def ended(
        self,
        order: Order,
        features: RequestFeatures,
        record: RequestRecord,
        reply: ChatReply | None,
        *,
        is_clean: bool = True,
    ) -> None:
        """Look at an answer behind the response, and have it judged, where that is its lot. Waits for nobody.

        Args:
            order: as it was answered.
            features: of the request.
            record: the final one.
            reply: as the model gave it.
            is_clean: whether the guard found nothing in it; otherwise no judge sees it.
        """
        if reply is None or reply.embeddings or record.status is not RequestStatus.SUCCESS:
            return
        if record.service_name == JUDGE_SERVICE:
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._telemetry.count("quality_unwatched")
        elif _chars(reply) <= _MOST_CHARS:
            self._waiting.append(Watched(order, features, record, reply))
            self._wake.set()
        if self._judge is not None and is_clean:
            self._judge.offer(order, features, record, reply)

    def note(self, found: Evidence) -> None:
        """Keep evidence behind the response."""
        if len(self._evidence) >= _MOST_EVIDENCE:
            self._telemetry.count("quality_evidence_dropped")
            return
        self._evidence.append(found)
        self._wake.set()

    async def _run(self) -> None:
        while self._waiting or self._evidence or not self._closing:
            if not self._waiting and not self._evidence:
                self._wake.clear()
                await self._wake.wait()
                if not self._closing:
                    await asyncio.sleep(_LINGER_S)
                continue
            try:
                await self._look()
                await self._write()
            except DependencyUnavailable:
                self._telemetry.count("quality_evidence_delayed")
                if self._closing:
                    return
                await asyncio.sleep(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - one odd answer must not end the watch
                self._telemetry.log(logging.ERROR, "quality_watch_failed", error=type(error).__name__)

    async def _look(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_A_BATCH, len(self._waiting)))]
        # What is wanted of them is read from them before anything is waited for; then they are let go of.
        formed = [one for one in batch if one.reply.tool_calls() or _wants_form(one.order.request)]
        sent = [found for one in batch if (found := self._sent_by(one)) is not None]
        del batch
        for one in formed:
            # In a thread: a caller's schema may be large, and the validator is loaded by the first.
            fault = await asyncio.to_thread(form_fault_of, one.reply, one.order.request)
            self._telemetry.count("quality_forms", fault=fault or "none", model=one.record.model_used or "none")
            if fault is not None:
                self._found(one.record.tenant_id, one.record.id, one.record, _FAULTS[fault])
        del formed
        await self._mark_retried(sent)

    def _sent_by(self, one: Watched) -> Sent | None:
        """The message as it is known again; None for what nobody typed just now, as results of tools are."""
        request, record = one.order.request, one.record
        if request.messages[-1].role is not Role.USER or record.cache in ("hit", "semantic_hit"):
            return None
        value = fingerprint(request.messages[-1].text(), self._key)
        if value is None:
            return None
        caller = whose(record.tenant_id, record.principal_id, self._key)
        return Sent(caller, value, record.tenant_id, record.id, record.start_time, record.end_time)

    async def _mark_retried(self, sent: Sequence[Sent]) -> None:
        if not sent:
            return
        try:
            before = await self._sent.seen(sent)
        except DependencyUnavailable:
            # Not worth keeping anything for: some retries go unnoticed.
            self._telemetry.count("quality_retries_unseen", len(sent))
            return
        for one, first in zip(sent, before, strict=True):
            if first is None:
                continue
            pause_s = (one.start_time - first.end_time).total_seconds()
            if LEAST_PAUSE_S <= pause_s <= self._retry_window_s:
                self._telemetry.count("quality_retries")
                self._found(first.tenant_id, first.request_id, first, Sign.RETRIED)

    def _found(self, tenant_id: str, request_id: str, of: RequestRecord | Sent, sign: Sign) -> None:
        self.note(Evidence(tenant_id, request_id, of.start_time, self._clock.now(), sign=sign))

    async def _write(self) -> None:
        """Write what was found.

        Raises:
            DependencyUnavailable: the store is away; the evidence stays here.
        """
        batch = list(self._evidence)
        if batch:
            await self._store.note(batch)
            for _ in batch:
                self._evidence.popleft()


def _signs(record: RequestRecord, request: ChatRequest, reply: ChatReply | None) -> frozenset[Sign]:
    if record.status is RequestStatus.ERROR:
        return frozenset({Sign.FAILED}) if record.attempts else frozenset()
    if record.status is not RequestStatus.SUCCESS or reply is None or reply.embeddings:
        return frozenset()
    return frozenset() if record.service_name == JUDGE_SERVICE else signs_of(reply, request)


def _wants_form(request: ChatRequest) -> bool:
    return request.response_format.kind is not FormatKind.TEXT


def _chars(reply: ChatReply) -> int:
    return len(reply.text()) + sum(len(call.arguments_json) for call in reply.tool_calls())
