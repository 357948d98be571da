"""The guard: what a policy does about what a request holds and about what an answer tells.

The same for every endpoint and for streams: it stands where every request passes, before anything is decided, and where
every answer passes, after everything is kept. Nobody behind it sees what was redacted.
"""

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from shared.analysis.answer_filter import SYSTEM_TEXT, AnswerFilter, FilterRules
from shared.analysis.features import analyse
from shared.analysis.inspection import inspect
from shared.analysis.leaks import LEAK_SHARE, LeakFinder
from shared.analysis.redaction import Placeholders, redacted
from shared.analysis.request_texts import request_chars, texts_of, unread_attachments
from shared.analysis.security import Scanner, usual_scanner
from shared.domain.chat import ChatRequest, FormatKind, MediaPart, TextPart, ThinkingPart, ToolCallPart
from shared.domain.errors import ContentRefused, InjectionSuspected, InvalidRequest, RouterError, SensitiveContent
from shared.domain.features import RequestFeatures
from shared.domain.policy import Policy
from shared.domain.replies import ChatReply, ReplyBuilder
from shared.domain.security import (
    CREDENTIAL_KINDS,
    DECLARED_LABEL,
    INJECTION_KINDS,
    AnswerAction,
    ContentAction,
    DetectionRules,
    Finding,
    GuardRules,
    SecurityLevel,
    SignalAction,
    injection_score,
)
from shared.ports import Telemetry
from shared.services.ledger_entry import Order
from shared.services.reuse import replayed

_READ_IN_THREAD_CHARS = 128 * 1024
_TAG = "router."
_OWN_TAGS = frozenset(
    f"{_TAG}{name}"
    for name in ("redacted", "blocked", "injection", "scanned", "unread_attachments", "answer_secrets", "answer_leak")
)
"""Tags that only the guard writes: a caller's of the same name are dropped."""

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """A request as it may go on.

    Attributes:
        request: with placeholders, where the policy redacts.
        features: of that request.
        findings: of the request as it came.
        refusal: why it may not go on at all.
        placeholders: what was taken out.
        injection: how likely it is an attack (`injection_score`).
        tags: what was done, for the record: kinds and counts.
    """

    request: ChatRequest
    features: RequestFeatures
    findings: tuple[Finding, ...] = ()
    refusal: ContentRefused | InvalidRequest | None = None
    placeholders: Placeholders | None = None
    injection: float = 0.0
    tags: Tags = ()

    @property
    def redactions(self) -> dict[str, int]:
        """Values that were taken out, by kind."""
        return {} if self.placeholders is None else dict(self.placeholders.counts)


@dataclass(slots=True)
class AnswerGuard:
    """What is done about one answer.

    Attributes:
        original: the request as the caller sent it: what stands there may come back.
    """

    rules: GuardRules
    original: ChatRequest
    placeholders: Placeholders | None
    scanner: Scanner
    filter: AnswerFilter | None = field(init=False)
    """Through which the answer goes out; None where nothing is changed."""
    is_clean: bool = True
    """Whether nothing was found in the answer, once it was looked at."""

    def __post_init__(self) -> None:
        removes = AnswerAction.REDACT
        filters = FilterRules(
            placeholders=self.placeholders,
            secrets=self.scanner if self.rules.answer_secrets is removes else None,
            is_known=self._is_known,
            leaks=LeakFinder(self.original.system) if self.rules.answer_leaks is removes else None,
            text_is_json=self.original.response_format.kind is not FormatKind.TEXT,
        )
        self.filter = AnswerFilter(filters) if filters else None

    def told(self, reply: ChatReply, model_id: str) -> ChatReply:
        """The whole answer as its caller gets it."""
        if self.filter is None or reply.embeddings:
            return reply
        builder = ReplyBuilder(model_id)
        for event in replayed(reply):
            builder.extend(tuple(self.filter.take(event)))
        return builder.build()

    def inspected(self, reply: ChatReply) -> Tags:
        """What the answer told, or would have told, as the record keeps it."""
        texts = tuple(_texts(reply))
        found = self._secrets(texts)
        tags: Tags = () if not found else ((f"{_TAG}answer_secrets", _counts(found)),)
        share = self._leaked(texts)
        if share >= LEAK_SHARE or (self.filter is not None and self.filter.removed[SYSTEM_TEXT]):
            tags += ((f"{_TAG}answer_leak", f"{share:.2f}"),)
        self.is_clean = not tags
        return tags

    def _secrets(self, texts: Iterable[str]) -> Counter[str]:
        if self.rules.answer_secrets is AnswerAction.OFF:
            return Counter()
        return Counter(
            kind
            for text in texts
            for kind, (start, end, _, _) in self.scanner.certain(text)
            if not self._is_known(text[start:end])
        )

    def _leaked(self, texts: Iterable[str]) -> float:
        if self.rules.answer_leaks is AnswerAction.OFF or not self.original.system:
            return 0.0
        return LeakFinder(self.original.system).share("\n".join(texts))

    def _is_known(self, value: str) -> bool:
        return any(value in placed.text for placed in texts_of(self.original))


