"""GET /admin/alerts/deliveries, POST /admin/alerts/deliveries/{notification_id}/retry: how far notifications are."""

from functions._edge import AuditDetail, Call, Reply
from functions._wire.deliveries import deliveries_body, delivery_body, delivery_query, one_more


async def deliveries(call: Call) -> Reply:
    """Notifications of the caller's tenant, the newest first."""
    query = delivery_query(call.query, tenant_id=call.caller.tenant_id, now=call.container.clock.now())
    return Reply(deliveries_body(await call.container.notifying.desk.page(one_more(query)), query.limit))


async def retry(call: Call) -> Reply:
    """Have a dead one tried again."""
    notification_id = call.path_params["notification_id"]
    revived = await call.container.notifying.desk.retry(notification_id, tenant_id=call.caller.tenant_id)
    detail = AuditDetail(resource=f"notification {revived.notification.id}")
    return Reply(delivery_body(revived), status=202, audit=detail)
