"""The shape of ``[[rules]]`` and ``[limits]`` in the policy file. docs/rules.md says what each field does.

A condition is written as a table with one key per fact; here it becomes the domain's clauses, the cheap ones first.
"""

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from shared.analysis.text_kind import CODE, DATA, LOGS, MATH, PROSE
from shared.domain import rules as facts
from shared.domain.chat import Modality, ReasoningEffort
from shared.domain.features import Category, ComplexityLevel
from shared.domain.policy import CallerLimits
from shared.domain.rules import (
    MAX_PREFERENCE,
    Actions,
    Between,
    Clause,
    Condition,
    During,
    EveryOf,
    Group,
    Need,
    OnDates,
    OneOf,
    Rule,
    ServiceLike,
    SomeOf,
    Streamed,
    Tagged,
)
from shared.domain.security import SecurityLevel
from shared.domain.weights import Preset, Weights
from shared.stores.registry_fields import Alias, DeploymentId, Level, Table, Text, Weight, Zone, money

MAX_RULES = 500
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CONTENT_TYPES = frozenset({PROSE, CODE, MATH, DATA, LOGS} | {modality.value for modality in Modality})
"""What `RequestFeatures.content_type` may say: a kind of text, or the attachment's modality."""

_OFFSET = re.compile(r"([+-])([01][0-9]|2[0-3]):([0-5][0-9])")
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")


def _zone(value: object) -> object:
    if value == "UTC":
        return UTC
    if isinstance(value, str):
        if offset := _OFFSET.fullmatch(value):
            sign, hours, minutes = offset.groups()
            distance = timedelta(hours=int(hours), minutes=int(minutes))
            return timezone(-distance if sign == "-" else distance)
        if _ZONE_NAME.fullmatch(value):
            try:
                return ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                pass
    raise ValueError('no such time zone: use "UTC", an offset such as "+02:00" or a name such as "Europe/Berlin"')


def _minute(value: object) -> object:
    """Minutes since midnight of ``22:00``; TOML's own times have seconds, which must be zero."""
    if isinstance(value, str) and (found := re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)(?::00)?|24:00", value)):
        hours, minutes = found.groups()
        return 24 * 60 if hours is None else int(hours) * 60 + int(minutes)
    raise ValueError('must be a time of day such as "22:00"')


def _content_type(value: object) -> object:
    if value not in CONTENT_TYPES:
        raise ValueError(f"must be one of {', '.join(sorted(CONTENT_TYPES))}")
    return value


def _one_or_more(value: object) -> object:
    return value if isinstance(value, list) else [value]


TimeZone = Annotated[tzinfo, PlainValidator(_zone), WithJsonSchema({"type": "string"})]
Minute = Annotated[int, BeforeValidator(_minute)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
ServicePattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9*?][A-Za-z0-9._:*?-]{0,127}$")]
TagKey = Annotated[str, Field(min_length=1, max_length=64)]
RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
_SOME = Field(min_length=1, max_length=200)


class ShareRange(Table):
    """Least and most, both included."""

    min: Share = 0.0
    max: Share = 1.0


class CountRange(Table):
    """Least and most, both included; without `max` there is no upper bound."""

    min: Count = 0
    max: Count | None = None


class LevelRange(Table):
    """Lowest and highest level, both included."""

    min: Level = SecurityLevel.PUBLIC
    max: Level = SecurityLevel.RESTRICTED


class ModalityTable(Table):
    """At least one of `any`, and every one of `all`."""

    any: Annotated[list[Modality], _SOME] | None = None
    all: Annotated[list[Modality], _SOME] | None = None


class TimeTable(Table):
    """A weekly window on a wall clock."""

    days: Annotated[list[Literal[DAYS]], _SOME] = Field(default_factory=lambda: list(DAYS))  # type: ignore[valid-type]  # the tuple is constant
    start: Minute = Field(0, alias="from")
    until: Minute = 24 * 60
    zone: TimeZone = UTC


class DatesTable(Table):
    """A range of days, both included."""

    first: date = Field(date.min, alias="from")
    until: date = date.max
    zone: TimeZone = UTC


class GroupTable(Table):
    """Facts that must hold together."""

    category: Annotated[list[Category], _SOME] | None = None
    complexity: ShareRange | None = None
    complexity_level: Annotated[list[ComplexityLevel], _SOME] | None = None
    security_level: LevelRange | None = None
    language: Annotated[list[Language], _SOME] | None = None
    content_type: Annotated[list[Annotated[str, BeforeValidator(_content_type)]], _SOME] | None = None
    modality: ModalityTable | None = None
    prompt_tokens: CountRange | None = None
    needs: Annotated[list[Need], _SOME] | None = None
    service: Annotated[list[ServicePattern], _SOME] | None = None
    tags: dict[TagKey, Annotated[list[Text], _SOME]] = Field(default_factory=dict)
    stream: bool | None = None
    time: TimeTable | None = None
    dates: DatesTable | None = None

    def to_group(self) -> Group:
        """The domain's clauses, those first that cost least."""
        return tuple(clause for source in _CLAUSES for clause in source(self))


class WhenTable(GroupTable):
    """``[rules.when]``."""

    any_of: Annotated[list[GroupTable], _SOME] | None = None
    none_of: Annotated[list[GroupTable], BeforeValidator(_one_or_more), _SOME] | None = Field(None, alias="not")

    def to_domain(self) -> Condition:
        """The domain's condition."""
        return Condition(
            all_of=self.to_group(),
            any_of=tuple(group.to_group() for group in self.any_of or ()),
            none_of=tuple(group.to_group() for group in self.none_of or ()),
        )


