"""A model that fails, a rule that fires, and the notification that waits for delivery: the whole stack."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import psycopg

from shared.config import REGISTRY_DIRECTORY
from shared.services.alert_evidence import EvidenceReader
from shared.services.alerting import AlertEvaluator
from shared.stores.memory import ManualClock
from shared.stores.postgres.alerts import PostgresAlerts
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.rollups import PostgresRollups
from shared.telemetry import RecordingTelemetry
from tests.e2e import fault_load
from tests.e2e.fault_app import ask, function_app, records_of

CHANNEL = """
[[channels]]
name = "alerts-e2e"
tenants = ["*"]
kind = "webhook"
url = "http://127.0.0.1:9/nobody"
signing_secrets = ["notify-alerts-e2e"]
"""
RULE = {
    "name": "Models fail (e2e)",
    "kind": "threshold",
    "metric": "error_rate",
    "threshold": 0.5,
    "window_s": 600,
    "group_by": ["service"],
    "channels": ["alerts-e2e"],
}
DEADLINE_S = 60.0


async def evaluated(dsn, tenant_id):
    """What the timers do each minute."""
    pool = PostgresPool(dsn)
    now = datetime.now(UTC)  # noqa: TID251 - the ledger has real times
    rollups, analytics = PostgresRollups(pool, tag_keys=("team",)), PostgresAnalytics(pool)
    while await rollups.fold(now, tiers=()):
        pass
    evidence = EvidenceReader(analytics, lambda: (), ())
    store = PostgresAlerts(pool)
    await AlertEvaluator(store, evidence, lambda _: ("alerts-e2e",), ManualClock(now), RecordingTelemetry()).evaluate(
        tenant_id
    )
    await pool.aclose()


async def test_a_failing_model_becomes_a_notification(stack, tmp_path):
    dsn = stack.settings["POSTGRES_DSN"]
    policy = (REGISTRY_DIRECTORY / "policy.toml").read_text() + CHANNEL
    files = {"models.toml": fault_load.registry(), "policy.toml": policy}
    with function_app(stack, tmp_path, files, redis_database=9) as url:
        stack.simulator.set_faults([{"match": {}, "fault": "server_error"}])
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{url}/admin/alerts", json=RULE) as answer:
                made = await answer.json()
                assert answer.status == 201, made
            body = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
            told = [await ask(session, url, body) for _ in range(4)]
            assert {one.status for one in told} <= {500, 502, 503}
            ids = [one.headers["x-request-id"] for one in told]
            tenant_id = next(iter((await records_of(dsn, ids)).values()))["tenant_id"]
            with psycopg.connect(dsn) as connection:
                # As if they had been sent some minutes ago: newer ones are looked at when their minute is over.
                connection.execute(
                    "UPDATE requests SET start_time = start_time - %s WHERE id = ANY(%s)", (timedelta(minutes=4), ids)
                )
            deadline_s = asyncio.get_running_loop().time() + DEADLINE_S
            while True:
                await evaluated(dsn, tenant_id)
                async with session.get(f"{url}/admin/alerts/deliveries?channel=alerts-e2e") as answer:
                    found = (await answer.json())["deliveries"]
                if found:
                    break
                assert asyncio.get_running_loop().time() < deadline_s
                await asyncio.sleep(1)
            async with session.get(f"{url}/admin/alerts/{made['id']}") as answer:
                state = await answer.json()
    (incident,) = state["incidents"]
    assert (state["state"], incident["value"], incident["told_channels"]) == ("firing", 1.0, ["alerts-e2e"])
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT occasion, incident_id, summary FROM notifications WHERE channel = 'alerts-e2e'"
        ).fetchall()
    assert [(occasion, key) for occasion, key, _ in rows] == [("firing", incident["id"])]
    assert "error_rate is 100%, above 50%" in rows[0][2]
