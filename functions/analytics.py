"""GET /analytics, GET /analytics/savings: what happened, from rollups."""

from functions._edge import Call, Reply
from functions._wire.analytics import analytics_asked, savings_asked
from functions._wire.analytics_reply import analytics_body, savings_body


async def analytics(call: Call) -> Reply:
    """Figures by time and group."""
    asked = analytics_asked(
        call.query,
        caller=call.caller,
        now=call.container.clock.now(),
        tag_keys=call.container.settings.analytics_tags,
    )
    report = await call.container.insight.analytics.report(asked.query, previous=asked.previous)
    return Reply(analytics_body(report, asked))


async def savings(call: Call) -> Reply:
    """What was saved against one model for everything."""
    asked = savings_asked(call.query, caller=call.caller, now=call.container.clock.now())
    report = await call.container.insight.analytics.savings(
        call.caller.tenant_id,
        asked.since,
        asked.until,
        baseline=asked.baseline,
        services=asked.services,
        group_by=asked.group_by,
    )
    return Reply(savings_body(report, asked))
