"""A model fails and recovers: a rule is pending, firing and resolved, and a receiver gets one signed webhook for each end.

The whole stack, with servers of its own. Requests, the ledger, the alerts' API and the delivery (the host's own timer, every
ten seconds) are the real thing in real time. The rollup and the evaluation would take five minutes of waiting, so both run here, in
process, against the same database: `PostgresRollups`, and `AlertEvaluator` at given times. The lock of the host's own timer
`evaluate_alerts` is held meanwhile, as another instance of the app would.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import psycopg
import pytest
from aiohttp import web

from shared.config import REGISTRY_DIRECTORY
from shared.services.alert_evidence import EvidenceReader
from shared.services.alerting import AlertEvaluator
from shared.stores.memory import ManualClock
from shared.stores.postgres.alerts import PostgresAlerts
from shared.stores.postgres.analytics import PostgresAnalytics
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.rollups import PostgresRollups
from shared.telemetry import RecordingTelemetry
from tests import azure_wire
from tests.e2e.fault_app import ask, records_of
from tests.e2e.fault_cases import deployment_entry, model_entry
from tests.e2e.own_stack import own_stack

CHANNEL = "hook"
SECRET = "notify-hook-key"
DEADLINE_S = 60.0
TOLERANCE_S = 300
"""Of the specification: a receiver refuses what is older."""
MODEL = "shaky"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}
RULE = {
    "name": "The shaky model fails",
    "kind": "threshold",
    "metric": "error_rate",
    "threshold": 0.5,
    "window_s": 60,
    "for_s": 60,
    "keep_firing_s": 0,
    "at_least": 1,
    "severity": "critical",
    "filters": {"service": ["shop"]},
    "channels": [CHANNEL],
    "runbook_url": "https://wiki.example/shaky",
}
SERVICE = {"x-router-service": "shop"}
MINUTE = timedelta(minutes=1)


class Receiver:
    """Keeps the webhooks that it takes."""

    def __init__(self, key):
        self.key = key
        self.taken = []

    async def take(self, request):
        body = await request.read()
        self.check(request.headers, body)
        self.taken.append((request.headers["webhook-id"], json.loads(body)))
        return web.Response(status=204)

    def check(self, headers, body):
        """As Standard Webhooks 1.0.0 says that receivers are to."""
        assert abs(time.time() - int(headers["webhook-timestamp"])) < TOLERANCE_S
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
        (version, _, given) = headers["webhook-signature"].partition(",")
        assert version == "v1"
        assert hmac.compare_digest(base64.b64decode(given), self.sign(signed + body))
        assert not hmac.compare_digest(base64.b64decode(given), self.sign(signed + body + b" "))

    def sign(self, signed):
        return hmac.new(self.key, signed, hashlib.sha256).digest()


@pytest.fixture
async def receiver():
    receiver = Receiver(secrets.token_bytes(32))
    async with azure_wire.serving(receiver.take) as receiver.url:
        yield receiver


@pytest.fixture
async def stack(tmp_path, receiver):
    secret = f"whsec_{base64.b64encode(receiver.key).decode()}"
    (tmp_path / "secrets.json").write_text(json.dumps({SECRET: secret}))
    channel = (
        f'\n[[channels]]\nname = "{CHANNEL}"\nkind = "webhook"\ntenants = ["*"]\nurl = "{receiver.url}/alerts"\n'
        f'signing_secrets = ["{SECRET}"]\n'
    )
    policy = (REGISTRY_DIRECTORY / "policy.toml").read_text()
    assert "open_s = 10 " in policy
    files = {
        "models.toml": model_entry(MODEL, 0.9) + deployment_entry(MODEL, "gemini", "case-a1", 1),
        "policy.toml": policy.replace("open_s = 10 ", "open_s = 1 ") + channel,
    }
    settings = {"ROUTER_SECRETS_FILE": str(tmp_path / "secrets.json")}
    with own_stack(tmp_path / "stack", files, settings=settings, timers_elsewhere=["evaluate_alerts"]) as stack:
        yield stack


async def until(check):
    """Poll until the check holds; what it says."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := await check()):
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.2)
    return found


