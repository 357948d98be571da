"""GET /admin/business-intel: what the router costs and saves."""

from functions._edge import Call, Reply
from functions._wire.business import business_asked, business_body


async def business_intel(call: Call) -> Reply:
    """Costs, savings, budgets and what is ahead, of the caller's tenant."""
    settings = call.container.settings
    asked = business_asked(
        call.query,
        tenant_id=call.caller.tenant_id,
        now=call.container.clock.now(),
        tag_keys=settings.analytics_tags,
        running_usd_per_month=settings.running_usd_per_month,
    )
    return Reply(business_body(await call.container.administration.business.report(asked.question), asked))
