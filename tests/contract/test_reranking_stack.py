"""Reranking over the real stores and the simulator: the order, the ledger, the receipt, and what happens without it."""

import asyncio
import time
from decimal import Decimal

import psycopg
import pytest

from infra.local.environment import Directories, function_app_environment
from shared import container
from shared.config import REGISTRY_DIRECTORY, Settings
from shared.domain.documents import SearchScope
from shared.domain.errors import NotFound
from shared.domain.identity import Principal, RouterRole
from shared.domain.policy import RoutingConstraints
from shared.services.ingestion import Submission, task_for
from shared.services.retrieval import Asker, Query

RANKER = "semantic-ranker-default-004"
OWNER = Principal("p-1", "tenant-ranked", "shop", frozenset({RouterRole.SERVICE}))
SCOPE = SearchScope(OWNER.tenant_id, "manuals")
TEXTS = ("Refunds for cancelled orders are paid in 14 days.", "Orders are shipped at once.", "Refunds need a receipt.")
ASKED = "when are refunds for cancelled orders paid?"
DEADLINE_S = 30


@pytest.fixture
def settings(servers, postgres_dsn, redis_url, azurite, simulator, tmp_path):
    usual = (REGISTRY_DIRECTORY / "policy.toml").read_text()
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "policy.toml").write_text(f'{usual}\n[retrieval]\nreranker = "{RANKER}"\n')
    settings = function_app_environment(servers.ports, Directories(tmp_path), dsn=postgres_dsn)
    directories = f"{settings['ROUTER_REGISTRY_DIR']},{tmp_path / 'ours'}"
    return {**settings, "REDIS_URL": redis_url, "ROUTER_REGISTRY_DIR": directories}


@pytest.fixture
async def built(settings):
    made = await container.build(Settings.from_env(settings))
    submissions = [
        Submission("manuals", f"{n}.txt", f"{n}.txt", "text/plain", text.encode()) for n, text in enumerate(TEXTS)
    ]
    for taken in await made.ingestion.desk.submit(OWNER, submissions):
        await made.ingestion.work.do(task_for(taken.document))
    yield made
    await made.close()


async def search(built, **constraints):
    asker = Asker(OWNER, endpoint="rag/query", constraints=RoutingConstraints(**constraints))
    return await built.retrieval.search(SCOPE, Query(ASKED, abstain=False), asker)


async def verified(built, request_id):
    """The verification of a receipt, which is written behind the answer."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await built.receipts.verify(request_id, tenant_id=OWNER.tenant_id)
        except NotFound:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.05)


async def test_the_ranker_orders_what_was_found_and_its_call_is_booked_and_can_be_replayed(built, postgres_dsn):
    found = await search(built)
    assert (found.not_reranked, found.degraded) == (None, ())
    scores = [passage.score for passage in found.passages]
    assert scores == sorted(scores, reverse=True)
    assert found.passages[0].chunk.text == TEXTS[0]
    _, ranking = found.request_ids
    receipt = await verified(built, ranking)
    assert receipt.valid, receipt.reasons
    shown = await built.receipts.show(ranking, tenant_id=OWNER.tenant_id)
    assert shown.made.decision.chosen.deployment.id == f"{RANKER}@global"
    with psycopg.connect(postgres_dsn) as connection:
        row = connection.execute("SELECT cost_exact, output_tokens, endpoint FROM requests WHERE id = %s", (ranking,))
        assert row.fetchone() == (Decimal("0.001"), 1, "rag/query")


async def test_content_for_a_region_is_ranked_by_nobody_elsewhere(built):
    found = await search(built, residency=frozenset({"eu"}))
    assert (found.not_reranked, found.degraded) == ("not_cleared", ("not_reranked",))
    assert {passage.chunk.text for passage in found.passages} == set(TEXTS)


async def test_a_ranker_that_is_away_leaves_the_order(built, simulator):
    simulator.set_faults([{"fault": "unavailable", "match": {"model": RANKER}}])
    found = await search(built)
    assert (found.not_reranked, found.degraded) == ("unavailable", ("not_reranked",))
    assert {passage.chunk.text for passage in found.passages} == set(TEXTS)
