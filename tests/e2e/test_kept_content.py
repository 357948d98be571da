"""A service that has its content kept, on the real stack: it lies sealed, is read by who may, and leaves with the person."""

import time
import uuid

import psycopg
import pytest
import requests

from infra.local.application import FunctionApp
from infra.local.environment import free_ports
from infra.local.stack import wait_serving
from shared.config import REGISTRY_DIRECTORY

TIMEOUT_S = 30


@pytest.fixture
def keeping(stack, postgres_dsn, tmp_path):
    """The Function App with a policy that has the development service's content kept."""
    rules = tmp_path / "registry"
    rules.mkdir()
    shipped = (REGISTRY_DIRECTORY / "policy.toml").read_text()
    (rules / "policy.toml").write_text(f"{shipped}\n[default_service.content]\nkeep_days = 2\n")
    (port,) = free_ports(1)
    settings = {
        **stack.settings,
        "POSTGRES_DSN": postgres_dsn,
        "ROUTER_CONTENT_KEY_FILE": str(tmp_path / "content.key"),
        "ROUTER_REGISTRY_DIR": f"{REGISTRY_DIRECTORY},{rules}",
    }
    app = FunctionApp(tmp_path / "journal", tmp_path / "logs", port, settings)
    app.start()
    try:
        ready, told = wait_serving(port, 60)
        assert ready, f"{told}\n{app.log_tail(30)}"
        yield f"{app.base_url}/api/v1"
    finally:
        app.stop()


def opened(url, request_id):
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        answer = requests.get(f"{url}/admin/requests/{request_id}/content", timeout=TIMEOUT_S)
        if answer.status_code != 404 or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)


@pytest.mark.parametrize("stream", [False, True])
def test_kept_content_is_sealed_read_and_erased(keeping, postgres_dsn, stream):
    word = f"Kanarie{uuid.uuid4().hex}"
    asked = {"model": "auto", "stream": stream, "messages": [{"role": "user", "content": f"Tell me about {word}."}]}
    answer = requests.post(f"{keeping}/chat/completions", json=asked, timeout=TIMEOUT_S)
    request_id = answer.headers["x-request-id"]
    found = opened(keeping, request_id)
    assert found.status_code == 200, found.text
    content = found.json()["content"]
    assert content["messages"] == [
        {"role": "user", "parts": [{"type": "text", "text": f"Tell me about {word}."}]},
    ]
    assert content["answer"]["parts"]
    with psycopg.connect(postgres_dsn) as connection:
        ((sealed,),) = connection.execute(
            "SELECT sealed FROM kept_content WHERE request_id = %s", (request_id,)
        ).fetchall()
    assert word.encode() not in bytes(sealed)
    deeds = requests.get(f"{keeping}/audit?limit=50", timeout=TIMEOUT_S).json()["events"]
    assert f"content/{request_id}" in [deed["resource"] for deed in deeds if deed["action"] == "content.read"]


def test_what_is_not_kept_is_not_found_and_bad_ids_are_named(keeping):
    missing = requests.get(f"{keeping}/admin/requests/{uuid.uuid4()}/content", timeout=TIMEOUT_S)
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "request_id")
    bad = requests.get(f"{keeping}/admin/requests/none/content", timeout=TIMEOUT_S)
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "request_id")
