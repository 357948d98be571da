"""Rate limits and budgets of the whole stack: the OpenAI client meets them, and they end at the ledger's truth."""

import math
import time
from pathlib import Path

import openai
import psycopg
import pytest
import requests
from openai import OpenAI

from infra.local.environment import REPOSITORY
from tests.e2e.fault_app import function_app

DEADLINE_S = 30
RULES = """
[[rate_limits]]
name = "per-service"
services = ["quick"]
requests_per_minute = 6
request_burst = 3
tokens_per_minute = 100_000

[[budgets]]
name = "pocket-money"
period = "day"
services = ["poor"]
hard_usd = "0.000001"

[[budgets]]
name = "wallet"
per = "tenant"
services = ["spender"]
period = "month"
hard_usd = "5"
soft_usd = "0.000001"
"""
ASK = {"model": "gemini-3.8-flash", "max_tokens": 50, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}


@pytest.fixture(scope="module")
def url(stack, tmp_path_factory):
    shipped = REPOSITORY / "shared/registry"
    registry = {
        "google.toml": (shipped / "google.toml").read_text(),
        "policy.toml": (shipped / "policy.toml").read_text() + RULES,
    }
    with function_app(stack, Path(tmp_path_factory.mktemp("limits")), registry, redis_database=5) as url:
        yield url


def client(url, service):
    headers = {"x-router-service": service}
    return OpenAI(base_url=url, api_key="local", max_retries=0, timeout=30, default_headers=headers)


def standing(url, service):
    answer = requests.get(f"{url}/limits", headers={"x-router-service": service}, timeout=10)
    answer.raise_for_status()
    return answer.json()


def test_the_openai_client_meets_a_rate_limit(url):
    with client(url, "quick") as quick:
        first = quick.chat.completions.with_raw_response.create(**ASK)
        assert first.headers["x-ratelimit-limit-requests"] == "6"
        assert first.headers["x-ratelimit-remaining-requests"] == "2"
        assert 0 < int(first.headers["x-ratelimit-remaining-tokens"]) < 100_000

        def hammer():
            for _ in range(30):
                quick.chat.completions.create(**ASK)

        with pytest.raises(openai.RateLimitError) as refusal:
            hammer()
    assert refusal.value.code == "rate_limit_exceeded"
    assert refusal.value.param == "per-service.requests_per_minute"
    assert 1 <= int(refusal.value.response.headers["retry-after"]) <= 10


def test_a_spent_budget_is_a_402(url):
    with client(url, "poor") as poor, pytest.raises(openai.APIStatusError) as refusal:
        poor.chat.completions.create(**ASK)
    assert refusal.value.status_code == 402
    assert (refusal.value.code, refusal.value.param) == ("budget_exceeded", "budgets.pocket-money")


def test_money_is_settled_at_what_the_ledger_says_also_of_streams_that_were_cut(stack, url):
    with client(url, "spender") as spender:
        for number in range(4):
            assert spender.chat.completions.create(**ASK, metadata={"number": str(number)}).usage is not None
        with spender.chat.completions.create(**ASK, stream=True) as stream:
            next(iter(stream))  # then the caller leaves
        list(spender.chat.completions.create(**ASK, stream=True))
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with psycopg.connect(stack.settings["POSTGRES_DSN"]) as connection:
            costs = connection.execute(
                "SELECT cost_exact FROM requests WHERE service_name = 'spender' AND budget_accounts <> '[]'"
            ).fetchall()
        (budget,) = standing(url, "spender")["budgets"]
        settled = sum(math.ceil(cost * 1_000_000) for (cost,) in costs)
        if len(costs) == 6 and float(budget["reserved_usd"]) == 0:
            break
        assert time.monotonic() < deadline, (len(costs), budget)
        time.sleep(0.1)
    assert settled > 0
    assert float(budget["settled_usd"]) == pytest.approx(settled / 1_000_000, abs=1e-12)
    with client(url, "spender") as spender:
        late = spender.chat.completions.with_raw_response.create(**ASK)
    assert late.headers["x-router-budget"] == "soft_limit"
