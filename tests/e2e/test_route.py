"""POST /route and health, as curl sees them."""

import json

import pytest
import requests


@pytest.fixture(scope="module")
def url(stack):
    return f"{stack.base_url}/api/v1"


def test_the_printed_curl_line_gets_a_routed_answer_with_its_decision(url):
    body = {"messages": [{"role": "user", "content": "Explain why the sky is blue in one sentence."}]}
    answer = requests.post(f"{url}/route", json=body, timeout=30)
    result = answer.json()
    assert answer.status_code == 200
    assert result["output"]["text"]
    assert result["cost_usd"] > 0
    decision = result["decision"]
    assert decision["chosen"]["model"] == result["model"] == answer.headers["x-router-model"]
    assert sum(c["propensity"] for c in decision["candidates"]) == pytest.approx(1)
    scores = [c["score"] for c in decision["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert decision["analysis"]["category"]


def test_dry_run_decides_and_calls_nobody(url, stack):
    calls = f"{stack.simulator.http_endpoint}/_sim/calls"
    requests.delete(calls, timeout=5)
    answer = requests.post(f"{url}/route", json={"prompt": "hello", "dry_run": True}, timeout=30).json()
    assert answer["dry_run"]
    assert answer["decision"]["chosen"]["deployment"]
    assert requests.get(calls, timeout=5).json()["calls"] == []


def test_residency_and_label_bind_the_choice(url):
    body = {"prompt": "hello", "dry_run": True, "residency": ["eu"], "security_label": "restricted"}
    decision = requests.post(f"{url}/route", json=body, timeout=30).json()["decision"]
    assert decision["chosen"]["deployment"].startswith("example-")
    assert {r["reason"] for r in decision["rejections"]} >= {"clearance", "residency"}


def test_a_streamed_route_tells_decision_deltas_and_the_end(url):
    events = []
    with requests.post(f"{url}/route", json={"prompt": "hello", "stream": True}, stream=True, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = None
        for line in answer.iter_lines(decode_unicode=True):
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                events.append((name, json.loads(line[6:])))
    names = [name for name, _ in events]
    assert names[0] == "decision"
    assert names[-1] == "done"
    assert set(names[1:-1]) == {"delta"}
    done = events[-1][1]
    assert done["usage"]["completion_tokens"] > 0
    assert float(done["cost_usd"]) > 0


def test_a_failing_deployment_is_replaced_unseen(url, stack):
    decision = requests.post(f"{url}/route", json={"prompt": "hello", "dry_run": True}, timeout=30).json()["decision"]
    model = decision["chosen"]["model"]
    stack.simulator.set_faults([{"match": {}, "fault": "unavailable", "times": 1}])
    answer = requests.post(f"{url}/route", json={"prompt": "hello"}, timeout=30)
    assert answer.status_code == 200
    assert answer.json()["attempts"] == 2
    assert answer.headers["x-router-attempts"] == "2"
    assert model


def test_a_broken_stream_ends_in_an_error_event_and_never_in_done(url, stack):
    stack.simulator.set_faults([{"match": {}, "fault": "cut", "after_chunks": 2}])
    body = {"messages": [{"role": "user", "content": "Tell me a long story about rivers."}], "stream": True}
    with requests.post(f"{url}/chat/completions", json=body, stream=True, timeout=30) as answer:
        lines = [line for line in answer.iter_lines(decode_unicode=True) if line]
    assert lines[-1] != "data: [DONE]"
    assert json.loads(lines[-1][6:])["error"]["code"].startswith("provider_")


def test_health(url):
    assert requests.get(f"{url}/health", timeout=5).json() == {"status": "ok"}
    ready = requests.get(f"{url}/health/ready", timeout=5)
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready"
    assert {"postgres", "redis", "queue"} <= set(ready.json()["dependencies"])
