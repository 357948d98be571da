"""The queries, the bodies and the answers of /compliance."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import orjson
from pydantic import Field, model_validator

from functions._wire.audit import verification_body
from functions._wire.parsing import Body
from functions._wire.query import only, span_of
from functions._wire.security import counts_body, finding_body
from shared.domain.errors import InvalidRequest
from shared.domain.privacy import DataSubject, ErasureOrder, SubjectKind
from shared.domain.retention import RetentionDue, RetentionRules
from shared.ports import ExportPage
from shared.services.compliance import ComplianceReport
from shared.services.privacy import Erasure

_REPORT_PARAMETERS = frozenset({"since", "until", "format"})
_DEFAULT_SPAN, _LONGEST_SPAN = timedelta(days=30), timedelta(days=92)
_FORMATS = ("json", "html")
JSON_LINES = "application/jsonl"


class SubjectBody(Body):
    """Whose data is meant: exactly one of these."""

    principal_id: Annotated[str | None, Field(min_length=1, max_length=256, repr=False)] = None
    service: Annotated[str | None, Field(min_length=1, max_length=256, repr=False)] = None
    tag: Annotated[str | None, Field(min_length=3, max_length=577, pattern=r"^[^=]{1,64}=", repr=False)] = None
    """``key=value``."""

    @model_validator(mode="after")
    def _one(self) -> "SubjectBody":
        given = [value for value in (self.principal_id, self.service, self.tag) if value is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of principal_id, service and tag")
        if any("\0" in value or not _is_text(value) for value in given):
            raise ValueError("holds a character that no store holds")
        return self

    def to_domain(self, tenant_id: str) -> DataSubject:
        """The domain's subject."""
        if self.principal_id is not None:
            return DataSubject(tenant_id, SubjectKind.PRINCIPAL, self.principal_id)
        if self.service is not None:
            return DataSubject(tenant_id, SubjectKind.SERVICE, self.service)
        key, _, value = (self.tag or "").partition("=")
        return DataSubject(tenant_id, SubjectKind.TAG, value, key)


class EraseBody(SubjectBody):
    """Whose data is erased."""


class ExportBody(SubjectBody):
    """Whose data is exported, and which part of it."""

    cursor: Annotated[str, Field(max_length=512)] = "0:"
    limit: Annotated[int, Field(ge=1, le=5_000)] = 1_000


def export_lines(page: ExportPage) -> bytes:
    """One JSON object a line; the last line says where the next page begins."""
    lines = [orjson.dumps(row, default=str) for row in page.rows]
    return b"\n".join([*lines, orjson.dumps({"next_cursor": page.cursor}), b""])


def erasure_body(erasure: Erasure) -> dict[str, Any]:
    """An erasure; once it is complete with its certificate, byte for byte what was hashed."""
    order = erasure.order
    found = {name: dict(counts) for name, counts in erasure.found.items()}
    return {**order_body(order), "found": found, "vouched": erasure.vouched}


def order_body(order: ErasureOrder) -> dict[str, Any]:
    """An erasure without what its steps found."""
    return {
        "id": order.id,
        "subject_kind": order.kind.value,
        "tag": order.tag or None,
        "state": order.state.value,
        "requested_by": order.requested_by,
        "requested_at": order.requested_at.isoformat(),
        "completed_at": None if order.completed_at is None else order.completed_at.isoformat(),
        "certificate": order.certificate,
        "certificate_sha256": order.certificate_sha256,
    }


def retention_body(rules: RetentionRules, due: Sequence[RetentionDue] | None) -> dict[str, Any]:
    """What is kept for how long, and what would leave now."""
    return {
        "records_months": rules.records_months,
        "audit_months": rules.audit_months,
        "events_months": rules.events_months,
        "enforced": rules.enforced,
        "due": None if due is None else [{"class": d.kind.value, "what": d.what, "rows": d.rows} for d in due],
    }


def report_query(parameters: Mapping[str, str], now: datetime) -> tuple[datetime, datetime, bool]:
    """The time of a report, and whether it is wanted as HTML.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, _REPORT_PARAMETERS)
    wanted = parameters.get("format", "json")
    if wanted not in _FORMATS:
        raise InvalidRequest("format: must be json or html", param="format")
    since, until = span_of(parameters, now, default=_DEFAULT_SPAN, longest=_LONGEST_SPAN)
    return since, until, wanted == "html"


def report_body(report: ComplianceReport) -> dict[str, Any]:
    """The report as JSON values; a section that could not be had is null, and `unavailable` names it."""
    return {
        "tenant_id": report.tenant_id,
        "made_at": report.made_at.isoformat(),
        "since": report.since.isoformat(),
        "until": report.until.isoformat(),
        "access": None if report.principals is None else [
            {
                "principal_id": seen.principal_id,
                "service": seen.service,
                "roles": list(seen.roles),
                "networks": int(seen.network),
                "first_at": seen.first_at.isoformat(),
                "last_at": seen.last_at.isoformat(),
                "requests": seen.requests,
            }
            for seen in report.principals
        ],
        "encryption": [
            {"topic": f.topic, "statement": f.statement, "known_by": f.known_by, "protected": f.protected}
            for f in report.facts
        ],
        "retention": retention_body(report.retention, report.due),
        "incidents": None if report.findings is None else {
            "events": dict(sorted((report.event_counts or {}).items())),
            "findings": counts_body(report.finding_counts or {}),
            "not_resolved": [finding_body(finding) for finding in report.findings],
        },
        "audit": None if report.audit is None else verification_body(report.audit),
        "erasures": None if report.erasures is None else [order_body(order) for order in report.erasures],
        "unavailable": list(report.unavailable),
        "not_known_here": list(report.not_known),
    }  # fmt: skip


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
