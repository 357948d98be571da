"""GET /audit: the security audit trail of the caller's tenant, and proof that nobody altered it."""

from functions._edge import Call, Reply
from functions._wire.audit import audit_body, audit_query, verification_body, wants_verification


async def audit(call: Call) -> Reply:
    """List events; with ``verify=true`` also walk the chains of those days."""
    trail = call.container.audit
    query = audit_query(call.query, tenant_id=call.caller.tenant_id, now=call.container.clock.now())
    verified = await trail.verify(query) if wants_verification(call.query) else None
    body = audit_body(await trail.page(query))
    return Reply(body if verified is None else {**body, "verification": verification_body(verified)})
