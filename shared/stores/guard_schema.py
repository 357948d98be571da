"""The shape of ``[detection]`` and ``[services.*.guard]`` in the policy file. docs/security.md says what they mean."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from shared.analysis.detectors.custom import pattern_problem
from shared.domain.security import (
    DECLARED_LABEL,
    INJECTION_KINDS,
    SENSITIVE_KINDS,
    AnswerAction,
    ContentAction,
    CustomPattern,
    DetectionRules,
    GuardRules,
    SignalAction,
)
from shared.stores.registry_fields import Level, Table

MAX_PATTERNS = 100
_USUAL = GuardRules()
_Host = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)+$", max_length=253)]
_Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,47}$")]


class PatternTable(Table):
    """``[[detection.patterns]]``."""

    name: _Kind
    pattern: Annotated[str, Field(min_length=1, max_length=1_000)]
    level: Level

    def to_domain(self) -> CustomPattern:
        """The domain's pattern."""
        return CustomPattern(self.name, self.pattern, self.level)


class DetectionTable(Table):
    """``[detection]``: what is looked for, for all services."""

    patterns: Annotated[list[PatternTable], Field(max_length=MAX_PATTERNS)] = Field(default_factory=list)
    levels: dict[_Kind, Level] = Field(default_factory=dict)

    def to_domain(self) -> DetectionRules:
        """The domain's rules."""
        return DetectionRules(tuple(pattern.to_domain() for pattern in self.patterns), self.levels)


class GuardTable(Table):
    """``[services.*.guard]``: what is done about it, for one service."""

    levels: dict[Level, ContentAction] = Field(default_factory=dict)
    kinds: dict[_Kind, ContentAction] = Field(default_factory=dict)
    injection: SignalAction = _USUAL.injection
    injection_from: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = _USUAL.injection_from
    answer_secrets: AnswerAction = _USUAL.answer_secrets
    answer_leaks: AnswerAction = _USUAL.answer_leaks
    media_hosts: Annotated[list[_Host], Field(max_length=100)] = Field(default_factory=list)

    def to_domain(self) -> GuardRules:
        """The domain's rules."""
        return GuardRules(
            levels=self.levels,
            kinds=self.kinds,
            injection=self.injection,
            injection_from=self.injection_from,
            answer_secrets=self.answer_secrets,
            answer_leaks=self.answer_leaks,
            media_hosts=frozenset(self.media_hosts),
        )


def detection_problems(detection: DetectionTable) -> Iterator[str]:
    """What is wrong with what is looked for."""
    names = Counter(pattern.name for pattern in detection.patterns)
    for pattern in detection.patterns:
        where = f"detection.patterns[{pattern.name}]"
        if pattern.name in SENSITIVE_KINDS | INJECTION_KINDS:
            yield f"{where}.name: is a kind that the router knows already"
        problem = pattern_problem(pattern.pattern)
        if problem is not None:
            yield f"{where}.pattern: {problem}"
    yield from (f"detection.patterns[{name}].name: is given more than once" for name, n in names.items() if n > 1)
    yield from (f"detection.levels: there is no kind {kind!r}" for kind in _unknown(detection.levels, detection))


def guard_problems(guard: GuardTable, detection: DetectionTable) -> Iterator[str]:
    """What is wrong with what is done about it."""
    yield from (f"kinds: there is no kind {kind!r}" for kind in _unknown(guard.kinds, detection))
    if guard.kinds.get(DECLARED_LABEL) is ContentAction.REDACT:
        yield f"kinds.{DECLARED_LABEL}: a marking cannot be redacted; the text would only seem harmless"


def _unknown(kinds: Mapping[str, object], detection: DetectionTable) -> list[str]:
    known = SENSITIVE_KINDS | {pattern.name for pattern in detection.patterns}
    return sorted(kind for kind in kinds if kind not in known)
