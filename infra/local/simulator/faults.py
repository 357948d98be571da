"""Faults to order: rules that the control API, the configuration or a request header set, and what each one does."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson

from infra.local.simulator.plan import Finish, Plan, half, without_answer
from infra.local.simulator.problems import Problem

HEADER = "x-sim-fault"

_EXHAUSTED = (
    "Resource exhausted. Please try again later. Please refer to "
    "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details."
)
_NO_CREDENTIALS = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_REFUSALS: dict[str, tuple[int, bool, str]] = {
    "rate_limit": (429, True, _EXHAUSTED),
    "overloaded": (529, False, "Overloaded"),
    "server_error": (500, False, "Internal error encountered."),
    "unavailable": (503, True, "The service is currently unavailable."),
    "bad_request": (400, False, "Request contains an invalid argument."),
    "forbidden": (403, True, "Permission 'aiplatform.endpoints.predict' denied on resource (or it may not exist)."),
    "unauthenticated": (401, True, _NO_CREDENTIALS),
    "not_found": (404, True, "Publisher Model or Endpoint was not found."),
    "deadline": (504, True, "Deadline expired before operation could complete."),
}
"""Name -> (HTTP status, whether Vertex itself refuses, sentence)."""

_OTHERS = frozenset(
    {
        "slow_first_token",
        "stall",
        "cut",
        "malformed_json",
        "empty_candidates",
        "safety_block",
        "truncated",
        "hang",
        "stream_error",
    }
)
NAMES = frozenset(_REFUSALS) | _OTHERS
_PARAMETERS = frozenset({"after_chunks", "delay_s", "retry_after_s", "http_date", "level", "message", "by"})
_RULE_KEYS = frozenset({"match", "fault", "probability", "times"}) | _PARAMETERS
_MATCH_KEYS = frozenset({"model", "region", "endpoint"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to inject.

    Attributes:
        after_chunks: content pieces that still get through before stall, cut, malformed_json or stream_error.
        delay_s: real seconds that slow_first_token adds; not scaled.
        http_date: tell the wait as an HTTP-date (HTTP only).
        level: safety_block at the ``prompt`` or at the ``answer``.
        by: ``platform`` or ``model``, to override who refuses and thereby the error's form.
    """

    name: str
    after_chunks: int = 1
    delay_s: float = 5.0
    retry_after_s: float | None = None
    http_date: bool = False
    level: str = "prompt"
    message: str | None = None
    by: str | None = None

    def problem(self, now: datetime) -> Problem | None:
        """The refusal that this fault is, or None when it lets the call begin."""
        if self.name not in _REFUSALS:
            return None
        status, platform, message = _REFUSALS[self.name]
        date = None
        if self.http_date and self.retry_after_s is not None:
            date = format_datetime(now + timedelta(seconds=self.retry_after_s), usegmt=True)
        return Problem(
            status,
            self.message or message,
            platform=platform if self.by is None else self.by == "platform",
            retry_after_s=self.retry_after_s,
            retry_after_date=date,
        )

    def reshape(self, plan: Plan) -> Plan:
        """The plan with this fault's content in place of the answer's."""
        if self.name == "empty_candidates":
            return without_answer(plan, Finish.EMPTY)
        if self.name == "safety_block":
            return without_answer(plan, Finish.BLOCKED) if self.level == "prompt" else half(plan, Finish.SAFETY)
        if self.name == "truncated":
            return half(plan, Finish.LENGTH)
        return plan


@dataclass(slots=True)
class Rule:
    """A fault with the calls it is for. `left` counts down; None is without limit."""

    fault: Fault
    match: Mapping[str, str] = field(default_factory=dict)
    probability: float = 1.0
    left: int | None = None
    fired: int = 0

    def document(self) -> dict[str, Any]:
        """As it was set, with how often it fired."""
        shape: dict[str, Any] = {"match": dict(self.match), "fault": self.fault.name, "probability": self.probability}
        shape["times"] = self.left
        standard = Fault(self.fault.name)
        for name in sorted(_PARAMETERS):
            if getattr(self.fault, name) != getattr(standard, name):
                shape[name] = getattr(self.fault, name)
        shape["fired"] = self.fired
        return shape


class FaultTable:
    """The rules in force; the first one that matches and is drawn wins.

    Args:
        seed: of the draws for rules with a probability below 1.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rules: list[Rule] = []
        self._random = random.Random(seed)  # noqa: S311 - reproducible faults, not secrets

    def replace(self, documents: Sequence[Any]) -> None:
        """Set all rules anew, and begin the draws again.

        Raises:
            ValueError: naming the field that is not right; the rules stay as they were.
        """
        self._rules = [read_rule(document, f"[{number}]") for number, document in enumerate(documents)]
        self._random = random.Random(self._seed)  # noqa: S311 - the same

    def documents(self) -> list[dict[str, Any]]:
        """The rules as documents."""
        return [rule.document() for rule in self._rules]

    def pick(self, *, model: str, region: str, endpoint: str) -> Fault | None:
        """The fault for a call, if any."""
        if not self._rules:
            return None
        facts = {"model": model, "region": region, "endpoint": endpoint}
        for rule in self._rules:
            if rule.left == 0 or any(facts[key] != value for key, value in rule.match.items()):
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            if rule.left is not None:
                rule.left -= 1
            rule.fired += 1
            return rule.fault
        return None


def read_header(value: str) -> Fault:
    """The fault that a request's header asks for: a name, or a rule's JSON object.

    Raises:
        ValueError: naming what is not right.
    """
    if not value.lstrip().startswith("{"):
        return read_rule({"fault": value.strip()}, HEADER).fault
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{HEADER} is not JSON") from error
    return read_rule(document, HEADER).fault


def read_rule(document: Any, where: str) -> Rule:
    """Check and build a rule.

    Raises:
        ValueError: naming the field.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"{where} must be an object")  # noqa: TRY004 - a file's content, not a caller's type
    unknown = set(document) - _RULE_KEYS
    if unknown:
        raise ValueError(f"{where}.{min(unknown)} is not a field")
    name = document.get("fault")
    if name not in NAMES:
        raise ValueError(f"{where}.fault must be one of {', '.join(sorted(NAMES))}")
    match = document.get("match") or {}
    if not isinstance(match, Mapping) or set(match) - _MATCH_KEYS:
        raise ValueError(f"{where}.match takes model, region and endpoint")
    probability = document.get("probability", 1.0)
    if not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise ValueError(f"{where}.probability must be from 0 to 1")
    times = document.get("times")
    if times is not None and (not isinstance(times, int) or times < 0):
        raise ValueError(f"{where}.times must be a whole number or null")
    fault = Fault(name)
    for key in _PARAMETERS & set(document):
        fault = replace(fault, **{key: _parameter(where, key, document[key])})
    return Rule(fault, {key: str(value) for key, value in match.items()}, float(probability), times)


def _parameter(where: str, key: str, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "after_chunks": isinstance(value, int) and number and value >= 0,
        "delay_s": number and 0 <= value <= 600,  # noqa: PLR2004 - ten minutes outlast any client
        "retry_after_s": value is None or (number and value >= 0),
        "http_date": isinstance(value, bool),
        "level": value in {"prompt", "answer"},
        "message": isinstance(value, str),
        "by": value in {"platform", "model"},
    }
    if not fits[key]:
        raise ValueError(f"{where}.{key} has a value that it cannot take")
    return value
