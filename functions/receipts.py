"""GET /receipts/{request_id} and POST /receipts/{request_id}/verify: why a request went where it went, and proof."""

from functions._edge import Call, Reply
from functions._wire.receipts import receipt_body, verification_body


async def show(call: Call) -> Reply:
    """Explain a decision of the caller's tenant by deciding again."""
    request_id = call.path_params["request_id"]
    again = await call.container.receipts.show(request_id, tenant_id=call.caller.tenant_id)
    return Reply(receipt_body(again))


async def verify(call: Call) -> Reply:
    """Decide again, compare bit for bit, and check the receipt's place in its chain."""
    request_id = call.path_params["request_id"]
    verification = await call.container.receipts.verify(request_id, tenant_id=call.caller.tenant_id)
    return Reply({"request_id": request_id, **verification_body(verification)})
