"""The shape of ``[[threats]]`` and ``[retention]`` in the policy file. docs/compliance.md says what they mean."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from shared.domain.retention import RetentionRules
from shared.domain.security_events import Severity, ThreatRule, ThreatSignal
from shared.stores.registry_fields import Table

MAX_THREATS = 100
_RETENTION = RetentionRules()
_LONGEST_WINDOW_S = 172_800
"""Two days: what is added up from the ledger when a timer was away."""
_HOUR_S = 3_600
_Months = Annotated[int, Field(ge=1, le=1_200)]


class ThreatTable(Table):
    """``[[threats]]``."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
    signal: ThreatSignal
    window_s: Annotated[int, Field(ge=60, le=_LONGEST_WINDOW_S)]
    threshold: Annotated[int, Field(ge=1, le=10**15)]
    severity: Severity = Severity.MEDIUM
    factor: Annotated[float, Field(gt=1, le=1_000_000, allow_inf_nan=False)] | None = None
    enabled: bool = True

    def to_domain(self) -> ThreatRule:
        """The domain's rule."""
        return ThreatRule(**self.model_dump())


class RetentionTable(Table):
    """``[retention]``; what is not given is as in the domain."""

    records_months: _Months = _RETENTION.records_months
    audit_months: _Months = _RETENTION.audit_months
    events_months: _Months = _RETENTION.events_months
    enforced: bool = _RETENTION.enforced

    def to_domain(self) -> RetentionRules:
        """The domain's rules."""
        return RetentionRules(**self.model_dump())


def threat_problems(threats: Iterable[ThreatTable]) -> Iterator[str]:
    """What is wrong between the fields of each rule, and between their names."""
    tables = list(threats)
    for name, count in Counter(table.name for table in tables).items():
        if count > 1:
            yield f"threats[{name}].name: is given more than once"
    for table in tables:
        where = f"threats[{table.name}]"
        if table.signal.is_usage and table.window_s % _HOUR_S:
            yield f"{where}.window_s: usage is added up by hours; give whole hours"
        if table.factor is not None and not table.signal.is_usage:
            yield f"{where}.factor: only usage has a baseline ({', '.join(s for s in ThreatSignal if s.is_usage)})"