class Guard:
    """Applies the policy.

    Args:
        policy: the one in force.
        telemetry: counts what was scanned, found and done.
    """

    def __init__(self, policy: Callable[[], Policy], telemetry: Telemetry) -> None:
        self._policy = policy
        self._telemetry = telemetry
        self._known_rules: DetectionRules | None = None
        self._scanner = usual_scanner()

    def read(self, request: ChatRequest, service: str, label: SecurityLevel | None) -> Reading:
        """Look at a request, and at what is left of it after redaction.

        Args:
            request: what is asked.
            service: whose rules count.
            label: level that the caller declares.
        """
        policy = self._policy()
        rules = policy.for_service(service).guard
        scanner = self._scanner_for(policy.detection)
        # Of what is taken out all counts; otherwise the first of each kind are enough.
        findings = found = inspect(request, scanner, most=None) if rules.redacts else inspect(request, scanner)
        score = injection_score(findings)
        refusal = _unlisted_host(request, rules) or _refusal(findings, score, rules)
        placeholders = None
        tags = _request_tags(request, findings, score, refusal, rules)
        going = [] if refusal is not None else [f for f in findings if _goes(f, rules)]
        if going:
            request, placeholders = redacted(request, going)
            tags += ((f"{_TAG}redacted", _counts(placeholders.counts)),)
            findings = inspect(request, scanner)
        if rules.injection is SignalAction.OFF:
            findings = tuple(finding for finding in findings if finding.kind not in INJECTION_KINDS)
        features = analyse(request, label=label, findings=findings)
        return Reading(request, features, found, refusal, placeholders, score, tags)

    async def read_aside(self, request: ChatRequest, service: str, label: SecurityLevel | None) -> Reading:
        """As `read`; megabytes are read in a thread, since they would hold up the other requests of the process."""
        if request_chars(request) > _READ_IN_THREAD_CHARS:
            return await asyncio.to_thread(self.read, request, service, label)
        return self.read(request, service, label)

    async def admit(self, order: Order) -> tuple[Order, Reading]:
        """The order as it may go on, and what was read of it; a refusal is the caller's to raise."""
        reading = await self.read_aside(order.request, order.principal.service, order.constraints.label)
        return self.with_reading(order, reading), reading

    def with_reading(self, order: Order, reading: Reading) -> Order:
        """The order as it may go on. What was done is counted."""
        self._telemetry.count("content_scans", part="request", endpoint=order.endpoint, mode=_mode(order))
        self._note(order, reading.tags)
        given = tuple(tag for tag in order.tags if tag[0] not in _OWN_TAGS)
        if reading.request is order.request and not reading.tags and given == order.tags:
            return order
        return replace(order, request=reading.request, tags=given + reading.tags)

    def answer_guard(self, original: Order, reading: Reading) -> AnswerGuard:
        """What guards the answer to an order, as it came from the caller."""
        rules = self._policy().for_service(original.principal.service).guard
        return AnswerGuard(rules, original.request, reading.placeholders, _answer_scanner())

    def closing_tags(self, order: Order, guard: AnswerGuard, reply: ChatReply) -> Tags:
        """What the record says of an answer; it is looked at here, whole, after streams too."""
        if reply.embeddings:
            return ()
        tags = guard.inspected(reply)
        self._telemetry.count("content_scans", part="answer", endpoint=order.endpoint, mode=_mode(order))
        self._note(order, tags)
        return tags

    def _scanner_for(self, rules: DetectionRules) -> Scanner:
        if rules is not self._known_rules:
            self._scanner = usual_scanner() if rules == DetectionRules() else Scanner(rules)
            self._known_rules = rules
        return self._scanner

    def _note(self, order: Order, tags: Tags) -> None:
        for key, value in tags:
            if key != f"{_TAG}scanned":
                event = key.removeprefix(_TAG)
                self._telemetry.count("content_actions", action=event, endpoint=order.endpoint, mode=_mode(order))
                self._telemetry.log(
                    logging.WARNING, "content_action", request_id=order.request_id, action=event, detail=value
                )


