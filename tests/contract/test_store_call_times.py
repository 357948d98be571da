"""What telemetry hears of calls of real stores: one measurement of each, with how it ended."""

import asyncio
from uuid import uuid4

import pytest
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from redis.exceptions import RedisError, ResponseError

from shared.domain.errors import DependencyUnavailable, InternalError, NotFound
from shared.stores.azure_transport import TimedTransport
from shared.stores.blobs import open_container
from shared.stores.postgres.pool import PostgresPool
from shared.stores.queue_spill import open_queue
from shared.stores.redis import connect_redis
from shared.stores.tables import open_table
from shared.telemetry import RecordingTelemetry

LONG_S = 20.0


@pytest.fixture
def telemetry():
    return RecordingTelemetry()


def heard(telemetry):
    """Store and outcome of each call, in order."""
    assert {one.name for one in telemetry.observations} <= {"store_call_ms"}
    assert all(one.value >= 0 for one in telemetry.observations)
    return [(one.dimensions["store"], one.dimensions["outcome"]) for one in telemetry.observations]


async def test_commands_scripts_and_pipelines_of_redis_are_measured(redis_url, telemetry):
    async with connect_redis(redis_url, telemetry=telemetry) as redis:
        await redis.set("times:text", "x")
        assert await redis.register_script("return ARGV[1]")(args=["7"]) == b"7"
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.set("times:a", "1")
            pipeline.set("times:b", "2")
            assert await pipeline.execute() == [True, True]
        with pytest.raises(ResponseError):
            await redis.incr("times:text")
    outcomes = heard(telemetry)
    assert outcomes[0] == ("redis", "ok")
    assert outcomes[-2:] == [("redis", "ok"), ("redis", "refused")]
    # A script's first run may find that the server does not know it yet.
    assert {outcome for _, outcome in outcomes[1:-2]} <= {"ok", "refused"}
    assert outcomes[1:-2][-1] == ("redis", "ok")


async def test_redis_that_is_away_and_redis_that_nobody_waits_for_any_longer(redis_server, redis_url, telemetry):
    async with connect_redis("redis://127.0.0.1:1", telemetry=telemetry) as redis:
        with pytest.raises(RedisError):
            await redis.ping()
    assert heard(telemetry) == [("redis", "away")]
    telemetry.observations.clear()
    async with connect_redis(redis_url, timeout_s=LONG_S, telemetry=telemetry) as redis:
        await redis.ping()
        redis_server.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await redis.ping()
        redis_server.thaw()
    assert heard(telemetry) == [("redis", "ok"), ("redis", "cut_short")]


async def test_postgresql_is_measured_by_how_long_a_connection_is_used_and_how_that_ends(postgres_dsn, telemetry):
    pool = PostgresPool(postgres_dsn, max_size=1, telemetry=telemetry)
    async with pool.connection(timeout_s=LONG_S) as connection:
        await connection.execute("SELECT 1")
    with pytest.raises(NotFound):
        async with pool.connection(timeout_s=LONG_S):
            raise NotFound("what was asked for is not there: the database did answer")
    with pytest.raises(InternalError):
        async with pool.connection(timeout_s=LONG_S) as connection:
            await connection.execute("SELECT 1/0")
    with pytest.raises(DependencyUnavailable):
        async with pool.connection(timeout_s=LONG_S) as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), pool.connection(timeout_s=LONG_S) as connection:
            await connection.execute("SELECT pg_sleep(20)")
    await pool.aclose()
    assert [outcome for _, outcome in heard(telemetry)] == ["ok", "ok", "refused", "away", "cut_short"]
    assert {store for store, _ in heard(telemetry)} == {"postgres"}


async def test_postgresql_that_is_away(telemetry):
    pool = PostgresPool("postgresql://someone@127.0.0.1:1/ledger", telemetry=telemetry)
    with pytest.raises(DependencyUnavailable):
        async with pool.connection(timeout_s=0.2):
            pass
    await pool.aclose()
    assert heard(telemetry) == [("postgres", "away")]


async def test_each_service_of_the_storage_account_is_measured(azurite, telemetry):
    name = f"times{uuid4().hex[:12]}"
    common = {"connection_string": azurite.connection_string, "telemetry": telemetry}
    async with open_container(name, **common) as container:
        await container.create_container()
        with pytest.raises(ResourceNotFoundError):
            await container.download_blob("none")
    async with open_queue(name, **common) as queue:
        await queue.create_queue()
    async with open_table(name, **common) as table:
        await table.create_table()
    # That something is not there is an answer.
    assert heard(telemetry) == [("blobs", "ok"), ("blobs", "ok"), ("queues", "ok"), ("tables", "ok")]


async def test_storage_that_is_away_refuses_or_hangs(azurite, telemetry):
    parts = dict(part.split("=", 1) for part in azurite.connection_string.rstrip(";").split(";"))
    name = f"times{uuid4().hex[:12]}"

    def opened(**changes):
        text = ";".join(f"{key}={value}" for key, value in (parts | changes).items())
        return open_container(name, connection_string=text, telemetry=telemetry)

    async with opened(BlobEndpoint="http://127.0.0.1:1/devstoreaccount1") as container:
        with pytest.raises(AzureError):
            await container.exists()
    async with opened(AccountKey="bm9ib2R5J3Mga2V5") as container:
        with pytest.raises(HttpResponseError):
            await container.create_container()
    async with opened() as container:
        azurite.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await container.exists()
        azurite.thaw()
    assert heard(telemetry) == [("blobs", "away"), ("blobs", "refused"), ("blobs", "cut_short")]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (404, "ok"), (412, "ok"), (401, "refused"), (403, "refused"), (429, "refused"), (503, "away")],
)
async def test_what_an_http_status_means(telemetry, status, outcome):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, TimedTransport(telemetry, "key_vault") as transport:
        response = await transport.send(HttpRequest("GET", f"http://127.0.0.1:{port}/secrets/one"))
        assert response.status_code == status
    assert heard(telemetry) == [("key_vault", outcome)]


async def test_nobody_need_be_told(postgres_dsn, redis_url):
    pool = PostgresPool(postgres_dsn, max_size=1)
    async with pool.connection(timeout_s=LONG_S) as connection:
        assert await (await connection.execute("SELECT 7")).fetchone() == (7,)
    await pool.aclose()
    async with connect_redis(redis_url) as redis, redis.client() as single:
        assert await single.ping()
    transport = TimedTransport(None, "key_vault")
    await transport.open()
    await transport.close()