class Story:
    """What the test does to the stack."""

    def __init__(self, stack, session):
        self.stack, self.session = stack, session
        self.now = datetime.now(UTC).replace(second=0, microsecond=0)  # noqa: TID251 - the ledger has real times

    async def api(self, path, body=None):
        url = f"{self.stack.url}/admin/alerts{path}"
        async with self.session.request("GET" if body is None else "POST", url, json=body) as answer:
            assert answer.status in {200, 201}, await answer.text()
            return await answer.json()

    async def asked(self, *, minute, status):
        """Two requests that end so; in the ledger they are of that minute."""
        ended = []
        deadline_s = time.monotonic() + DEADLINE_S
        while len(ended) < 2:
            told = await ask(self.session, self.stack.url, BODY)
            if told.status == status:
                ended.append(told.headers["x-request-id"])
            else:
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.2)
        await records_of(self.stack.dsn, ended)
        moved = (self.now + minute * MINUTE, ended)
        with psycopg.connect(self.stack.dsn) as connection:
            connection.execute(
                "UPDATE requests SET end_time = end_time - start_time + %s, start_time = %s WHERE id = ANY(%s)",
                (moved[0], *moved),
            )

    async def evaluated(self, *, minute):
        """What the timers do in that minute."""
        pool = PostgresPool(self.stack.dsn)
        try:
            rollups, analytics = PostgresRollups(pool), PostgresAnalytics(pool)
            since = datetime.now(UTC)  # noqa: TID251 - the same

            async def is_rolled_up():
                # The host's own timer may be at it just now.
                await rollups.fold(since, tiers=())
                return (await analytics.freshness()).as_of > self.now - MINUTE and not await self._pending_minutes()

            await until(is_rolled_up)
            clock = ManualClock(self.now + minute * MINUTE + timedelta(seconds=40))
            evidence = EvidenceReader(analytics, lambda: (), ())
            evaluator = AlertEvaluator(
                PostgresAlerts(pool), evidence, lambda _: (CHANNEL,), clock, RecordingTelemetry()
            )
            await evaluator.run()
        finally:
            await pool.aclose()

    async def _pending_minutes(self):
        with psycopg.connect(self.stack.dsn) as connection:
            query = "SELECT count(*) FROM rollup_pending WHERE granularity = 'minute' AND bucket < %s"
            return connection.execute(query, (self.now,)).fetchone()[0]


@pytest.mark.timeout(240)
async def test_a_failure_is_told_once_and_so_is_its_end(stack, receiver):
    async with aiohttp.ClientSession(headers=SERVICE) as session:
        story = Story(stack, session)
        made = await story.api("", RULE)

        async def state():
            return await story.api(f"/{made['id']}")

        assert (await state())["state"] == "ok"
        stack.set_faults([{"match": {"region": "case-a1"}, "fault": "server_error"}])
        await story.asked(minute=-6, status=503)
        await story.asked(minute=-5, status=503)
        await story.evaluated(minute=-4)
        pending = await state()
        assert (pending["state"], pending["incidents"][0]["state"]) == ("pending", "pending")
        assert (await story.api("/deliveries"))["deliveries"] == []

        for _ in range(2):  # the second time changes nothing
            await story.evaluated(minute=-3)
        firing = await state()
        assert firing["state"] == "firing"
        assert (await story.api("?state=firing"))["rules"][0]["id"] == made["id"]

        async def taken(count):
            return len(receiver.taken) >= count

        await until(lambda: taken(1))
        stack.set_faults([])
        # The breaker opened; its deployment is tried again after some seconds.
        await story.asked(minute=-4, status=200)
        await story.evaluated(minute=-2)
        assert (await state())["state"] == "ok"
        await until(lambda: taken(2))

        (incident,) = (await story.api(f"/incidents?rule_id={made['id']}"))["incidents"]

        async def sent():
            found = (await story.api("/deliveries"))["deliveries"]
            return found if all(one["state"] == "sent" for one in found) else None

        deliveries = await until(sent)
    assert incident["state"] == "resolved"
    assert [(one["occasion"], one["attempts"], one["channel"]) for one in deliveries] == [
        ("resolved", 1, CHANNEL),
        ("firing", 1, CHANNEL),
    ]
    assert [body["type"] for _, body in receiver.taken] == ["alert.firing", "alert.resolved"]
    assert len({message_id for message_id, _ in receiver.taken}) == len(receiver.taken)
    for _, body in receiver.taken:
        told = body["data"]
        assert (told["incident_id"], told["rule_id"]) == (incident["id"], made["id"])
        assert (told["severity"], told["threshold"], told["runbook_url"]) == ("critical", 0.5, RULE["runbook_url"])
    assert receiver.taken[0][1]["data"]["value"] == 1.0
    assert receiver.taken[0][1]["data"]["resolved_at"] is None
    assert receiver.taken[1][1]["data"]["resolved_at"] is not None
