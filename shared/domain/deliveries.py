"""How far the delivery of a notification is, and what decides whether it is tried again."""

import random
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.domain.notifications import Notification


class DeliveryState(StrEnum):
    """Where a notification stands."""

    WAITING = "waiting"
    """For its first or next attempt, or for the end of the one under way."""
    SENT = "sent"
    """Its receiver took it."""
    DEAD = "dead"
    """Given up; an admin can have it tried again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification and what was done to deliver it.

    Attributes:
        attempts: how many were begun. The number is also the lease of the attempt: what an older one reports is void.
        attempts_before: how many of them were before the last retry that an admin asked for.
        queued_at: when it was written, or when an admin asked for the last retry.
        due_at: when the next attempt may begin; while one is under way, when its lease ends.
        ended_at: when it was sent or given up.
        last_error: why the last attempt that failed did so; empty: none did.
    """

    notification: Notification
    state: DeliveryState
    attempts: int
    attempts_before: int
    queued_at: datetime
    due_at: datetime
    ended_at: datetime | None = None
    last_error: str = ""

    @property
    def tries(self) -> int:
        """Attempts that count."""
        return self.attempts - self.attempts_before


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries of a tenant are asked for, the newest notifications first.

    Attributes:
        before: time and id of the notification where the page before ended.
    """

    tenant_id: str
    since: datetime
    until: datetime
    state: DeliveryState | None = None
    channel: str | None = None
    incident_id: str | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 100


class OutcomeKind(StrEnum):
    """What came of an attempt."""

    TAKEN = "taken"
    """The receiver has it."""
    UNDER_WAY = "under_way"
    """The receiver works on it; the next attempt asks what became of it."""
    FAILED = "failed"
    """It may work another time."""
    REFUSED = "refused"
    """It would fail again, as long as nobody changes something."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        code: why it failed, in a word of the router's own; never what the receiver said.
        retry_after_s: how long the receiver asked to be left alone.
    """

    kind: OutcomeKind
    code: str = ""
    retry_after_s: float | None = None

    @property
    def is_end(self) -> bool:
        """Whether no further attempt makes sense."""
        return self.kind in (OutcomeKind.TAKEN, OutcomeKind.REFUSED)


TAKEN = Outcome(OutcomeKind.TAKEN)


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """How hard the router tries to deliver.

    With the defaults a receiver that fails is tried for about five hours.

    Attributes:
        first_pause_s: longest pause after the first failure; doubles with every further one.
        most_pause_s: where the doubling ends, and the longest Retry-After that is obeyed.
        most_tries: attempts after which a notification is dead.
        longest_s: age at which it is dead, however few attempts there were: nobody is helped by older news.
        attempt_s: what an attempt may take.
        lease_s: for how long an attempt keeps others away; well above `attempt_s`.
        at_once: attempts of one channel at the same time.
        channels_at_once: channels that are served at the same time.
        turn_s: after which a run takes nothing new.
    """

    first_pause_s: float = 10.0
    most_pause_s: float = 3600.0
    most_tries: int = 15
    longest_s: float = 86_400.0
    attempt_s: float = 15.0
    lease_s: float = 60.0
    at_once: int = 4
    channels_at_once: int = 8
    turn_s: float = 40.0

    def pause_s(self, tries: int, retry_after_s: float | None, rng: random.Random) -> float:
        """Seconds until the next attempt: half of the exponential pause, and a random part of the other half.

        Args:
            tries: attempts so far, at least one.
            retry_after_s: what the receiver asked for; obeyed up to `most_pause_s`, and spread likewise.
            rng: so that what failed together does not come back together.
        """
        # The exponent is bounded: a float has an end.
        longest_s = min(self.most_pause_s, self.first_pause_s * 2.0 ** min(tries - 1, 64))
        asked_s = min(self.most_pause_s, max(0.0, retry_after_s or 0.0))
        return max(asked_s, longest_s / 2) + rng.uniform(0.0, longest_s / 2)

    def is_dead(self, delivery: Delivery, now: datetime) -> bool:
        """Whether a failed attempt was the last one."""
        return delivery.tries >= self.most_tries or (now - delivery.queued_at).total_seconds() >= self.longest_s
