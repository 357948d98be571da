"""Rate limits and budgets as callers meet them: headers, statuses, and what a refusal costs."""

from decimal import Decimal

import pytest
from azure.functions.timer import TimerRequest

from functions import timers
from shared.domain.budgets import Budget, Period
from shared.domain.limits import EndpointClass, Priority, RateLimit, WhenAway
from shared.domain.policy import ServicePolicy
from shared.domain.scopes import Per, Scope
from tests.edge.edge_harness import CHAT, PROVED, Caller
from tests.principals import TENANT, principal_header
from tests.service.routing_doubles import ANSWER, HANG, ScriptedProvider

OTHER = principal_header("app-2")
ONE = RateLimit("one", requests_per_minute=1, request_burst=1)
STREAM = {**CHAT, "stream": True}


def limited(*rules: RateLimit, **more):
    return {"rate_limits": rules, **more}


def budgeted(hard: int | None = None, soft: int | None = None, **changes):
    given = {"period": Period.DAY, "hard_micro_usd": hard, "soft_micro_usd": soft}
    return {"budgets": (Budget("team-day", **{**given, **changes}),)}


async def settle(edge):
    """What happens behind the response."""
    edge.limits.start()
    await edge.limits.aclose()
    edge.limits._closing = False


async def test_answers_without_a_limit_say_nothing_of_limits(edge):
    answer = await edge.post("chat/completions", CHAT)
    assert not [name for name in answer.headers if name.startswith(("x-ratelimit", "x-router-budget"))]


async def test_every_answer_says_what_is_left(build_edge):
    edge = build_edge(rules=limited(RateLimit("r", requests_per_minute=60, request_burst=5, tokens_per_minute=6_000)))
    answer = await edge.post("chat/completions", CHAT)
    assert answer.status == 200
    shown = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit")}
    assert shown["x-ratelimit-limit-requests"] == "60"
    assert shown["x-ratelimit-remaining-requests"] == "4"
    assert shown["x-ratelimit-reset-requests"] == "1000ms"
    assert shown["x-ratelimit-limit-tokens"] == "6000"
    assert 0 < int(shown["x-ratelimit-remaining-tokens"]) < 6_000
    streamed = await edge.post("chat/completions", STREAM)
    assert streamed.headers["x-ratelimit-remaining-requests"] == "3"
    failed = await edge.post("chat/completions", {**CHAT, "model": "a", "max_tokens": 9_000_000})
    assert failed.status == 413
    models = await edge.get("models")
    assert models.headers["x-ratelimit-remaining-requests"] == "2"


async def test_the_tightest_limit_is_the_one_that_is_shown(build_edge):
    wide = RateLimit("wide", Scope(Per.TENANT), requests_per_minute=600, request_burst=100)
    edge = build_edge(rules=limited(wide, RateLimit("narrow", requests_per_minute=60, request_burst=2)))
    answer = await edge.get("models")
    assert (answer.headers["x-ratelimit-limit-requests"], answer.headers["x-ratelimit-remaining-requests"]) == (
        "60",
        "1",
    )


@pytest.mark.parametrize(("method", "path"), [("POST", "chat/completions"), ("POST", "route"), ("GET", "models")])
async def test_beyond_the_limit_there_is_a_429_that_names_it(build_edge, method, path):
    edge = build_edge(rules=limited(ONE))
    for expected in (200, 429, 429):
        answer = await (edge.post(path, CHAT) if method == "POST" else edge.get(path))
        assert answer.status == expected
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.error["type"] == "rate_limit_error"
    assert (answer.error["code"], answer.error["param"]) == ("rate_limit_exceeded", "one.requests_per_minute")
    assert len(edge.provider.calls) <= 1
    edge.clock.advance(60)
    assert (await (edge.post(path, CHAT) if method == "POST" else edge.get(path))).status == 200


async def test_a_flood_is_turned_away_before_its_body_is_read(build_edge):
    edge = build_edge(rules=limited(ONE))
    await edge.post("chat/completions", CHAT)
    await edge.post("chat/completions", CHAT)
    edge.counts.away = True  # nobody is asked either
    caller = Caller([b"x" * 1_000] * 5)
    answer = await edge.send("POST", "chat/completions", caller, headers={"content-type": "application/json", **PROVED})
    assert (answer.status, caller.chunks_read) == (429, 0)