class PinTable(Table):
    """``pin``: exactly one of the two."""

    model: Alias | None = None
    deployment: DeploymentId | None = None


class WeightsTable(Table):
    """``[presets.*]`` and a rule's ``weights``: how much each factor counts."""

    quality: Weight
    cost: Weight
    latency: Weight
    reliability: Weight
    load: Weight

    def to_domain(self) -> Weights:
        """The domain's weights."""
        return Weights(**self.model_dump())


Preference = Annotated[float, Field(gt=0, le=MAX_PREFERENCE, allow_inf_nan=False)]
PositiveUsd = Annotated[Decimal, BeforeValidator(money), Field(gt=0, le=1_000_000)]


class RuleTable(Table):
    """``[[rules]]``."""

    name: RuleName
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    when: WhenTable = Field(default_factory=lambda: WhenTable.model_validate({}))
    allow_models: Annotated[list[Alias], _SOME] | None = None
    deny_models: Annotated[list[Alias], _SOME] | None = None
    prefer: dict[Alias, Preference] = Field(default_factory=dict)
    pin: PinTable | None = None
    preset: Preset | None = None
    weights: WeightsTable | None = None
    effort: ReasoningEffort | None = None
    cap_cost_usd: PositiveUsd | None = None
    max_level: Level | None = None
    residency: Annotated[list[Zone], _SOME] | None = None
    stop: bool = False

    def to_domain(self, canonical: dict[str, str]) -> Rule:
        """The domain's rule; model names become the registry's ids."""

        def ids(names: list[str]) -> frozenset[str]:
            return frozenset(canonical.get(name, name) for name in names)

        pin = self.pin or PinTable()
        actions = Actions(
            allow_models=None if self.allow_models is None else ids(self.allow_models),
            deny_models=ids(self.deny_models or []),
            prefer={canonical.get(name, name): bonus for name, bonus in sorted(self.prefer.items())},
            pin_model=None if pin.model is None else canonical.get(pin.model, pin.model),
            pin_deployment=pin.deployment,
            preset=self.preset,
            weights=None if self.weights is None else self.weights.to_domain(),
            effort=self.effort,
            cap_cost_usd=self.cap_cost_usd,
            max_level=self.max_level,
            residency=None if self.residency is None else frozenset(self.residency),
            stop=self.stop,
        )
        return Rule(self.name, self.priority, self.when.to_domain(), actions)


class LimitsTable(Table):
    """``[limits]`` and ``[services.*.limits]``: what callers may ask for."""

    presets: list[Preset] = Field(default_factory=lambda: list(Preset))
    weights: bool = True
    weight_ranges: dict[Literal["quality", "cost", "latency", "reliability", "load"], ShareRange] = Field(
        default_factory=dict
    )
    pin: bool = True

    def to_domain(self) -> CallerLimits:
        """The domain's limits."""
        return CallerLimits(
            presets=frozenset(self.presets),
            weights=self.weights,
            weight_ranges={factor: (share.min, share.max) for factor, share in self.weight_ranges.items()},
            pin=self.pin,
        )


def _words(table: GroupTable) -> Iterator[Clause]:
    for fact in (facts.CATEGORY, facts.COMPLEXITY_LEVEL, facts.LANGUAGE, facts.CONTENT_TYPE):
        values: list[Any] | None = getattr(table, fact)
        if values is not None:
            yield OneOf(fact, frozenset(str(value) for value in values))


def _numbers(table: GroupTable) -> Iterator[Clause]:
    if table.complexity is not None:
        yield Between(facts.COMPLEXITY, table.complexity.min, table.complexity.max)
    if table.security_level is not None:
        yield Between(facts.SECURITY_LEVEL, int(table.security_level.min), int(table.security_level.max))
    if table.prompt_tokens is not None:
        most = table.prompt_tokens.max
        yield Between(facts.PROMPT_TOKENS, table.prompt_tokens.min, math.inf if most is None else most)


def _sets(table: GroupTable) -> Iterator[Clause]:
    if table.stream is not None:
        yield Streamed(table.stream)
    if table.needs is not None:
        yield EveryOf(facts.NEEDS, frozenset(str(need) for need in table.needs))
    if table.modality is not None:
        if table.modality.any is not None:
            yield SomeOf(facts.MODALITY, frozenset(str(modality) for modality in table.modality.any))
        if table.modality.all is not None:
            yield EveryOf(facts.MODALITY, frozenset(str(modality) for modality in table.modality.all))


def _callers(table: GroupTable) -> Iterator[Clause]:
    for key, values in sorted(table.tags.items()):  # a kept policy has its keys sorted, and must be the same
        yield Tagged(key, frozenset(values))
    if table.service is not None:
        patterns = tuple(sorted(name for name in table.service if "*" in name or "?" in name))
        yield ServiceLike(frozenset(table.service) - frozenset(patterns), patterns)


def _instants(table: GroupTable) -> Iterator[Clause]:
    if table.dates is not None:
        yield OnDates(table.dates.first, table.dates.until, table.dates.zone)
    if table.time is not None:
        days = frozenset(DAYS.index(day) for day in table.time.days)
        yield During(days, table.time.start, table.time.until, table.time.zone)


_CLAUSES: tuple[Callable[[GroupTable], Iterator[Clause]], ...] = (_words, _numbers, _sets, _callers, _instants)