@functools.lru_cache(maxsize=1)
def _answer_scanner() -> Scanner:
    """Looks for credentials that are known by their form: a password that a model makes up on request is no leak."""
    return Scanner(kinds=CREDENTIAL_KINDS - {"password"})


def _unlisted_host(request: ChatRequest, rules: GuardRules) -> InvalidRequest | None:
    """The refusal for media at a host that the policy does not list. Nothing is ever fetched here."""
    for turn, message in enumerate(request.messages):
        for position, part in enumerate(message.parts):
            uri = part.uri if isinstance(part, MediaPart) else None
            if uri is not None and uri.startswith("https://") and not rules.allows_host(urlsplit(uri).hostname or ""):
                where = f"messages[{turn}].parts[{position}]"
                reason = "the policy lets no media be fetched from this host; send the data, or a gs:// URI"
                return InvalidRequest(reason, code="media_host_not_allowed", param=where)
    return None


def _goes(finding: Finding, rules: GuardRules) -> bool:
    """Whether a finding is taken out. A marking is not: without it the text would only seem harmless."""
    return rules.action(finding) is ContentAction.REDACT and finding.kind != DECLARED_LABEL


def _refusal(findings: Iterable[Finding], score: float, rules: GuardRules) -> ContentRefused | None:
    blocked = [finding for finding in findings if rules.action(finding) is ContentAction.BLOCK]
    if blocked:
        return SensitiveContent.at([(finding.kind, finding.location) for finding in blocked])
    if rules.injection is SignalAction.BLOCK and score >= rules.injection_from:
        signs = [(finding.kind, finding.location) for finding in findings if finding.kind in INJECTION_KINDS]
        return InjectionSuspected.at(signs)
    return None


def _request_tags(
    request: ChatRequest, findings: Iterable[Finding], score: float, refusal: RouterError | None, rules: GuardRules
) -> Tags:
    tags: list[tuple[str, str]] = []
    if rules != GuardRules():
        tags.append((f"{_TAG}scanned", "request" if rules.answer_secrets is AnswerAction.OFF else "request,answer"))
        unread = unread_attachments(request)
        if unread:
            tags.append((f"{_TAG}unread_attachments", str(unread)))
    if isinstance(refusal, SensitiveContent):
        tags.append((f"{_TAG}blocked", _counts(Counter(kind for kind, _ in refusal.places))))
    if rules.injection is not SignalAction.OFF and score >= rules.injection_from:
        kinds = sorted({finding.kind for finding in findings if finding.kind in INJECTION_KINDS})
        tags.append((f"{_TAG}injection", f"{score:.2f} {','.join(kinds)}"))
    return tuple(tags)


def _counts(by_kind: Counter[str] | dict[str, int]) -> str:
    return ",".join(f"{kind}={count}" for kind, count in sorted(by_kind.items()))


def _texts(reply: ChatReply) -> Iterable[str]:
    for part in reply.parts:
        match part:
            case TextPart(text=text) | ThinkingPart(text=text):
                yield text
            case ToolCallPart(arguments_json=text):
                yield text


def _mode(order: Order) -> str:
    return "stream" if order.stream else "plain"