async def test_callers_do_not_use_up_each_others_limits(build_edge):
    edge = build_edge(rules=limited(ONE))
    assert [(await edge.get("models", headers=who)).status for who in (PROVED, PROVED, OTHER)] == [200, 429, 200]


async def test_classes_are_limited_apart(build_edge):
    edge = build_edge(rules=limited(RateLimit("g", Scope(), frozenset({EndpointClass.GENERATE}), 1, 1)))
    assert [(await edge.post("chat/completions", CHAT)).status for _ in range(2)] == [200, 429]
    assert (await edge.post("analyze", CHAT)).status == 200
    assert (await edge.get("models")).status == 200


async def test_open_routes_are_never_limited(build_edge):
    edge = build_edge(rules=limited(ONE))
    assert [(await edge.get("health")).status for _ in range(3)] == [200] * 3


async def test_tokens_are_charged_by_estimate_and_corrected_to_what_was_used(build_edge):
    edge = build_edge(rules=limited(RateLimit("t", tokens_per_minute=1_000)))
    body = {**CHAT, "max_tokens": 900}
    assert (await edge.post("chat/completions", body)).status == 200
    refused = await edge.post("chat/completions", body)
    assert (refused.status, refused.error["param"]) == (429, "t.tokens_per_minute")
    assert int(refused.headers["retry-after"]) > 40
    await settle(edge)  # 14 tokens were used
    assert (await edge.post("chat/completions", body)).status == 200


async def test_what_no_limit_ever_lets_pass_is_not_asked_to_come_back(build_edge):
    edge = build_edge(rules=limited(RateLimit("t", tokens_per_minute=1_000)))
    answer = await edge.post("chat/completions", {**CHAT, "max_tokens": 5_000})
    assert (answer.status, answer.error["code"]) == (413, "request_exceeds_limit")
    assert "retry-after" not in answer.headers


async def test_slots_come_back_on_every_way_out(build_edge):
    failing = ScriptedProvider({"a@europe-west4": [[RuntimeError("defect")], ANSWER, [*ANSWER[:1], HANG], ANSWER]})
    edge = build_edge(failing, rules=limited(RateLimit("c", concurrent=1)))
    assert (await edge.post("chat/completions", CHAT)).status == 500
    await settle(edge)
    assert (await edge.post("chat/completions", CHAT)).status == 200
    await settle(edge)
    await edge.post("chat/completions", STREAM, leaves_after=2)
    await settle(edge)
    assert (await edge.post("chat/completions", STREAM)).status == 200
    await settle(edge)
    assert (await edge.post("route", {**CHAT, "dry_run": True})).status == 200
    await settle(edge)
    assert (await edge.get("models")).status == 200
    assert (await edge.get("models")).status == 429, "the door's own slot is given back behind the response too"
    await settle(edge)
    assert (await edge.get("models")).status == 200


