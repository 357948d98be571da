"""The command that changes the embedding model, as it is run: against the simulator, in a database of its own."""

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from shared.domain.documents import SearchScope
from shared.stores.postgres.documents import PostgresDocumentStore
from shared.stores.postgres.passages import PostgresPassageIndex
from shared.stores.postgres.pool import PostgresPool
from tests.conftest import Stack
from tests.retrieval_builders import MODEL, publish

ROOT = Path(__file__).parents[2]
NEW = "text-multilingual-embedding-002"


def run(stack: Stack, dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.reembed", *arguments],
        cwd=ROOT,
        env={**stack.settings, "POSTGRES_DSN": dsn},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_every_chunk_is_found_by_the_new_model_and_the_old_one_is_gone(stack: Stack, postgres_dsn: str) -> None:
    tenant, pool = f"tenant-{uuid4()}", PostgresPool(postgres_dsn, max_size=2)
    store, index = PostgresDocumentStore(pool), PostgresPassageIndex(pool)
    await publish(store, ["Refunds take fourteen days", "Shipping costs ten euros"], tenant_id=tenant)

    refused = run(stack, postgres_dsn, "drop", MODEL)
    switched = run(stack, postgres_dsn, "switch", NEW)
    dropped = run(stack, postgres_dsn, "drop", MODEL)

    assert (refused.returncode, switched.returncode, dropped.returncode) == (1, 0, 0), switched.stderr
    assert "activate another one first" in refused.stderr
    assert f"{NEW}: 2 chunks embedded" in switched.stdout
    assert dropped.stdout == f"active    {NEW} (768)\n"
    assert await index.active_model() == NEW
    found = await index.search(
        SearchScope(tenant, "manuals"), vector=None, terms={"refund": 1.0}, model=NEW, candidates=5
    )
    assert [len(vector) for vector in found.vectors] == [0]
    known = await store.known_vectors(tenant, NEW, [passage.chunk.sha for passage in found.passages])
    assert [len(vector) for vector in known.values()] == [4 * 768]
    await pool.aclose()


def test_what_is_missing_is_said(stack: Stack, postgres_dsn: str) -> None:
    unnamed = run(stack, postgres_dsn, "switch")
    unknown = run(stack, postgres_dsn, "switch", "no-such-model")
    assert unnamed.returncode == 2
    assert "switch needs a model" in unnamed.stderr
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("reembed: ")
