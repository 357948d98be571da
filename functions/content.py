"""GET /admin/requests/{request_id}/content: what was asked and answered, where the service has it kept."""

from functions._edge import AuditDetail, Call, Reply


async def show(call: Call) -> Reply:
    """Open what was kept of a request of the caller's tenant."""
    request_id = call.path_params["request_id"]
    opened = await call.container.content.read(call.caller.tenant_id, request_id)
    content = opened.content
    body = {
        "request_id": content.request_id,
        "service": content.service,
        "started_at": content.started_at.isoformat(),
        "expires_at": content.expires_at.isoformat(),
        "content": opened.values,
        "key_destroyed": opened.values is None,
    }
    return Reply(body, audit=AuditDetail(resource=f"content/{content.request_id}"))
