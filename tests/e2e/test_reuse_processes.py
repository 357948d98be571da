"""Reused answers and idempotency keys of the whole router: four worker processes, real Redis, real ledger."""

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
import requests
from openai import OpenAI, UnprocessableEntityError

from infra.local.application import FunctionApp
from infra.local.environment import Ports
from infra.local.stack import wait_serving
from shared.stores.registry_files import POLICY_FILE
from tests.conftest import Stack

_READY_DEADLINE_S = 90.0
_POLICY = """
[default_service.cache]
ttl_s = 600
semantic = true
"""


@pytest.fixture(scope="module")
def app(stack: Stack, tmp_path_factory):
    """A second Function App on the same stores, of four processes, whose policy opts in."""
    directory = tmp_path_factory.mktemp("reuse")
    with open("shared/registry/" + POLICY_FILE, encoding="utf-8") as shipped:  # noqa: PTH123 - as the loader finds it
        (directory / POLICY_FILE).write_text(shipped.read() + _POLICY, encoding="utf-8")
    registries = f"{stack.settings['ROUTER_REGISTRY_DIR']},{directory}"
    settings = {**stack.settings, "ROUTER_REGISTRY_DIR": registries, "ROUTER_CACHE_KEY": f"{'A' * 43}="}
    app = FunctionApp(directory / "journal", directory, Ports.free().function_app, settings, workers=4)
    app.start()
    try:
        is_ready, answer = wait_serving(app.port, _READY_DEADLINE_S)
        assert is_ready, f"{answer}\n{app.log_tail(40)}"
        yield app
    finally:
        app.stop()


@pytest.fixture
def calls(stack):
    """Calls that reached a model since the test began."""
    url = f"{stack.simulator.http_endpoint}/_sim/calls"
    requests.delete(url, timeout=5)
    return lambda: len(requests.get(url, timeout=5).json()["calls"])


def post(app, body, headers=(), path="chat/completions"):
    return requests.post(f"{app.base_url}/api/v1/{path}", json=body, headers=dict(headers), timeout=60)


def chat(text, **more):
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


def eventually_hit(app, body):
    """Asks until the answer, which is kept behind the response, is found; other workers see it at once."""
    for _ in range(200):
        answer = post(app, body)
        if answer.headers["x-router-cache"] in {"hit", "semantic_hit"}:
            return answer
    pytest.fail("no hit in 200 requests")


def looked_up(app, body):
    """Asks until the cache was looked at: on a busy machine it may take longer than a request waits for it."""
    for _ in range(200):
        answer = post(app, body)
        if answer.headers["x-router-cache"] != "bypass":
            return answer
    pytest.fail("the cache did not answer in 200 requests")


def test_an_answer_of_one_worker_is_every_workers(app, stack, calls):
    text = f"Explain tides, variant {uuid4()}."
    assert post(app, chat(text)).headers["x-router-cache"] in {"miss", "bypass"}
    hit = eventually_hit(app, chat(text))
    before = calls()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(app, chat(text)), range(40)))
    bypasses = [a for a in answers if a.headers.get("x-router-cache-reason") == "unavailable"]
    hits = [a for a in answers if a.headers["x-router-cache"] == "hit"]
    assert len(hits) + len(bypasses) == len(answers)
    assert calls() == before + len(bypasses)
    assert hits  # how many is a matter of how busy the machine is: a cache that answers late is passed by
    kept = hit.json()["choices"][0]["message"]["content"]
    assert {answer.json()["choices"][0]["message"]["content"] for answer in hits} == {kept}
    assert {answer.headers["x-router-cost-usd"] for answer in hits} == {"0"}


def test_the_ledger_says_what_a_hit_saved(app, stack):
    text = f"Explain comets, variant {uuid4()}."
    post(app, chat(text))
    hit = eventually_hit(app, chat(text))
    row = None
    with psycopg.connect(stack.settings["POSTGRES_DSN"], autocommit=True) as connection:
        for _ in range(400):
            row = connection.execute(
                "SELECT cache, saved_usd, cost_exact, input_tokens FROM requests WHERE id = %s",
                (hit.headers["x-request-id"],),
            ).fetchone()
            if row is not None:
                break
            connection.execute("SELECT pg_sleep(0.05)")
    assert row is not None
    assert (row[0], float(row[1]), row[2]) == ("hit", float(hit.headers["x-router-saved-usd"]), 0)
    assert row[3] > 0


def test_a_paraphrase_is_a_semantic_hit_and_a_near_miss_is_not(app):
    word = "".join(chr(ord("a") + int(digit, 16)) for digit in uuid4().hex[:12])
    eventually_hit(app, chat(f"How do I reset my {word} password?"))
    hit = looked_up(app, chat(f"Hello, how can I reset my {word} password please?"))
    assert hit.headers["x-router-cache"] == "semantic_hit"
    assert looked_up(app, chat(f"How do I reset my {word} username?")).headers["x-router-cache"] == "miss"


def test_duplicates_at_four_workers_make_one_call(app, calls):
    body, key = chat(f"Explain snow, variant {uuid4()}.", router={"cache": "off"}), {"idempotency-key": str(uuid4())}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(app, body, key), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 15
    assert calls() == 1


def test_a_streamed_answer_is_replayed_by_another_worker(app, calls):
    body = chat(f"Explain hail, variant {uuid4()}.", stream=True, router={"cache": "off"})
    key = {"idempotency-key": str(uuid4())}
    first = post(app, body, key)
    again = [post(app, body, key) for _ in range(8)]
    assert first.text.rstrip().endswith("data: [DONE]")
    data = [[line for line in answer.text.splitlines() if line.startswith("data:")] for answer in [first, *again]]
    assert all(lines == data[0] for lines in data)
    assert calls() == 1


def test_the_openai_client_sends_keys_as_it_likes(app, calls):
    client = OpenAI(base_url=f"{app.base_url}/api/v1", api_key="local", max_retries=0)
    key = str(uuid4())
    wanted = {"model": "auto", "messages": [{"role": "user", "content": f"Explain fog {uuid4()}"}]}
    replies = [client.chat.completions.create(**wanted, extra_headers={"Idempotency-Key": key}) for _ in range(3)]
    assert len({reply.id for reply in replies}) == 1
    with pytest.raises(UnprocessableEntityError) as told:
        client.chat.completions.create(**{**wanted, "temperature": 0.1}, extra_headers={"Idempotency-Key": key})
    assert told.value.code == "idempotency_key_reused"
    assert calls() == 1


def test_a_frozen_redis_costs_no_request_its_answer_but_one_with_a_key(app, stack):
    post(app, chat("Explain wind."))
    stack.redis.freeze()
    try:
        plain = post(app, chat("Explain wind."))
        keyed = post(app, chat("Explain wind."), {"idempotency-key": str(uuid4())})
    finally:
        stack.redis.thaw()
    assert plain.status_code == 200
    assert (plain.headers["x-router-cache"], plain.headers["x-router-cache-reason"]) == ("bypass", "unavailable")
    assert keyed.status_code == 503
    assert int(keyed.headers["retry-after"]) >= 1
    assert json.loads(keyed.text)["error"]["code"] == "dependency_unavailable"
