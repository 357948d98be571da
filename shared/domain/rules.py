"""Task-routing rules: when a request is like this, do that. Data only: there is no expression language to escape from.

A condition is a conjunction of clauses, each about one fact of the request. Clauses answer for themselves (`holds`), so
that a rule costs only the clauses it has, and a rule that does not match costs hardly more than its first one.
docs/rules.md says in which order rules are evaluated and how their actions combine.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from decimal import Decimal
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache

from shared.domain.chat import ReasoningEffort
from shared.domain.security import SecurityLevel
from shared.domain.weights import Preset, Weights

MAX_PREFERENCE = 0.5
"""The most that a rule may add to a model's score: it can tip a choice, not replace it."""

CATEGORY, COMPLEXITY_LEVEL, LANGUAGE, CONTENT_TYPE = "category", "complexity_level", "language", "content_type"
COMPLEXITY, SECURITY_LEVEL, PROMPT_TOKENS = "complexity", "security_level", "prompt_tokens"
MODALITY, NEEDS = "modality", "needs"


class Need(StrEnum):
    """A capability without which a model cannot serve the request. JSON is wanted by a schema, too."""

    TOOLS = "tools"
    JSON = "json"
    JSON_SCHEMA = "json_schema"
    MEDIA_URIS = "media_uris"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Facts:
    """What clauses look at. Words are plain strings, because hashing an enumeration member is slow.

    Attributes:
        words: category, complexity level, language, content type.
        numbers: complexity in [0, 1], security level 0 to 3, prompt tokens of four characters.
        sets: modalities and needs.
        now: the instant of the decision, aware.
    """

    words: Mapping[str, str]
    numbers: Mapping[str, float]
    sets: Mapping[str, frozenset[str]]
    service: str
    stream: bool
    tags: Mapping[str, str]
    now: datetime
    _local: dict[tzinfo, datetime] = field(default_factory=dict, compare=False, repr=False)

    def local(self, zone: tzinfo) -> datetime:
        """The instant on the wall clock of a zone, converted once per zone."""
        known = self._local.get(zone)
        if known is None:
            known = self._local[zone] = self.now.astimezone(zone)
        return known


@dataclass(frozen=True, slots=True)
class OneOf:
    """A word is among those listed."""

    fact: str
    values: frozenset[str]

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        return facts.words[self.fact] in self.values


@dataclass(frozen=True, slots=True)
class Between:
    """A number lies in a range, both ends included."""

    fact: str
    minimum: float = -math.inf
    maximum: float = math.inf

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        return self.minimum <= facts.numbers[self.fact] <= self.maximum


@dataclass(frozen=True, slots=True)
class SomeOf:
    """A set has at least one of the listed members."""

    fact: str
    values: frozenset[str]

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        return not self.values.isdisjoint(facts.sets[self.fact])


@dataclass(frozen=True, slots=True)
class EveryOf:
    """A set has all of the listed members."""

    fact: str
    values: frozenset[str]

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        return self.values <= facts.sets[self.fact]


@dataclass(frozen=True, slots=True)
class ServiceLike:
    """The calling service has one of the `names`, or fits one of the `patterns` (``*`` and ``?``)."""

    names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        return self.fits(facts.service)

    def fits(self, service: str) -> bool:
        """Whether a service of that name is meant."""
        if service in self.names:
            return True
        for pattern in self.patterns:  # noqa: SIM110 - any() over a generator takes twice as long
            if _compiled(pattern).match(service):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Tagged:
    """The request carries a tag with one of the listed values."""

    key: str
    values: frozenset[str]

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        return facts.tags.get(self.key) in self.values


@dataclass(frozen=True, slots=True)
class Streamed:
    """The answer is streamed, or is not."""

    wanted: bool

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        return facts.stream is self.wanted


@dataclass(frozen=True, slots=True)
class During:
    """A weekly window on the wall clock of a zone.

    `days` (0 is Monday) are those on which the window opens: one from 22:00 to 06:00 on Fridays holds on Saturday at
    02:00. The window holds from `start_minute` of the day on and ends before `end_minute`; an end at or before the
    start lies on the next day.
    """

    days: frozenset[int]
    start_minute: int
    end_minute: int
    zone: tzinfo

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        local = facts.local(self.zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute and day in self.days
        opened_today = minute >= self.start_minute and day in self.days
        return opened_today or (minute < self.end_minute and (day - 1) % 7 in self.days)


@dataclass(frozen=True, slots=True)
class OnDates:
    """The date in a zone lies between two days, both included."""

    first: date
    last: date
    zone: tzinfo

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        return self.first <= facts.local(self.zone).date() <= self.last


Clause = OneOf | Between | SomeOf | EveryOf | ServiceLike | Tagged | Streamed | During | OnDates
Group = tuple[Clause, ...]
"""Clauses that hold together."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds when all of `all_of` hold, some group of `any_of` (if there are any) and no group of `none_of`."""

    all_of: Group = ()
    any_of: tuple[Group, ...] = ()
    none_of: tuple[Group, ...] = ()

    def holds(self, facts: Facts) -> bool:
        """Whether a request meets it."""
        for clause in self.all_of:  # all() over a generator takes twice as long
            if not clause.holds(facts):
                return False
        if self.any_of and not any(_all_hold(group, facts) for group in self.any_of):
            return False
        return not any(_all_hold(group, facts) for group in self.none_of)


@dataclass(frozen=True, slots=True)
class Actions:
    """What a matching rule does. None and empty leave things as they are.

    Attributes:
        allow_models: no other model may serve.
        deny_models: these may not.
        prefer: added to the score, by model, up to `MAX_PREFERENCE`.
        pin_model: only this model may serve.
        pin_deployment: only this deployment may serve.
        preset: weights by name, where the caller asks for none.
        weights: weights as such, where the caller asks for none.
        effort: reasoning effort, where the caller sets none.
        cap_cost_usd: the most that the worst case of the request may cost.
        max_level: content above this level is refused.
        residency: zones in which a deployment must lie wholly.
        stop: no later rule is looked at.
    """

    allow_models: frozenset[str] | None = None
    deny_models: frozenset[str] = frozenset()
    prefer: Mapping[str, float] = field(default_factory=dict)
    pin_model: str | None = None
    pin_deployment: str | None = None
    preset: Preset | None = None
    weights: Weights | None = None
    effort: ReasoningEffort | None = None
    cap_cost_usd: Decimal | None = None
    max_level: SecurityLevel | None = None
    residency: frozenset[str] | None = None
    stop: bool = False

    @property
    def pins(self) -> bool:
        """Whether a model or deployment is pinned."""
        return self.pin_model is not None or self.pin_deployment is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. A higher `priority` is looked at first; equal ones in the order of the file."""

    name: str
    priority: int = 0
    when: Condition = Condition()
    actions: Actions = field(default_factory=Actions)


def _all_hold(group: Group, facts: Facts) -> bool:
    return all(clause.holds(facts) for clause in group)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Only * and ? are special: "[" is none of the characters that a pattern may hold.
    return re.compile(translate(pattern))
