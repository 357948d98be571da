"""Delivery as the container builds it: channels of the policy file, secrets by name, a row in PostgreSQL, a receiver."""

import asyncio
import contextlib
import json
import random
from dataclasses import replace

import pytest
from aiohttp import web
from azure.core.exceptions import ClientAuthenticationError

from shared.config import REGISTRY_DIRECTORY, Settings
from shared.container.ground import lay_ground
from shared.container.notifying import EntraTokens, build_notifying
from shared.domain.deliveries import DeliveryQuery, DeliveryState
from shared.domain.errors import DependencyUnavailable
from shared.stores.memory import ManualClock
from shared.stores.postgres.notifications import insert_notifications
from shared.stores.postgres.pool import PostgresPool
from shared.stores.registry_files import load_policy, load_registry
from shared.telemetry import RecordingTelemetry
from tests import azure_wire
from tests.edge.edge_harness import ENVIRON
from tests.notification_builders import NOW, SIGNING, notification

CHANNELS = """
[[channels]]
name = "ops"
kind = "webhook"
tenants = ["tenant-a"]
url_secret = "notify-ops-url"
signing_secrets = ["notify-ops-key"]

[[channels]]
name = "chat"
kind = "slack"
tenants = ["*"]
url_secret = "notify-chat-url"
"""


class Receiver:
    def __init__(self):
        self.got = []

    async def answer(self, request):
        self.got.append((request.path, json.loads(await request.read())))
        return web.Response(text="ok")


@pytest.fixture
async def receiver():
    receiver = Receiver()
    async with azure_wire.serving(receiver.answer) as receiver.url:
        yield receiver


@pytest.fixture
async def pool(postgres_dsn):
    pool = PostgresPool(postgres_dsn, max_size=2)
    async with pool.connection(timeout_s=5) as connection:
        await connection.execute("DELETE FROM notifications")
    yield pool
    await pool.aclose()


@pytest.fixture
async def build(tmp_path, receiver, pool):
    """Builds the part for an environment."""
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text((REGISTRY_DIRECTORY / "policy.toml").read_text() + CHANNELS)
    secrets = {
        "notify-ops-url": f"{receiver.url}/ops",
        "notify-ops-key": SIGNING[0],
        "notify-chat-url": f"{receiver.url}/services/T/B/canary-4711",
    }
    (tmp_path / "secrets.json").write_text(json.dumps(secrets))
    policy = load_policy(REGISTRY_DIRECTORY, tmp_path, registry=load_registry(REGISTRY_DIRECTORY))
    closing = contextlib.AsyncExitStack()

    def make(telemetry=None, **environ):
        settings = Settings.from_env({**ENVIRON, **environ})
        ground = replace(
            lay_ground(settings, closing),
            pool=pool,
            clock=ManualClock(NOW),
            telemetry=telemetry or RecordingTelemetry(),
            rng=random.Random(1),
        )
        return build_notifying(ground, lambda: policy)

    make.local = {"ROUTER_ENVIRONMENT": "local", "ROUTER_SECRETS_FILE": str(tmp_path / "secrets.json")}
    yield make
    await closing.aclose()


async def tell(pool, *told):
    async with pool.connection(timeout_s=5) as connection, connection.transaction():
        await insert_notifications(connection, told)


async def shown(notifying):
    query = DeliveryQuery("tenant-a", NOW, NOW.replace(year=2027))
    return {one.notification.id: one for one in await notifying.desk.page(query)}


async def test_what_was_written_arrives(pool, build, receiver):
    telemetry = RecordingTelemetry()
    notifying = build(telemetry, **build.local)
    await tell(pool, notification(1), notification(2, channel="chat"))
    async with asyncio.timeout(20):
        await notifying.dispatcher.run()
    assert {one.state for one in (await shown(notifying)).values()} == {DeliveryState.SENT}
    bodies = dict(receiver.got)
    assert bodies["/ops"]["data"]["notification_id"] == "n-1"
    assert bodies["/services/T/B/canary-4711"]["blocks"][0]["type"] == "header"
    assert "canary" not in str([telemetry.logs, telemetry.counts, telemetry.spans])


async def test_without_its_secrets_it_waits_and_says_why(pool, build, receiver):
    notifying = build()
    await tell(pool, notification(1))
    await notifying.dispatcher.run()
    (one,) = (await shown(notifying)).values()
    assert (one.state, one.last_error) == (DeliveryState.WAITING, "secret_missing")
    assert receiver.got == []


async def test_a_tenant_whose_channel_it_is_not_tells_nobody(pool, build, receiver):
    notifying = build(**build.local)
    await tell(pool, notification(1, tenant_id="tenant-b"), notification(2, tenant_id="tenant-b", channel="chat"))
    await notifying.dispatcher.run()
    assert [path for path, _ in receiver.got] == ["/services/T/B/canary-4711"]


async def test_the_apps_identity_gives_tokens_for_e_mail_or_says_that_it_cannot():
    class Broken(azure_wire.StaticCredential):
        async def get_token(self, *_scopes, **_options):
            raise ClientAuthenticationError("canary-4711")

    assert await EntraTokens(azure_wire.StaticCredential()).token() == "token"
    with pytest.raises(DependencyUnavailable) as caught:
        await EntraTokens(Broken()).token()
    assert "canary" not in str(caught.value)
