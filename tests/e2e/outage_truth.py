"""What must agree once an outage is over: answers, ledger, attempts, money, rollups, receipts, and what was said meanwhile.

Each check returns what differs, in words; nothing means that all agrees.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import psycopg
import requests
from psycopg.rows import dict_row

from shared.domain.receipts import check_section
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.receipts import PostgresReceiptStore
from tests.e2e.fault_cases import INPUT_USD, OUTPUT_USD
from tests.e2e.outage_load import SERVICES, Look, Sent, analytics
from tests.e2e.own_stack import OwnStack

TOKENS = ("input_tokens", "input_audio_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_long_tokens")
ANSWERED = ("output_tokens", "thinking_tokens")
MILLION = 1_000_000
_MOST_NAMED = 5
_POLL_S = 0.2
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in (*TOKENS, *ANSWERED))
_ROLLED_REQUESTS = f"""
    SELECT bucket, service_name, model_id, deployment_id, status, error_code, sum(requests), sum(cost_usd), {_SUMS}
    FROM analytics WHERE granularity = %s AND tag_key = '' GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608 - constants
_RAW_REQUESTS = f"""
    SELECT date_trunc(%s, start_time, 'UTC'), service_name, coalesce(model_used, ''), coalesce(deployment_used, ''),
           status, coalesce(error_code, ''), count(*), sum(cost_exact), {_SUMS}
    FROM requests GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608 - constants
_ROLLED_TAGS = """
    SELECT bucket, tag_value, sum(requests) FROM analytics WHERE granularity = %s AND tag_key = 'team' GROUP BY 1, 2
"""
_RAW_TAGS = """
    SELECT date_trunc(%s, start_time, 'UTC'), tags->>'team', count(*) FROM requests WHERE tags ? 'team' GROUP BY 1, 2
"""
_ROLLED_ATTEMPTS = f"""
    SELECT bucket, model_id, deployment_id, outcome, sum(attempts), sum(cost_usd), {_SUMS}
    FROM model_performance WHERE granularity = %s GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - constants
_RAW_ATTEMPTS = f"""
    SELECT date_trunc(%s, request_start_time, 'UTC'), model_id, deployment_id, outcome, count(*), sum(cost_exact), {_SUMS}
    FROM attempts GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - constants
_CHARGED = """
    SELECT account, sum(ceil(cost_exact * 1000000))::bigint, count(*)
    FROM requests CROSS JOIN jsonb_array_elements_text(budget_accounts) AS account GROUP BY 1
"""
_UNRECEIPTED = """
    SELECT count(*) FROM requests LEFT JOIN receipts ON receipts.request_id = requests.id
    GROUP BY requests.id HAVING count(receipts.request_id) <> 1
