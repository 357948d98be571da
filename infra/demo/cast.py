"""Who sends the demo's traffic: 20 services of 6 teams, when they are busy, what they ask for, what they may use."""

from dataclasses import dataclass
from enum import StrEnum

from shared.domain.features import Category
from shared.domain.security import SecurityLevel


class Rhythm(StrEnum):
    """When a service is busy, in hours UTC."""

    OFFICE = "office"
    """People at work: weekdays, 7 to 17 o'clock."""
    PUBLIC = "public"
    """Customers: every day, most in the evening."""
    NIGHTLY = "nightly"
    """A batch from 1 to 5 o'clock."""
    STEADY = "steady"
    """Machines: the same all the time."""


@dataclass(frozen=True, slots=True)
class DemoService:
    """A service that calls the router.

    Attributes:
        share: of all requests, relative to the others'.
        prompt_tokens, answer_tokens: medians.
        tiers: how often a cheap, a middling and a dear model is chosen, relatively.
        zone: where its content stays (`Deployment.residency`); empty: anywhere.
        streamed: share of its requests.
        rated: share of its answers that somebody rates.
        caches: whether it has opted in to the answer cache.
    """

    name: str
    team: str
    share: float
    rhythm: Rhythm
    categories: tuple[tuple[Category, float], ...]
    prompt_tokens: int
    answer_tokens: int
    tiers: tuple[float, float, float]
    features: tuple[str, ...]
    zone: str = ""
    level: SecurityLevel = SecurityLevel.INTERNAL
    streamed: float = 0.3
    rated: float = 0.02
    asks: str = "auto"
    caches: bool = False


_C = Category
_CHEAP, _MIXED, _GOOD = (0.8, 0.18, 0.02), (0.35, 0.55, 0.1), (0.1, 0.55, 0.35)

