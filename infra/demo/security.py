"""The demo's security events: guessed passwords, and now and then something refused or suspicious."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from infra.demo.cast import SERVICES
from infra.demo.story import Story
from infra.demo.traffic import uuid7
from shared.domain.errors import Forbidden, InjectionSuspected, NoEligibleModel, SensitiveContent, Unauthenticated
from shared.domain.security_events import SecurityEvent, SecurityEventKind, target_digest

_GUESSES, _OTHERS_A_DAY = 60, 4
_GUESSER = "demo:anonymous"
_NETWORK = "203.0.113.0/24"
"""Of the addresses for documentation (RFC 5737)."""
_USUAL = (
    (SecurityEventKind.INJECTION, InjectionSuspected.code, 4),
    (SecurityEventKind.CONTENT_BLOCKED, SensitiveContent.code, 3),
    (SecurityEventKind.CLEARANCE_BLOCKED, NoEligibleModel.code, 3),
    (SecurityEventKind.PERMISSION_DENIED, Forbidden.code, 2),
    (SecurityEventKind.UNAUTHENTICATED, Unauthenticated.code, 2),
)


def events_of(story: Story, *, seed: int, tenant_id: str) -> Sequence[SecurityEvent]:
    """All of a month, by time; the same for the same seed."""
    rng = Random(f"{seed} security")  # noqa: S311 - made-up events, no secret
    length = story.guessing.until - story.guessing.since
    guesses = [_guess(rng, tenant_id, story.guessing.since + rng.random() * length) for _ in range(_GUESSES)]
    month = story.until - story.since
    usual = [_usual(rng, tenant_id, story.since + rng.random() * month) for _ in range(_OTHERS_A_DAY * story.days)]
    return sorted(guesses + usual, key=lambda event: event.at)


def _guess(rng: Random, tenant_id: str, at: datetime) -> SecurityEvent:
    at = _whole_ms(at)
    return SecurityEvent(
        id=str(UUID(int=uuid7(rng, at))),
        at=at,
        tenant_id=tenant_id,
        kind=SecurityEventKind.LOGIN_FAILED,
        actor=_GUESSER,
        service="",
        resource="POST auth/login",
        request_id=str(UUID(int=uuid7(rng, at))),
        network=_NETWORK,
        code=Unauthenticated.code,
        target=target_digest(f"account-{rng.randrange(25)}"),
    )


def _usual(rng: Random, tenant_id: str, at: datetime) -> SecurityEvent:
    at, service = _whole_ms(at), rng.choice(SERVICES).name
    kind, code, _ = rng.choices(_USUAL, [weight for *_, weight in _USUAL])[0]
    return SecurityEvent(
        id=str(UUID(int=uuid7(rng, at))),
        at=at,
        tenant_id=tenant_id,
        kind=kind,
        actor=f"demo:{service}",
        service=service,
        resource="POST chat/completions",
        request_id=str(UUID(int=uuid7(rng, at))),
        network=f"198.51.{rng.randrange(90, 110)}.0/24",
        code=code,
    )


def _whole_ms(at: datetime) -> datetime:
    return at - timedelta(microseconds=at.microsecond % 1000)
