"""No statement of the request path or of a dashboard reads the raw ledger; what must read it goes by an index.

The statements are not listed here: every route and every timer of the router is called on real servers, and what
arrives at PostgreSQL is explained on a database with months of partitions.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from functions.http import ROUTES
from functions.timers import TIMERS
from infra.local.environment import function_app_environment
from shared import container
from shared.config import Settings
from tests.contract.plans_world import BACKGROUND, Noted, Scan, Statement, noting, scans_of
from tests.edge.edge_harness import Caller, Edge

pytestmark = pytest.mark.timeout(300)  # every route and timer, once, on real servers
_WITHIN_S = 60.0
_NOW = datetime.now(UTC)  # noqa: TID251 - the partitions are those of today
_SPAN = f"from={_NOW - timedelta(days=30):%Y-%m-%d}&to={_NOW:%Y-%m-%d}"
_CHAT = {"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
_BODIES: dict[str, Any] = {
    "route": {"messages": _CHAT["messages"]},
    "chat_completions": _CHAT,
    "responses": {"model": "auto", "input": "Why is the sky blue?"},
    "embeddings": {"model": "auto", "input": "Why is the sky blue?"},
    "analyze": {"messages": _CHAT["messages"]},
    "classify": {"messages": _CHAT["messages"]},
    "feedback": {"request_id": str(uuid4()), "score": 1.0},
    "rag_query": {"question": "Why is the sky blue?", "collections": ["none"]},
    "compliance_export": {"principal_id": "somebody"},
    "compliance_erase": {"principal_id": "somebody"},
}
_QUERIES = {
    "analytics": (
        _SPAN,
        f"{_SPAN}&bucket=hour&group_by=model",
        f"{_SPAN}&bucket=day&group_by=service,model,category&compare=previous",
        f"{_SPAN}&group_by=tag:team",
        f"{_SPAN}&of=attempts&group_by=deployment",
        f"{_SPAN}&filter.service=a&filter.category=math&group_by=deployment",
    ),
    "savings": (_SPAN, f"{_SPAN}&group_by=service"),
}
_MAY_READ_THE_LEDGER = {
    "feedback": "finds the request that is rated, by its key",
    "receipt": "one receipt, by its key",
    "verify_receipt": "one receipt and its chain, by their keys",
    "compliance_export": "what is known of a person is in the ledger",
    "compliance_erase": "likewise",
    "retention": "counts what the default partitions hold that is due",
    "compliance_report": "counts of a span, for auditors and not for a dashboard",
    "roll_up": "is what makes the rollups",
    "recover_records": "writes records of workers that died",
    "reconcile_budgets": "looks up by key what leases of dead workers became",
    "erase_persons": "takes names out of records",
    "enforce_retention": "drops months, and rows of the default partition",
    "score_quality": "scores requests that something new is known of, by their keys",
    "watch_threats": "adds up the last hours of usage",
}
"""All others find what they need elsewhere. An export's job, say, belongs here when it comes."""
_MAY_SCAN = {
    "retention": "default partitions hold next to nothing, and are counted by age alone",
    "enforce_retention": "likewise",
}


_FILL = """
    WITH filled AS (
        INSERT INTO requests (id, start_time, end_time, tenant_id, service_name, principal_id, endpoint, request_type,
            content_type, attachment_size, complexity_level, security_level, status, stream, requested_model)
        SELECT gen_random_uuid(), at, at, 'tenant-' || n %% 10, 'service-' || n %% 20, 'principal-' || n %% 50, 'route',
               'math', 'prose', 0, 'low', 'internal', 'success', false, 'auto'
        FROM generate_series(0, 3999) AS n
        CROSS JOIN LATERAL (SELECT %(since)s::timestamptz + n * interval '50 minutes' AS at) AS placed
        RETURNING id, start_time, tenant_id
    ), tried AS (
        INSERT INTO attempts (request_id, request_start_time, number, tenant_id, deployment_id, model_id, provider, region,
            started_at, duration_ms, outcome)
        SELECT id, start_time, 1, tenant_id, 'd', 'm', 'gemini', 'global', start_time, 1, 'success' FROM filled
    )
    INSERT INTO receipts (chain, sequence, request_id, start_time, tenant_id, previous_hash, hash, body)
    SELECT 'w/' || to_char(start_time, 'YYYY-MM'), row_number() OVER (ORDER BY id), id, start_time, tenant_id, '', '', '{}'
    FROM filled
"""
"""Requests of 139 days, each with a call and a receipt."""


