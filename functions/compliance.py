"""/compliance: a person's data exported or erased, what leaves by retention, and the report."""

from functions._edge import AuditDetail, Call, Reply
from functions._wire.compliance import (
    JSON_LINES,
    EraseBody,
    ExportBody,
    erasure_body,
    export_lines,
    order_body,
    report_body,
    report_query,
    retention_body,
)
from functions._wire.compliance_html import HTML, HTML_HEADERS, report_html
from functions._wire.parsing import parse
from functions._wire.query import only
from shared.domain.privacy import DataSubject

_ACCEPTED = 202


async def export(call: Call) -> Reply:
    """Everything of a person, a page at a time, as JSON lines."""
    body = parse(call.body, ExportBody)
    subject = body.to_domain(call.caller.tenant_id)
    page = await call.container.oversight.privacy.export(subject, cursor=body.cursor, limit=body.limit)
    return Reply(export_lines(page), media_type=JSON_LINES, audit=AuditDetail(resource=_named(subject)))


async def erase(call: Call) -> Reply:
    """Order an erasure; it begins some minutes later."""
    subject = parse(call.body, EraseBody).to_domain(call.caller.tenant_id)
    order = await call.container.oversight.privacy.erase(subject, call.caller)
    return Reply(order_body(order), status=_ACCEPTED, audit=AuditDetail(resource=f"erasure {order.id}"))


async def erasure(call: Call) -> Reply:
    """How far an erasure is, and its certificate."""
    erasure_id = call.path_params["erasure_id"]
    found = await call.container.oversight.privacy.show(erasure_id, tenant_id=call.caller.tenant_id)
    return Reply(erasure_body(found))


async def retention(call: Call) -> Reply:
    """What is kept for how long, and what would leave now. Changes nothing."""
    only(call.query, frozenset())
    keeping = call.container.oversight.retention
    return Reply(retention_body(keeping.rules, await keeping.due()))


async def report(call: Call) -> Reply:
    """The compliance report, as JSON or as a page to print."""
    since, until, is_page = report_query(call.query, call.container.clock.now())
    made = await call.container.oversight.compliance.report(call.caller.tenant_id, since=since, until=until)
    if is_page:
        return Reply(report_html(report_body(made)), media_type=HTML, headers=HTML_HEADERS)
    return Reply(report_body(made))


def _named(subject: DataSubject) -> str:
    """Whom an export was about, for the audit trail: recognisable to whoever knows the person, and to nobody else."""
    return f"{subject.kind.value} {subject.digest[:16]}"