"""


def until(check: Callable[[], bool], deadline_s: float) -> bool:
    """Whether the check held before the deadline; a database that is away does not."""
    give_up_at = time.monotonic() + deadline_s
    while True:
        try:
            if check():
                return True
        except (psycopg.OperationalError, requests.RequestException):
            pass
        if time.monotonic() > give_up_at:
            return False
        time.sleep(_POLL_S)


def rows(stack: OwnStack, query: str, *values: Any) -> list[Any]:
    """What the database answers."""
    with psycopg.connect(stack.dsn, connect_timeout=5) as connection:
        return connection.execute(query, values).fetchall()  # type: ignore[arg-type]  # constants of this module


def is_settled(stack: OwnStack, sent: Sequence[Sent]) -> bool:
    """Whether the ledger holds as many records as were answered, and no money is held any more."""
    ((count,),) = rows(stack, "SELECT count(*) FROM requests")
    return count >= sum(one.told is not None for one in sent) and all(
        Decimal(budget["reserved_usd"]) == 0 for service in SERVICES for budget in stack.standing(service)
    )


def is_rolled_up(stack: OwnStack, sent: Sequence[Sent]) -> bool:
    """Whether the API says that every bucket is computed, and the figures cover the load."""
    body = analytics(stack).json()
    return body.get("pending_buckets") == 0 and body["total"]["requests"] >= sum(one.told is not None for one in sent)


def ledger_differences(stack: OwnStack, sent: Sequence[Sent]) -> list[str]:
    """Every answer has one row that says the same, with all its attempts; others only where the caller had no answer."""
    with psycopg.connect(stack.dsn, row_factory=dict_row) as connection:
        found = connection.execute("SELECT * FROM requests").fetchall()
        tried = connection.execute("SELECT * FROM attempts ORDER BY number").fetchall()
    attempts: dict[str, list[dict[str, Any]]] = {str(row["id"]): [] for row in found}
    stray = [str(row["request_id"]) for row in tried if str(row["request_id"]) not in attempts]
    for attempt in tried:
        attempts.get(str(attempt["request_id"]), []).append(attempt)
    counts = Counter(str(row["id"]) for row in found)
    ids = {one.request_id for one in sent if one.told is not None}
    by_id = {str(row["id"]): row for row in found}
    unanswered = [f"{one.failure} to {one.service}" for one in sent if one.told is None]
    # Callers who had no answer do not know their ids: of them there may be rows.
    unknown = sorted(set(counts) - ids)[len(unanswered) :]
    return [
        *_named("requests without an answer", unanswered),
        *_named("answers without a row", ids - set(counts)),
        *_named("rows of no request", unknown),
        *_named("more than one row", [key for key, count in counts.items() if count > 1]),
        *_named("attempts without a row", stray),
        *_named(
            "rows that say something else",
            (
                f"{one.request_id}: {fault}"
                for one in sent
                if one.told is not None and one.request_id in by_id
                for fault in _row_faults(one, by_id[one.request_id], attempts[one.request_id])
            ),
        ),
    ]


def _row_faults(one: Sent, row: dict[str, Any], attempts: Sequence[dict[str, Any]]) -> list[str]:
    told = one.told
    assert told is not None
    is_whole = told.status == 200 and one.error_code is None
    faults = []
    if (row["status"], row["error_code"]) != ("success" if is_whole else "error", one.error_code):
        faults.append(f"{row['status']} {row['error_code']}, told {told.status} {one.error_code}")
    if row["service_name"] != one.service:
        faults.append(f"service {row['service_name']}")
    if [attempt["number"] for attempt in attempts] != list(range(1, len(attempts) + 1)):
        faults.append("attempts are missing")
    if told.status == 200 and len(attempts) != int(told.headers["x-router-attempts"]):
        faults.append(f"{len(attempts)} attempts, told {told.headers['x-router-attempts']}")
    if row["cost_exact"] != sum(attempt["cost_exact"] for attempt in attempts):
        faults.append("its cost is not that of its attempts")
    for attempt in attempts:
        prompt, answer = sum(attempt[name] for name in TOKENS), sum(attempt[name] for name in ANSWERED)
        if attempt["cost_exact"] != (prompt * Decimal(INPUT_USD) + answer * Decimal(OUTPUT_USD)) / MILLION:
            faults.append(f"attempt {attempt['number']} costs {attempt['cost_exact']}")
    if is_whole and (cost := _cost_told(one)) is not None and not math.isclose(cost, row["cost_exact"]):
        faults.append(f"cost {row['cost_exact']}, told {cost}")
    return faults


def _cost_told(one: Sent) -> float | None:
    told = one.told
    assert told is not None
    if not told.events:
        return float(told.headers["x-router-cost-usd"])
    last = [event for event in told.events if isinstance(event, dict) and event.get("usage")]
    return float(last[-1]["router"]["cost_usd"]) if last else None


def money_differences(stack: OwnStack) -> list[str]:
    """Budgets settled exactly what the ledger's rows cost; nothing is held."""
    charged = {account: (cost, count) for account, cost, count in rows(stack, _CHARGED)}
    kept = {
        account: (int(micro_usd), count)
        for account, micro_usd, count in rows(stack, "SELECT account, micro_usd, requests FROM budget_spend")
    }
    found = [] if charged == kept else [f"accounts of the ledger: {kept}, of its rows: {charged}"]
    for service in SERVICES:
        for budget in stack.standing(service):
            (cost,) = [
                cost
                for account, (cost, _) in charged.items()
                if account.split("/")[0] == budget["name"] and (budget["name"] == "house" or account.endswith(service))
            ]
            if round(Decimal(budget["settled_usd"]) * MILLION) != cost or Decimal(budget["reserved_usd"]) != 0:
                found.append(f"budget {budget['name']} of {service}: {budget}, the ledger has {cost} micro-USD")
    return found


