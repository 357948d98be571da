"""The servers of the local stack, as the fixtures give them to other tests."""

import json
import os
import urllib.request

import psycopg
import pytest
import redis
from azure.storage.queue import QueueClient

from infra.local import services
from infra.local.processes import wait_until

DEADLINE_S = 20.0


def test_a_database_is_migrated_and_its_role_is_no_superuser(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        assert connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'::vector").fetchone() == (1.0,)
        assert connection.execute("SELECT count(*) > 0 FROM schema_migrations").fetchone() == (True,)


def test_an_empty_database_has_the_vector_extension_and_no_tables(empty_postgres_dsn: str) -> None:
    with psycopg.connect(empty_postgres_dsn) as connection:
        # What a migration says; the extension is there already, so no superuser is needed.
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)


def test_committed_rows_survive_a_killed_postgres(empty_postgres_dsn: str, postgres_server: services.Postgres) -> None:
    with psycopg.connect(empty_postgres_dsn) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    first = postgres_server.pid
    postgres_server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(empty_postgres_dsn, connect_timeout=2)
    postgres_server.start()
    assert postgres_server.pid != first
    with psycopg.connect(empty_postgres_dsn) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_a_frozen_postgres_takes_connections_and_says_nothing(postgres_server: services.Postgres) -> None:
    postgres_server.freeze()
    assert wait_until(lambda: postgres_server.is_frozen, DEADLINE_S)
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(postgres_server.dsn, connect_timeout=2)


def test_and_the_fixture_thaws_it_for_the_next_test(postgres_server: services.Postgres) -> None:
    assert postgres_server.is_ready()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to drop")
def test_postgres_does_not_run_as_root(postgres_server: services.Postgres) -> None:
    with open(f"/proc/{postgres_server.pid}/status") as status:  # noqa: PTH123 - a pseudo file
        uids = next(line for line in status if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids


def test_redis_starts_empty_and_keeps_what_it_was_given_through_a_restart(
    redis_url: str, redis_server: services.Redis
) -> None:
    with redis.Redis.from_url(redis_url, socket_timeout=5, decode_responses=True) as client:
        assert client.dbsize() == 0
        client.set("kept", "7")
    redis_server.stop()
    redis_server.start()
    with redis.Redis.from_url(redis_url, socket_timeout=5, decode_responses=True) as client:
        assert client.get("kept") == "7"


def test_azurite_keeps_messages_through_a_restart(azurite) -> None:
    with QueueClient.from_connection_string(azurite.connection_string, "kept") as queue:
        queue.create_queue()
        queue.send_message("7")
    azurite.stop()
    azurite.start()
    with QueueClient.from_connection_string(azurite.connection_string, "kept") as queue:
        assert [message.content for message in queue.peek_messages()] == ["7"]
        assert queue.url == f"{azurite.queue_url}/kept"
        queue.delete_queue()


def test_faults_of_the_simulator_are_set_and_cleared(simulator) -> None:
    simulator.set_faults([{"fault": "unavailable"}])
    assert simulator.has_faults


def test_and_are_gone_in_the_next_test(simulator) -> None:
    assert not simulator.has_faults
    health = f"{simulator.http_endpoint}/_sim/health"
    with urllib.request.urlopen(health, timeout=DEADLINE_S) as response:  # noqa: S310 - our own simulator
        assert response.status == 200
        json.load(response)
