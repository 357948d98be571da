"""The chain of receipts, as pure functions."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.canonical import canonical
from shared.domain.receipts import (
    GENESIS,
    ChainHead,
    ChainSection,
    ReceiptRow,
    chain_of,
    check_section,
    placed_body,
    unplaced_body,
)
from shared.domain.record_bounds import MAX_RECEIPT_BYTES, OMITTED_RECEIPT, storable
from shared.scoring.receipt import read_receipt
from shared.stores.memory_receipts import MemoryReceiptStore
from tests.stores_builders import START, record

RECEIPT = '{"digest":"00","v":1}'
CHAIN = "writer/2026-11"


def rows(count: int) -> tuple[ReceiptRow, ...]:
    store = MemoryReceiptStore("writer")
    store.append([record(receipt=RECEIPT) for _ in range(count)])
    return tuple(store.rows[CHAIN])


ROWS = rows(9)
HEAD = ChainHead(CHAIN, 9, ROWS[-1].hash)


def check(kept, middle=5, head=HEAD, first=1, last=20):
    return check_section(ROWS[middle - 1], ChainSection(tuple(kept), head), first=first, last=last)


def test_a_row_says_where_it_stands_what_was_decided_and_how_it_ended() -> None:
    body = json.loads(ROWS[1].body)
    assert (body["chain"], body["chain_sequence"]) == (CHAIN, 2)
    assert body["decision"] == json.loads(RECEIPT)
    assert body["request"] == {"id": ROWS[1].request_id, "start": START.isoformat(), "tenant": "tenant-a"}
    assert body["outcome"] == {
        "attempts": [
            ["gemini-2.5-flash@europe-west4", "provider_rate_limited", "0"],
            ["gemini-2.5-flash@europe-west4", "success", "0.000912375001"],
        ],
        "cost_usd": "0.000912375001",
        "deployment": "gemini-2.5-flash@europe-west4",
        "status": "success",
    }
    assert canonical(body).decode() == ROWS[1].body
    assert ROWS[0].previous_hash == GENESIS
    assert ROWS[1].previous_hash == ROWS[0].hash
    assert ROWS[1].hash == hashlib.sha256(ROWS[0].hash + hashlib.sha256(ROWS[1].body.encode()).digest()).digest()


def test_a_chain_belongs_to_a_writer_and_a_month_in_utc() -> None:
    east = datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert chain_of("w", east) == "w/2026-11"
    assert chain_of("w", east.astimezone(UTC) + timedelta(days=1)) == "w/2026-12"


def test_a_body_needs_a_receipt() -> None:
    with pytest.raises(ValueError, match="no receipt"):
        unplaced_body(record())


def test_hostile_names_do_not_break_out_of_the_body() -> None:
    hostile = record(receipt=RECEIPT, tenant_id='"},"request":{"tenant":"other"\n\u2028\\', deployment_used='"')
    body = placed_body('w"/2026-11', 1, unplaced_body(hostile))
    assert json.loads(body)["request"]["tenant"] == hostile.tenant_id
    assert canonical(json.loads(body)).decode() == body


def test_an_untouched_chain_is_intact_wherever_one_looks() -> None:
    for middle in range(1, 10):
        assert check(ROWS, middle).intact
    window = check(ROWS[2:7], first=3, last=7)
    assert (window.intact, window.first, window.last) == (True, 3, 7)
    assert check(ROWS).last == 9


@pytest.mark.parametrize("gone", range(1, 10))
def test_a_missing_row_shows(gone: int) -> None:
    middle = 5 if gone != 5 else 6
    found = check([row for row in ROWS if row.sequence != gone], middle)
    assert (found.intact, found.broken_at) == (False, gone)
    assert f"row {gone}: it is missing" in found.reasons


_CHANGES = st.sampled_from(
    [
        {"body": ROWS[3].body.replace("success", "succesS", 1)},
        {"body": ROWS[3].body[:-1]},
        {"body": "[]"},
        {"body": ""},
        {"hash": bytes(32)},
        {"previous_hash": bytes(31)},
        {"tenant_id": "tenant-b"},
        {"request_id": ROWS[0].request_id},
        {"start_time": START + timedelta(microseconds=1)},
        {"chain": "writer/2026-10"},
    ]
)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 8), _CHANGES)
def test_any_altered_field_shows_at_its_row(index: int, changes: dict) -> None:
    altered = [replace(row, **changes) if row is ROWS[index] else row for row in ROWS]
    if altered == list(ROWS):
        return
    row = altered[4]
    found = check_section(row, ChainSection(tuple(altered), HEAD), first=1, last=20)
    assert not found.intact
    assert found.broken_at is not None
    assert abs(found.broken_at - (index + 1)) <= 1


def test_a_row_altered_with_its_hash_shows_at_the_next() -> None:
    body = ROWS[3].body.replace("success", "error", 1)
    forged = replace(ROWS[3], body=body, hash=hashlib.sha256(ROWS[3].previous_hash + body.encode()).digest())
    found = check([*ROWS[:3], forged, *ROWS[4:]])
    assert (found.broken_at, found.reasons) == (5, ("row 5: it does not follow the row before it",))


def test_a_cut_end_a_lost_head_and_a_foreign_head_show() -> None:
    assert check(ROWS[:7]).reasons == ("row 8: it is missing",)
    assert check(ROWS, head=None).reasons == ("row 5: the chain has no head",)
    assert check(ROWS, head=replace(HEAD, hash=bytes(32))).reasons == ("row 9: the chain's head has another hash",)
    assert "row 5: it stands beyond the chain's head" in check(ROWS, head=replace(HEAD, sequence=3)).reasons


def test_a_place_that_is_taken_twice_and_a_first_row_that_follows_something_show() -> None:
    assert "row 4: its place is taken twice" in check([*ROWS[:4], ROWS[3], *ROWS[4:]]).reasons
    late = replace(ROWS[0], previous_hash=b"x" * 32)
    assert "row 1: it follows something, and is the first" in check([late, *ROWS[1:]]).reasons


@pytest.mark.parametrize(
    "receipt", ["", "{}", "x", '{"a":"\0"}', '{"a":"\ud800"}', '{"a":"' + "b" * MAX_RECEIPT_BYTES + '"}']
)
def test_what_is_no_receipt_or_too_large_is_replaced_before_it_is_stored(receipt: str) -> None:
    mended = storable(record(receipt=receipt))
    assert mended.receipt == OMITTED_RECEIPT
    assert storable(mended) is mended
    assert read_receipt(json.loads(OMITTED_RECEIPT)).omitted == "too_large"


def test_a_receipt_of_ordinary_size_is_stored_as_it_is() -> None:
    for receipt in (RECEIPT, '{"a":"' + "é" * 1000 + '"}', None):
        whole = record(receipt=receipt)
        assert storable(whole) is whole