def rollup_differences(stack: OwnStack, sent: Sequence[Sent]) -> list[str]:
    """Rollups of every length say what the rows say, bucket by bucket; the API says what callers were told."""
    found = []
    pairs = ((_ROLLED_REQUESTS, _RAW_REQUESTS), (_ROLLED_TAGS, _RAW_TAGS), (_ROLLED_ATTEMPTS, _RAW_ATTEMPTS))
    for length in ("minute", "hour", "day"):
        for rolled, raw in pairs:
            computed, counted = set(rows(stack, rolled, length)), set(rows(stack, raw, length))
            found += _named(f"{length}s too many", computed - counted) + _named(
                f"{length}s missing", counted - computed
            )
    body = analytics(stack, metrics="requests,errors,errors_by_class,tokens,cost_usd,late").json()
    total = body["total"]
    codes = Counter(one.error_code for one in sent if one.error_code is not None)
    told = {"requests": len(sent), "errors": codes.total(), "errors_by_class": dict(sorted(codes.items()))}
    said = {name: total[name] for name in told}
    if said != told and all(one.told is not None for one in sent):
        found.append(f"GET /analytics says {said}, callers were told {told}")
    ((cost, tokens, late),) = rows(
        stack,
        "SELECT sum(cost_exact), sum(token_count), count(*) FILTER (WHERE created_at > end_time + interval '2 min')"
        " FROM requests",
    )
    if (total["cost_usd"], total["tokens"]["total"], total["late"]) != (float(cost), int(tokens), late):
        found.append(f"GET /analytics says {total}, the rows {cost} USD, {tokens} tokens, {late} late")
    if body["late_share"] != late / total["requests"]:
        found.append(f"late_share is {body['late_share']}, {late} rows came late")
    return found


async def chain_differences(stack: OwnStack) -> list[str]:
    """Each request has one receipt; every chain holds from its first row to its head."""
    found = [f"a request with {count} receipts" for (count,) in rows(stack, _UNRECEIPTED)]
    pool = PostgresPool(stack.dsn)
    store = PostgresReceiptStore(pool)
    try:
        heads = await store.heads(since=stack.started_at)
        for head in heads:
            section = await store.section(head.chain, first=1, last=head.sequence)
            check = check_section(section.rows[-1], section, first=1, last=head.sequence)
            found += [f"chain {head.chain}: {reason}" for reason in check.reasons]
    finally:
        await pool.aclose()
    placed, ((count,),) = sum(head.sequence for head in heads), rows(stack, "SELECT count(*) FROM requests")
    if placed != count:
        found.append(f"{placed} receipts in {len(heads)} chains for {count} requests")
    return found


def receipt_differences(stack: OwnStack, sent: Sequence[Sent], *, sample: int) -> list[str]:
    """Some requests, decided again, come out as they did."""
    found, answered = [], [one for one in sent if one.told is not None]
    for one in answered[:: max(1, len(answered) // sample)]:
        answer = requests.post(f"{stack.url}/receipts/{one.request_id}/verify", timeout=15)
        if answer.status_code != 200 or not answer.json()["valid"]:
            found.append(f"receipt of {one.request_id}: {answer.text}")
    return found


def freshness_differences(looks: Sequence[Look], *, down_s: float, up_s: float) -> list[str]:
    """GET /analytics answers before and after, says 503 in between, and never claims to be fresher than it is."""
    before = [look for look in looks if look.ended_s < down_s]
    during = [look for look in looks if down_s < look.began_s and look.ended_s < up_s]
    found = [f"before the outage: {look.status}" for look in before if look.status != 200]
    found += [] if before and during and looks[-1].status == 200 else ["too few looks, or none after the outage"]
    for look in during:
        is_said = look.status == 503 and look.body["error"]["code"] == "dependency_unavailable"
        if not is_said or int(look.retry_after or 0) < 1:
            found.append(f"in the outage: {look.status} {look.body}")
    for look in looks:
        if look.status == 200 and look.ledger is not None and look.as_of >= look.ledger[1]:
            rows_then, then = look.ledger
            if look.counted < rows_then:
                found.append(f"as of {look.as_of} {look.counted} are counted, the ledger had {rows_then} at {then}")
    counted = [look.counted for look in looks if look.status == 200]
    return found + ([] if counted == sorted(counted) else ["figures fell"])


def waited_s(stack: OwnStack) -> list[float]:
    """How long after its request's end each record came to the ledger, in seconds, ascending."""
    query = "SELECT extract(epoch FROM created_at - end_time)::float8 FROM requests ORDER BY 1"
    return [seconds for (seconds,) in rows(stack, query)]


def _named(what: str, cases: Iterable[Any]) -> list[str]:
    """One line for cases of one kind, with some of them."""
    listed = list(cases)
    return [f"{len(listed)} {what}: {listed[:_MOST_NAMED]}"] if listed else []
