"""Receipts through the door: for analysts of the tenant, whatever state the receipt is in."""

from dataclasses import replace

import pytest

from shared import container
from shared.domain.identity import RouterRole
from shared.domain.tombstones import link_hash
from shared.services.receipts import ReceiptService
from shared.stores.memory_receipts import MemoryConfigurationArchive
from shared.stores.registry_files import parse_kept
from tests.edge.edge_harness import CHAT, PROVED
from tests.principals import principal_header

ANALYST = principal_header("dashboard", roles=(RouterRole.ANALYST,))


@pytest.fixture
def ledger(edge):
    """The edge with receipts behind it."""
    receipts = ReceiptService(
        edge.store.receipts,
        MemoryConfigurationArchive(),
        parse_kept,
        edge.container.shelf,
        edge.clock,
        edge.telemetry,
    )
    edge.container = replace(edge.container, receipts=receipts)
    container.override(edge.container)
    return edge


async def asked(ledger, body):
    """The id of a request whose record is written."""
    answer = await ledger.post("chat/completions", body)
    await ledger.records()
    return answer.headers["x-request-id"]


async def test_an_analyst_reads_what_a_service_may_not(ledger):
    request_id = await asked(ledger, CHAT)
    shown = await ledger.get(f"receipts/{request_id}", ANALYST)
    assert (shown.status, shown.json["digest_matches"], shown.json["reasons"]) == (200, True, [])
    assert shown.json["decision"]["chosen"]["deployment"] == "a@europe-west4"
    assert shown.json["chain"]["sequence"] == 1
    verified = await ledger.send("POST", f"receipts/{request_id}/verify", headers=ANALYST)
    assert verified.json == {
        "request_id": request_id,
        "valid": True,
        "digest_matches": True,
        "chain_intact": True,
        "broken_at": None,
        "checked": {"first": 1, "last": 1},
        "erased": None,
        "erased_rows": [],
        "reasons": [],
    }
    assert (await ledger.get(f"receipts/{request_id}", PROVED)).status == 403


async def test_a_refused_request_shows_who_was_dropped_and_why(ledger):
    wished = {**CHAT, "model": "auto", "router": {"allow_models": ["nobody"]}}
    request_id = await asked(ledger, wished)
    decision = (await ledger.get(f"receipts/{request_id}", ANALYST)).json["decision"]
    assert decision["chosen"] is None
    assert [r["reason"] for r in decision["rejections"]] == ["not_allowed"]


async def test_a_receipt_that_cannot_be_read_still_shows_its_place(ledger):
    request_id = await asked(ledger, CHAT)
    (rows,) = ledger.store.receipts.rows.values()
    body = rows[0].body.replace('"v":1', '"v":2')
    rows[0] = replace(rows[0], body=body, hash=link_hash(rows[0].previous_hash, body))

    shown = (await ledger.get(f"receipts/{request_id}", ANALYST)).json

    assert (shown["receipt"], shown["decision"], shown["digest_matches"]) == (None, None, None)
    assert shown["reasons"] == ["the receipt cannot be read"]
    assert shown["chain"]["hash"] == rows[0].hash.hex()


async def test_what_is_not_there_is_not_found(ledger):
    answer = await ledger.get("receipts/nobody", ANALYST)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "not_found", "request_id")