async def test_low_priority_gives_way_by_request_and_by_service(build_edge):
    rule = RateLimit("r", Scope(Per.TENANT), requests_per_minute=1, request_burst=4, low_priority_share=0.5)
    edge = build_edge(rules=limited(rule, services={"app-2": ServicePolicy(priority=Priority.LOW)}))
    low = {**CHAT, "router": {"priority": "low"}}
    statuses = [(await edge.post("chat/completions", low)).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert (await edge.post("chat/completions", CHAT, headers=OTHER)).status == 429
    assert (await edge.post("chat/completions", CHAT)).status == 200


@pytest.mark.parametrize(
    ("when_away", "statuses"), [("open", [200] * 5), ("closed", [503]), ("local", [200, 200, 429])]
)
async def test_an_absent_store_means_what_the_rule_says(build_edge, when_away, statuses):
    rule = RateLimit("r", requests_per_minute=1, request_burst=4, when_away=WhenAway(when_away), local_share=0.5)
    edge = build_edge(rules=limited(rule))
    edge.counts.away = True
    answers = [await edge.post("chat/completions", CHAT) for _ in statuses]
    assert [answer.status for answer in answers] == statuses
    assert all("retry-after" in answer.headers for answer in answers if answer.status != 200)


async def test_a_spent_budget_is_a_402_and_leaves_a_record(build_edge):
    edge = build_edge(rules=budgeted(hard=1))
    answer = await edge.post("chat/completions", CHAT)
    assert (answer.status, answer.error["type"]) == (402, "insufficient_quota")
    assert (answer.error["code"], answer.error["param"]) == ("budget_exceeded", "budgets.team-day")
    assert "retry-after" not in answer.headers
    assert edge.provider.calls == []
    (row,) = await edge.records()
    assert (row.error_code, row.cost_usd, len(row.budget_accounts)) == ("budget_exceeded", 0, 1)


async def test_reserved_money_is_a_429_to_come_back_from(build_edge):
    edge = build_edge(rules=budgeted(hard=60_000))
    hang = ScriptedProvider({"a@europe-west4": [[*ANSWER[:1], HANG]]})
    edge.provider.scripts = hang.scripts
    body = {**STREAM, "max_tokens": 8_000}  # at 4 USD a million: 32,000 millionths
    first = await edge.post("chat/completions", body, leaves_after=2)
    assert first.status == 200
    answer = await edge.post("chat/completions", body)
    assert (answer.status, answer.error["code"]) == (429, "budget_reserved")
    assert int(answer.headers["retry-after"]) >= 1


async def test_the_ledger_frees_what_a_request_did_not_cost(build_edge):
    edge = build_edge(rules=budgeted(hard=60_000))
    body = {**CHAT, "max_tokens": 8_000}
    for _ in range(5):
        assert (await edge.post("chat/completions", body)).status == 200
        await edge.records()
        await edge.books.work()
        edge.writer._closing = False
    (balance,) = (await edge.money.read(TENANT)).balances.values()
    rows = edge.store.by_id.values()
    assert balance.settled_micro_usd == sum(int(row.cost_usd * 1_000_000) for row in rows) == 5 * 26
    assert balance.reserved_micro_usd == 0


async def test_a_soft_limit_is_said_in_a_header(build_edge):
    edge = build_edge(rules=budgeted(soft=20))
    assert "x-router-budget" not in (await edge.post("chat/completions", CHAT)).headers
    await edge.records()
    await edge.books.work()
    assert (await edge.post("chat/completions", CHAT)).headers["x-router-budget"] == "soft_limit"
    assert (await edge.post("chat/completions", STREAM)).headers["x-router-budget"] == "soft_limit"


async def test_money_that_cannot_be_counted_is_not_spent(build_edge):
    edge = build_edge(rules=budgeted(hard=10**9))
    edge.money.away = True
    answer = await edge.post("chat/completions", CHAT)
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert edge.provider.calls == []


async def test_callers_see_their_own_limits_and_budgets(build_edge):
    rules = limited(RateLimit("r", requests_per_minute=60, request_burst=5, concurrent=4), **budgeted(10**6, 500_000))
    foreign = Budget("foreign", Period.DAY, Scope(services=frozenset({"app-2"})), 1)
    edge = build_edge(rules={**rules, "budgets": (*rules["budgets"], foreign)})
    await edge.post("chat/completions", CHAT)
    await edge.records()
    await edge.books.work()
    shown = (await edge.get("limits")).json
    assert shown["service"] == "app-1"
    assert [(row["name"], row["kind"], row["limit"]) for row in shown["limits"]] == [
        ("r", "requests_per_minute", 60),
        ("r", "concurrent", 4),
    ]
    (budget,) = shown["budgets"]
    assert (budget["name"], budget["hard_usd"], budget["settled_usd"]) == ("team-day", "1", "0.000026")
    assert Decimal(budget["remaining_usd"]) == Decimal("0.999974")
    assert (budget["period_starts_at"], budget["period_ends_at"]) == (
        "2026-01-01T00:00:00+00:00",
        "2026-01-02T00:00:00+00:00",
    )


async def test_the_reconciling_timer_mends_what_differs_from_the_ledger(build_edge):
    edge = build_edge(rules=budgeted(hard=10**6))
    await edge.post("chat/completions", CHAT)
    await edge.records()
    await edge.books.work()
    purse = await edge.money.read(TENANT)
    ((account, balance),) = purse.balances.items()
    await edge.money.mend(TENANT, account, 999_999, generation=purse.generation, version=balance.version)
    assert (await edge.post("chat/completions", CHAT)).status == 402
    await timers.entry(timers.reconcile_budgets)(timer=TimerRequest())
    assert (await edge.post("chat/completions", CHAT)).status == 200