SERVICES = (
    DemoService(
        "help-center-chat", "support", 14, Rhythm.PUBLIC,
        ((_C.QUESTION_ANSWERING, 5), (_C.CONVERSATION, 3), (_C.GROUNDED_ANSWER, 4)),
        900, 220, _MIXED, ("chat", "handover"), streamed=0.9, rated=0.09, caches=True,
    ),
    DemoService(
        "ticket-triage", "support", 12, Rhythm.OFFICE, ((_C.CLASSIFICATION, 8), (_C.EXTRACTION, 2)),
        500, 30, _CHEAP, ("triage",), asks="auto:cost",
    ),
    DemoService(
        "reply-drafts", "support", 6, Rhythm.OFFICE, ((_C.CREATIVE_WRITING, 4), (_C.GROUNDED_ANSWER, 4)),
        1800, 380, _MIXED, ("drafts",), zone="eu", level=SecurityLevel.CONFIDENTIAL, streamed=0.6, rated=0.06,
    ),
    DemoService(
        "call-summaries", "support", 4, Rhythm.NIGHTLY, ((_C.SUMMARIZATION, 1),),
        6000, 420, _CHEAP, ("summaries",), zone="eu", level=SecurityLevel.CONFIDENTIAL, streamed=0.0,
    ),
    DemoService(
        "claims-assistant", "insurance", 7, Rhythm.OFFICE,
        ((_C.EXTRACTION, 5), (_C.REASONING, 3), (_C.GROUNDED_ANSWER, 2)),
        3500, 450, _GOOD, ("intake", "assessment"), zone="eu", level=SecurityLevel.CONFIDENTIAL, rated=0.05,
        asks="auto:quality",
    ),
    DemoService(
        "policy-search", "insurance", 6, Rhythm.OFFICE, ((_C.GROUNDED_ANSWER, 6), (_C.QUESTION_ANSWERING, 2)),
        2600, 260, _MIXED, ("search",), zone="eu", rated=0.05, caches=True,
    ),
    DemoService(
        "fraud-notes", "insurance", 3, Rhythm.STEADY, ((_C.REASONING, 3), (_C.SUMMARIZATION, 2)),
        2200, 300, _GOOD, ("notes",), zone="eu", level=SecurityLevel.CONFIDENTIAL,
    ),
    DemoService(
        "letter-writer", "insurance", 3, Rhythm.OFFICE, ((_C.CREATIVE_WRITING, 5), (_C.TRANSLATION, 3)),
        700, 520, _MIXED, ("letters",), zone="eu", rated=0.04,
    ),
    DemoService(
        "code-assistant", "engineering", 9, Rhythm.OFFICE, ((_C.CODE_GENERATION, 6), (_C.CODE_REVIEW, 3)),
        3200, 700, _GOOD, ("ide", "chat"), streamed=0.95, rated=0.05, asks="auto:quality",
    ),
    DemoService(
        "review-bot", "engineering", 5, Rhythm.OFFICE, ((_C.CODE_REVIEW, 1),),
        7500, 600, _GOOD, ("pull-requests",), streamed=0.0, rated=0.03,
    ),
    DemoService(
        "release-notes", "engineering", 1, Rhythm.NIGHTLY, ((_C.SUMMARIZATION, 1),),
        5000, 500, _CHEAP, ("notes",), asks="auto:cost",
    ),
    DemoService(
        "incident-copilot", "engineering", 2, Rhythm.STEADY, ((_C.REASONING, 4), (_C.AGENTIC, 4)),
        5200, 520, _GOOD, ("runbooks",), streamed=0.8, rated=0.04, asks="auto:latency",
    ),
    DemoService(
        "product-copy", "shop", 4, Rhythm.OFFICE, ((_C.CREATIVE_WRITING, 5), (_C.TRANSLATION, 5)),
        400, 300, _MIXED, ("copy", "translation"), zone="us", rated=0.03,
    ),
    DemoService(
        "shopping-guide", "shop", 9, Rhythm.PUBLIC, ((_C.CONVERSATION, 6), (_C.QUESTION_ANSWERING, 3)),
        1100, 180, _CHEAP, ("guide", "gifts"), streamed=0.95, rated=0.08, asks="auto:latency", caches=True,
    ),
    DemoService(
        "review-sentiment", "shop", 6, Rhythm.NIGHTLY, ((_C.CLASSIFICATION, 1),),
        300, 15, _CHEAP, ("sentiment",), streamed=0.0, asks="auto:cost",
    ),
    DemoService(
        "catalogue-extractor", "shop", 4, Rhythm.NIGHTLY, ((_C.EXTRACTION, 1),),
        2400, 350, _CHEAP, ("attributes",), zone="us", streamed=0.0, asks="auto:cost",
    ),
    DemoService(
        "contract-reader", "legal", 2, Rhythm.OFFICE, ((_C.EXTRACTION, 4), (_C.SUMMARIZATION, 3), (_C.REASONING, 2)),
        14000, 650, _GOOD, ("contracts",), zone="eu", level=SecurityLevel.CONFIDENTIAL, rated=0.06,
        asks="auto:quality",
    ),
    DemoService(
        "regulation-watch", "legal", 1, Rhythm.NIGHTLY, ((_C.SUMMARIZATION, 3), (_C.CLASSIFICATION, 3)),
        9000, 300, _MIXED, ("watch",), streamed=0.0,
    ),
    DemoService(
        "forecast-notes", "finance", 2, Rhythm.OFFICE, ((_C.MATH, 4), (_C.REASONING, 4)),
        1900, 420, _GOOD, ("planning",), rated=0.04,
    ),
    DemoService(
        "expense-reader", "finance", 3, Rhythm.STEADY, ((_C.EXTRACTION, 6), (_C.CLASSIFICATION, 3)),
        900, 80, _CHEAP, ("receipts",), zone="eu", streamed=0.0, asks="auto:cost",
    ),
)  # fmt: skip
"""The shares add up to 103 or so; only their proportions count."""
TEAMS = tuple(sorted({service.team for service in SERVICES}))
