"""A client that goes away in mid-stream: the model's call ends at once and what was generated is paid for."""

import time

import pytest
import requests

from tests.e2e.ledger_row import row_of

PROMPT = "Tell me a long story about rivers."
MODEL = "gemini-3.8-flash"
SURFACES = {
    "chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "stream": True},
    "responses": {"model": MODEL, "input": PROMPT, "stream": True},
    "route": {"model": MODEL, "prompt": PROMPT, "stream": True},
}
DEADLINE_S = 10
"""Shorter than the time between two heartbeats: only the leaving itself can end the call before it."""


def last_call(stack):
    answer = requests.get(f"{stack.simulator.http_endpoint}/_sim/calls?last=1", timeout=5)
    return answer.json()["calls"][-1]


@pytest.mark.parametrize("path", SURFACES)
def test_a_client_that_leaves_between_two_distant_tokens_ends_the_call(stack, path):
    stack.simulator.set_faults([{"match": {}, "fault": "stall", "after_chunks": 2}])
    url = f"{stack.base_url}/api/v1/{path}"
    with requests.post(url, json=SURFACES[path], stream=True, timeout=30) as answer:
        request_id = answer.headers["x-request-id"]
        for line in answer.iter_lines(decode_unicode=True):
            if "simulated" in line:
                assert last_call(stack)["status"] == "in_flight"
                break
    deadline = time.monotonic() + DEADLINE_S
    while last_call(stack)["status"] == "in_flight":
        assert time.monotonic() < deadline, "the model still works for nobody"
        time.sleep(0.02)
    assert last_call(stack)["status"] == "cancelled"
    row = row_of(stack, request_id)
    assert (row["status"], row["stream"]) == ("cancelled", True)
    assert row["token_count"] > 0
    assert row["cost"] > 0


def test_thinking_and_tool_calls_stream_on_every_surface(stack):
    tool = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    ask = "Use get_weather for Paris."
    chat = {
        "model": "claude-haiku-5-5",
        "messages": [{"role": "user", "content": ask}],
        "tools": [{"type": "function", "function": tool}],
        "reasoning_effort": "high",
        "stream": True,
    }
    responses = {
        "model": "claude-haiku-5-5",
        "input": ask,
        "tools": [{"type": "function", **tool}],
        "reasoning": {"effort": "high"},
        "stream": True,
    }
    signs = {
        "chat/completions": (chat, '"reasoning_content":"', '"tool_calls":['),
        "route": (chat, '"thinking":"', '"tool_call":{'),
        "responses": (responses, "response.reasoning_summary_text.delta", "response.function_call_arguments.delta"),
    }
    for path, (body, thinking, call) in signs.items():
        answer = requests.post(f"{stack.base_url}/api/v1/{path}", json=body, timeout=30)
        assert answer.status_code == 200, (path, answer.text)
        assert thinking in answer.text, (path, answer.text)
        assert call in answer.text, path
        assert "get_weather" in answer.text, path
