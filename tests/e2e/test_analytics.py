"""A routed answer, what its caller says of it, and both in the figures: the whole stack."""

import time
from typing import Any

import requests

from shared.domain.analytics import Granularity
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.rollups import PostgresRollups
from shared.stores.system import SystemClock

_DEADLINE_S = 30.0


async def _rolled_up(dsn: str) -> None:
    """What the timer does each minute."""
    pool = PostgresPool(dsn)
    rollups, now = PostgresRollups(pool, tag_keys=("team",)), SystemClock().now()
    await rollups.join_feedback(now)
    while await rollups.fold(now, tiers=()):
        pass
    for granularity in (Granularity.HOUR, Granularity.DAY):
        while await rollups.merge(granularity):
            pass
    await pool.aclose()


async def test_an_answer_and_its_rating_are_in_the_figures(stack: Any) -> None:
    def call(method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(method, f"{stack.base_url}/api/v1/{path}", timeout=30, **more)

    asked = {"messages": [{"role": "user", "content": "Say hello."}], "tags": {"team": "analytics-e2e"}}
    answer = call("POST", "route", json=asked)
    assert answer.status_code == 200
    request_id = answer.headers["x-request-id"]
    said = {"request_id": request_id, "thumbs": "up", "comment": "thanks, alice@example.com"}
    assert call("POST", "feedback", json=said).json()["comment"] == "thanks, [email]"
    url = "analytics?filter.tag=team:analytics-e2e&group_by=model,tag:team"
    give_up_at = time.monotonic() + _DEADLINE_S
    while True:
        await _rolled_up(stack.settings["POSTGRES_DSN"])
        body = call("GET", url).json()
        if body["rows"] and body["total"]["quality"]["ratings"]:
            break
        assert time.monotonic() < give_up_at, body
    (row,) = body["rows"]
    assert row["group"] == {"model": answer.headers["x-router-model"], "tag:team": "analytics-e2e"}
    assert row["requests"] == 1
    assert row["cost_usd"] == float(answer.json()["cost_usd"])
    assert row["quality"]["points"] == 5.0
    savings = call("GET", "analytics/savings?group_by=model").json()
    assert savings["total"]["requests"] >= 1
    assert savings["total"]["actual_usd"] > 0
