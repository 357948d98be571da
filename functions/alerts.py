"""/admin/alerts: rules, what they would have done, their incidents, and silences. Deliveries are in `deliveries`."""

from hashlib import sha256

import orjson

from functions._edge import AuditDetail, Call, Reply
from functions._wire.alerts import (
    AcknowledgementBody,
    RuleBody,
    SilenceBody,
    incident_body,
    incident_query,
    incidents_body,
    preview_body,
    rule_body,
    rules_page,
    sent_body,
    silence_body,
    state_body,
    version_asked,
)
from functions._wire.parsing import parse
from functions._wire.query import only
from shared.domain.alerts import AlertRule


async def rules(call: Call) -> Reply:
    """Rules of the caller's tenant, with how they stand."""
    return Reply(rules_page(call.query, await call.container.alerting.desk.rules(call.caller.tenant_id)))


async def create(call: Call) -> Reply:
    """Make a rule; with ``dry_run`` only say what it would have done."""
    body, desk = parse(call.body, RuleBody), call.container.alerting.desk
    rule = body.new_rule(call.caller.tenant_id)
    if body.dry_run:
        return await _previewed(call, rule, body.days)
    made = await desk.create(rule, by=call.caller.id)
    detail = AuditDetail(resource=f"alert rule {made.id}", after=_digest(made))
    return Reply(rule_body(made), status=201, headers=_etag(made), audit=detail)


async def show(call: Call) -> Reply:
    """One rule, with a page of its incidents."""
    desk, rule_id = call.container.alerting.desk, call.path_params["rule_id"]
    query = incident_query(call.query, tenant_id=call.caller.tenant_id, rule_id=rule_id)
    state = await desk.rule(call.caller.tenant_id, rule_id)
    page = incidents_body(await desk.incidents(query), query)
    return Reply({**state_body(state), **page}, headers=_etag(state.rule))


async def change(call: Call) -> Reply:
    """Change what is given of a rule; with ``dry_run`` only say what it would have done."""
    body, desk = parse(call.body, RuleBody), call.container.alerting.desk
    state = await desk.rule(call.caller.tenant_id, call.path_params["rule_id"])
    rule = body.changed(state.rule)
    if body.dry_run:
        return await _previewed(call, rule, body.days)
    before, after = await desk.change(rule, version=version_asked(body, call.headers), by=call.caller.id)
    detail = AuditDetail(resource=f"alert rule {after.id}", before=_digest(before), after=_digest(after))
    return Reply(rule_body(after), headers=_etag(after), audit=detail)


async def delete(call: Call) -> Reply:
    """Delete a rule; its incidents end with the next evaluation."""
    gone = await call.container.alerting.desk.delete(call.caller.tenant_id, call.path_params["rule_id"])
    detail = AuditDetail(resource=f"alert rule {gone.id}", before=_digest(gone))
    return Reply({"id": gone.id, "deleted": True}, audit=detail)


async def test(call: Call) -> Reply:
    """Send a test to everybody whom a rule tells."""
    rule_id = call.path_params["rule_id"]
    sent = await call.container.alerting.desk.test(call.caller.tenant_id, rule_id, by=call.caller.id)
    return Reply(sent_body(sent), status=202, audit=AuditDetail(resource=f"alert rule {rule_id}"))


async def incidents(call: Call) -> Reply:
    """Incidents of all rules, the newest first."""
    query = incident_query(call.query, tenant_id=call.caller.tenant_id)
    return Reply(incidents_body(await call.container.alerting.desk.incidents(query), query))


async def acknowledge(call: Call) -> Reply:
    """Say that somebody looks after an incident."""
    body = parse(call.body, AcknowledgementBody)
    incident = await call.container.alerting.desk.acknowledge(
        call.caller.tenant_id, call.path_params["incident_id"], by=call.caller.id, note=body.note
    )
    return Reply(incident_body(incident), audit=AuditDetail(resource=f"alert incident {incident.id}"))


async def silences(call: Call) -> Reply:
    """Silences that have not ended, or ended in the last week."""
    only(call.query, frozenset())
    found = await call.container.alerting.desk.silences(call.caller.tenant_id)
    return Reply({"silences": [silence_body(one) for one in found]})


async def silence(call: Call) -> Reply:
    """Have nobody told of some incidents for a while."""
    body, caller = parse(call.body, SilenceBody), call.caller
    asked = body.to_domain(tenant_id=caller.tenant_id, by=caller.id, now=call.container.clock.now())
    made = await call.container.alerting.desk.silence(asked)
    return Reply(silence_body(made), status=201, audit=AuditDetail(resource=f"alert silence {made.id}"))


async def unsilence(call: Call) -> Reply:
    """End a silence."""
    silence_id = call.path_params["silence_id"]
    await call.container.alerting.desk.unsilence(call.caller.tenant_id, silence_id)
    return Reply({"id": silence_id, "deleted": True}, audit=AuditDetail(resource=f"alert silence {silence_id}"))


async def _previewed(call: Call, rule: AlertRule, days: int) -> Reply:
    preview = await call.container.alerting.desk.preview(rule, days=days)
    return Reply({"rule": rule_body(rule), "preview": preview_body(preview)}, audit=AuditDetail(resource="preview"))


def _etag(rule: AlertRule) -> dict[str, str]:
    return {"etag": f'"{rule.version}"'}


def _digest(rule: AlertRule) -> str:
    return sha256(orjson.dumps(rule_body(rule), option=orjson.OPT_SORT_KEYS)).hexdigest()
