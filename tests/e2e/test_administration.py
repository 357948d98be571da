"""What administrators read of a request that was answered: the whole stack."""

import time
from typing import Any

import requests

from shared.domain.analytics import Granularity
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.rollups import PostgresRollups
from shared.stores.system import SystemClock

_DEADLINE_S = 60.0


async def _rolled_up(dsn: str) -> None:
    """What the timer does each minute."""
    pool = PostgresPool(dsn)
    rollups, now = PostgresRollups(pool, tag_keys=("team",)), SystemClock().now()
    while await rollups.fold(now, tiers=()):
        pass
    for granularity in (Granularity.HOUR, Granularity.DAY):
        while await rollups.merge(granularity):
            pass
    await pool.aclose()


async def test_an_answer_is_on_every_page(stack: Any) -> None:
    def call(method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(method, f"{stack.base_url}/api/v1/{path}", timeout=30, **more)

    def get(path: str, **headers: str) -> requests.Response:
        return call("GET", f"admin/{path}", headers=headers)

    asked = {"messages": [{"role": "user", "content": "Say hello."}], "tags": {"team": "administration-e2e"}}
    answer = call("POST", "route", json=asked)
    assert answer.status_code == 200
    give_up_at = time.monotonic() + _DEADLINE_S
    while True:
        await _rolled_up(stack.settings["POSTGRES_DSN"])
        view = get("business-intel?tag=team").json()
        found = [row for row in view["costs"]["tag:team"] if row["group"] == "administration-e2e"]
        if found:
            break
        assert time.monotonic() < give_up_at, view
    assert float(found[0]["cost_usd"]) == float(answer.json()["cost_usd"])
    assert view["month"]["spent_usd"] > 0
    page = get("dashboard").json()
    assert {card["name"]: card["value"] for card in page["cards"]}["requests"] >= 1
    assert answer.headers["x-router-deployment"] in {strip["deployment"] for strip in page["deployments"]}
    assert page["open"].keys() == {"findings", "incidents"}
    # The minute that runs is in no window yet.
    slos = {slo["name"]: slo["state"] for slo in get("slos?group_by=service").json()["slos"]}
    assert slos["availability"] in {"met", "missed", "no_data"}
    assert len(get("real-time?minutes=120").json()["minutes"]) == 120
    assert get("real-time?minutes=120", **{"if-none-match": "*"}).status_code == 304