@pytest.fixture(scope="module")
async def noted(
    postgres_dsn: str,
    redis_url: str,
    azurite: Any,
    simulator: Any,
    servers: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Noted]:
    """What all routes and timers sent."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        since = _NOW - timedelta(days=150)
        connection.execute("SELECT ensure_request_partitions(%s, 8), ensure_event_partitions(%s, 8)", (since, since))
        connection.execute("SELECT ensure_month_partitions('receipts', 'start_time', %s, 8)", (since,))
        # Plans of empty tables say nothing of full ones.
        connection.execute(_FILL, {"since": since})
        connection.execute("TRUNCATE rollup_pending")
        connection.execute("ANALYZE")
    environ = function_app_environment(servers.ports, servers.directories, dsn=postgres_dsn, redis_database=9)
    environ |= {"ROUTER_JOURNAL_DIR": str(tmp_path_factory.mktemp("journal"))}
    environ["ROUTER_REGISTRY_DIR"] = "shared/registry"
    with noting() as noted:
        built = await container.build(Settings.from_env({**os.environ, **environ}))
        container.override(built)
        try:
            await _call_all(noted)
        finally:
            container.override(None)
            await built.close()
        yield noted


async def _call_all(noted: Noted) -> None:
    request_id = str(uuid4())
    for route in ROUTES:
        params = dict.fromkeys(re.findall(r"{\*?(\w+)", route.path), request_id)
        body = [json.dumps(_BODIES.get(route.name, {})).encode()] if route.method in {"POST", "PUT"} else [b""]
        for query in _QUERIES.get(route.name, ("",)):
            call = Edge.knock(
                None,  # type: ignore[arg-type]  # it needs nothing of the harness's own world
                route,
                Caller(body),
                headers={"content-type": "application/json"},
                path_params=params,
                query=query,
            )
            async with asyncio.timeout(_WITHIN_S):
                answer = await noted.during(route.name, call)
            assert answer.status < 500, (route.name, answer.body)
            if route.name in _BODIES.keys() | _QUERIES.keys():
                assert answer.status < 400 or route.name == "rag_query", (route.name, answer.body)
    built = await container.get()
    for _, work in TIMERS:
        async with asyncio.timeout(_WITHIN_S):
            await noted.during(work.__name__, work(built))


@pytest.fixture(scope="module")
def scans(noted: Noted, postgres_dsn: str) -> dict[str, dict[Statement, list[Scan]]]:
    """How each statement reads months of the ledger, by what caused it."""
    found: dict[str, dict[Statement, list[Scan]]] = {}
    with psycopg.connect(postgres_dsn) as connection:
        # On tables this small a scan is always cheapest: what is asked is whether there is another way.
        connection.execute("SET enable_seqscan = off")
        for source, statements in noted.by_source.items():
            for statement in statements:
                with connection.transaction(force_rollback=True):
                    row = connection.execute("EXPLAIN (FORMAT json) " + statement.text, statement.values).fetchone()
                assert row is not None
                found.setdefault(source, {})[statement] = scans_of(row[0][0]["Plan"])
    return found


def test_every_route_and_timer_was_called_and_their_statements_were_seen(noted: Noted) -> None:
    named = {route.name for route in ROUTES} | {work.__name__ for _, work in TIMERS}
    assert noted.by_source.keys() <= named | {BACKGROUND}
    assert {"analytics", "savings", "feedback", "receipt", "roll_up", "security", "route"} <= noted.by_source.keys()
    assert any("INSERT INTO requests" in s.text for found in noted.by_source.values() for s in found)
    assert not _MAY_READ_THE_LEDGER.keys() - named
    assert sum(map(len, noted.by_source.values())) > 60


def test_requests_and_dashboards_never_read_the_raw_ledger(scans: dict[str, dict[Statement, list[Scan]]]) -> None:
    read = {
        (source, statement.text)
        for source, statements in scans.items()
        if source not in _MAY_READ_THE_LEDGER
        for statement, found in statements.items()
        # The insert of records looks up by key what is there already.
        if found and "INSERT INTO requests" not in statement.text
    }
    assert not read


def test_what_must_read_the_ledger_goes_by_an_index(scans: dict[str, dict[Statement, list[Scan]]]) -> None:
    unbounded = {
        (source, scan.relation, scan.node, " ".join(statement.text.split())[:200])
        for source, statements in scans.items()
        if source not in _MAY_SCAN
        for statement, found in statements.items()
        for scan in found
        if not scan.is_bounded
    }
    assert not unbounded
