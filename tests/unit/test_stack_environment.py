"""The local stack's ports and the Function App's settings."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from infra.local.environment import (
    PORT_VARIABLES,
    Directories,
    Ports,
    StackError,
    free_ports,
    function_app_environment,
    is_port_free,
)
from infra.local.stack import refuse_taken_ports, workers_from_environment

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_sample_settings_are_the_ones_the_stack_uses() -> None:
    sample = json.loads((REPOSITORY / "local.settings.sample.json").read_text())
    assert sample["Values"] == function_app_environment(Ports(), Directories())
    assert sample["Host"]["LocalHttpPort"] == Ports().function_app
    assert sample["IsEncrypted"] is False


def test_moved_ports_reach_every_setting_that_names_them() -> None:
    moved = Ports(
        function_app=1,
        postgres=2001,
        redis=2002,
        blob=2003,
        queue=2004,
        table=2005,
        simulator_grpc=2006,
        simulator_http=2007,
    )
    settings = function_app_environment(moved, Directories(Path("elsewhere")), workers=3, dsn=None, redis_database=4)
    assert settings["POSTGRES_DSN"] == "postgresql://router@127.0.0.1:2001/router"
    assert settings["REDIS_URL"] == "redis://127.0.0.1:2002/4"
    assert re.findall(r"(\w+)Endpoint=http://127\.0\.0\.1:(\d+)/", settings["AzureWebJobsStorage"]) == [
        ("Blob", "2003"),
        ("Queue", "2004"),
        ("Table", "2005"),
    ]
    assert settings["VERTEX_GRPC_ENDPOINT"] == "127.0.0.1:2006"
    assert settings["VERTEX_HTTP_ENDPOINT"] == "http://127.0.0.1:2007"
    assert settings["ROUTER_JOURNAL_DIR"] == "elsewhere/journal"
    assert settings["FUNCTIONS_WORKER_PROCESS_COUNT"] == "3"


def test_another_database_can_be_given() -> None:
    settings = function_app_environment(Ports(), Directories(), dsn="postgresql://router@127.0.0.1:1/other")
    assert settings["POSTGRES_DSN"] == "postgresql://router@127.0.0.1:1/other"


@pytest.mark.parametrize("name", sorted(PORT_VARIABLES))
def test_each_port_is_moved_by_its_variable(name: str) -> None:
    assert asdict(Ports.from_environment({PORT_VARIABLES[name]: "4321"})) == {**asdict(Ports()), name: 4321}


def test_an_empty_variable_means_the_default() -> None:
    assert Ports.from_environment({"ROUTER_PORT": ""}) == Ports()


@pytest.mark.parametrize("text", ["abc", "0", "65536", "-1", "7071 ", "1e3", "\u0667\u0660"])
def test_a_port_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(StackError, match="ROUTER_REDIS_PORT") as refused:
        Ports.from_environment({"ROUTER_REDIS_PORT": text})
    assert repr(text) in str(refused.value)


def test_two_services_on_one_port_are_refused_by_both_names() -> None:
    with pytest.raises(StackError, match="ROUTER_PORT and ROUTER_REDIS_PORT are both 7071"):
        Ports.from_environment({"ROUTER_REDIS_PORT": "7071"})


@pytest.mark.parametrize(("text", "workers"), [(None, 1), ("", 1), ("4", 4), ("64", 64)])
def test_workers(text: str | None, workers: int) -> None:
    assert workers_from_environment({} if text is None else {"ROUTER_WORKERS": text}) == workers


@pytest.mark.parametrize("text", ["0", "65", "two", "-1"])
def test_a_wrong_number_of_workers_is_refused_by_name(text: str) -> None:
    with pytest.raises(StackError, match="ROUTER_WORKERS"):
        workers_from_environment({"ROUTER_WORKERS": text})


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_port_free(port) for port in ports)


def test_a_taken_port_is_reported_with_the_variable_that_moves_it(taken_port: int) -> None:
    free = Ports.free()
    refuse_taken_ports(free)
    with pytest.raises(StackError) as refused:
        refuse_taken_ports(Ports(**{**asdict(free), "postgres": taken_port}))
    sentence = str(refused.value)
    assert sentence.startswith(f"Port {taken_port} (postgres) is taken by ")
    assert "ROUTER_POSTGRES_PORT=" in sentence
    assert len(sentence.splitlines()) == 1


@pytest.fixture
def taken_port():
    import socket  # noqa: PLC0415 - for this fixture alone

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
