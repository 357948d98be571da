"""GET /admin/security, POST /admin/security/findings/{finding_id}: events, findings, and what was done about them."""

from hashlib import sha256

from functions._edge import AuditDetail, Call, Reply
from functions._wire.parsing import parse
from functions._wire.security import FindingBody, finding_body, security_body, security_queries
from shared.domain.security_events import FindingState, ThreatFinding


async def show(call: Call) -> Reply:
    """Events and findings of the caller's tenant."""
    events, findings = security_queries(call.query, tenant_id=call.caller.tenant_id, now=call.container.clock.now())
    return Reply(security_body(await call.container.oversight.threats.overview(events, findings)))


async def move(call: Call) -> Reply:
    """Acknowledge or resolve a finding."""
    body = parse(call.body, FindingBody)
    before, after = await call.container.oversight.threats.move(
        call.path_params["finding_id"],
        FindingState(body.state),
        tenant_id=call.caller.tenant_id,
        by=call.caller.id,
        note=body.note,
    )
    detail = AuditDetail(resource=f"finding {after.id}", before=_digest(before), after=_digest(after))
    return Reply(finding_body(after), audit=detail)


def _digest(finding: ThreatFinding) -> str:
    return sha256(f"{finding.state.value} {finding.changed_by} {finding.note}".encode(errors="replace")).hexdigest()
