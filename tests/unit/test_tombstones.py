"""Erased rows in chains, as pure functions: erasing any of them breaks nothing, and altering any of them shows."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import audit, receipts
from shared.domain.audit import AuditEvent, AuditOutcome, first_fault, head_after, placed
from shared.domain.privacy import SubjectKind, told_without
from shared.domain.receipts import ChainHead, ChainSection, check_section
from shared.domain.tombstones import Tombstone, body_digest, link_hash, link_holds, tombstone_of
from shared.stores.memory_receipts import MemoryReceiptStore
from tests.security_builders import NOON, subject
from tests.stores_builders import IDS, record

CHAIN = "writer/2026-11"
COUNT = 9


def _receipts():
    store = MemoryReceiptStore("writer")
    store.append([record(receipt='{"digest":"00","v":1}') for _ in range(COUNT)])
    return tuple(store.rows[CHAIN])


RECEIPTS = _receipts()
HEAD = ChainHead(CHAIN, COUNT, RECEIPTS[-1].hash)


def _deeds(count=COUNT):
    rows, head = [], audit.empty_head(audit.chain_name("w", NOON))
    for n in range(count):
        event = AuditEvent(
            IDS.request_id(), NOON, "t", f"p-{n % 2}", "s", "config.write", "policy", AuditOutcome.SUCCEEDED, "r"
        )
        rows.append(placed(event, head))
        head = head_after(rows[-1])
    return rows, head


DEEDS, DEEDS_HEAD = _deeds()
PLACES = st.sets(st.integers(0, COUNT - 1))
ERASURES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def check(rows):
    return check_section(rows[0], ChainSection(tuple(rows), HEAD), first=1, last=COUNT)


@given(PLACES, ERASURES)
def test_any_receipts_can_be_erased_and_the_chain_holds(places, erasure):
    rows = [receipts.erased_row(row, erasure) if n in places else row for n, row in enumerate(RECEIPTS)]
    found = check(rows)
    assert (found.intact, found.reasons) == (True, ())
    assert found.erased == tuple(n + 1 for n in sorted(places))
    for n in places:
        assert (rows[n].hash, rows[n].previous_hash) == (RECEIPTS[n].hash, RECEIPTS[n].previous_hash)
        assert tombstone_of(rows[n].body) == Tombstone(erasure, hashlib.sha256(RECEIPTS[n].body.encode()).digest())
        assert "decision" not in rows[n].body


@given(PLACES, ERASURES)
def test_any_deeds_can_be_retold_and_the_chain_holds(places, erasure):
    rows = list(DEEDS)
    for n in places:
        rows[n] = audit.erased_row(rows[n], erasure, replace(rows[n].event, actor="nobody"))
        assert rows[n].event.actor == "nobody"
    assert first_fault(DEEDS_HEAD.chain, rows, DEEDS_HEAD) is None


def _flipped(text, place):
    other = "1" if text[place] == "0" else "0"
    return text[:place] + other + text[place + 1 :]


@given(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1), st.data())
def test_among_erased_rows_every_alteration_still_shows(erased, altered, data):
    rows = [receipts.erased_row(row, "e-1") if n == erased else row for n, row in enumerate(RECEIPTS)]
    row = rows[altered]
    if tombstone_of(row.body) is None:
        place = data.draw(st.integers(0, len(row.body) - 1))
        rows[altered] = replace(row, body=_flipped(row.body, place))
    else:
        # What a tombstone proves is the hash of what was there, and its place.
        field = data.draw(st.sampled_from(["body_sha256", "chain", "chain_sequence", "request"]))
        body = json.loads(row.body)
        if field == "body_sha256":
            digest = body["erased"]["body_sha256"]
            body["erased"]["body_sha256"] = _flipped(digest, data.draw(st.integers(0, len(digest) - 1)))
        else:
            body[field] = "another"
        rows[altered] = replace(row, body=json.dumps(body))
    if rows[altered].body != row.body:
        assert not check(rows).intact


@given(st.integers(0, COUNT - 2))
def test_taking_an_erased_row_away_shows(place):
    rows = [receipts.erased_row(row, "e-1") for row in RECEIPTS]
    del rows[place]
    found = check_section(rows[0], ChainSection(tuple(rows), HEAD), first=1, last=COUNT)
    assert not found.intact


def test_erasing_twice_keeps_the_first_tombstone_of_a_receipt():
    once = receipts.erased_row(RECEIPTS[0], "e-1")
    assert receipts.erased_row(once, "e-2") == once


def test_a_deed_of_two_erased_persons_keeps_the_hash_of_what_was_there_first():
    once = audit.erased_row(DEEDS[0], "e-1", DEEDS[0].event)
    twice = audit.erased_row(once, "e-2", replace(once.event, actor="nobody"))
    assert tombstone_of(twice.body) == Tombstone("e-2", hashlib.sha256(DEEDS[0].body.encode()).digest())
    assert link_holds(twice.previous_hash, twice.body, twice.hash)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        '{"erased":{}}',
        '{"erased":{"body_sha256":"00","by":"e"}}',
        '{"erased":{"body_sha256":"zz","by":"e"}}',
        f'{{"erased":{{"body_sha256":"{"0" * 64}","by":7}}}}',
        f'{{"erased":{{"body_sha256":"{"0" * 64}","by":"e","more":1}}}}',
        f'{{"inner":{{"erased":{{"body_sha256":"{"0" * 64}","by":"e"}}}}}}',
        f'["erased":{{"body_sha256":"{"0" * 64}","by":"e"}}]',
    ],
)
def test_what_is_no_whole_tombstone_is_content(body):
    assert tombstone_of(body) is None
    assert body_digest(body) == hashlib.sha256(body.encode()).digest()


def test_rows_of_before_there_were_tombstones_still_hold_and_cannot_be_erased_without_a_trace():
    row = RECEIPTS[0]
    old = replace(row, hash=hashlib.sha256(row.previous_hash + row.body.encode()).digest())
    assert link_holds(old.previous_hash, old.body, old.hash)
    assert receipts.row_faults(old) == []
    assert receipts.row_faults(receipts.erased_row(old, "e-1")) == ["its content does not match its hash"]
    assert link_hash(row.previous_hash, row.body) == row.hash


@pytest.mark.parametrize(
    ("whose", "actor", "service"),
    [
        (subject("p-0"), "erased-1", "s"),
        (subject("s", SubjectKind.SERVICE), "erased-1", "erased-1"),
    ],
)
def test_a_deed_is_told_without_its_subject(whose, actor, service):
    event = replace(DEEDS[0].event, network="203.0.113.0/24", user_agent="ab")
    told = told_without(event, whose, "erased-1")
    assert (told.actor, told.service, told.network, told.user_agent) == (actor, service, "unknown", "")
    assert (told.action, told.at, told.request_id) == (event.action, event.at, event.request_id)


def test_a_deed_of_somebody_else_is_left_alone():
    assert told_without(DEEDS[0].event, subject("somebody"), "x") is None
    assert told_without(DEEDS[0].event, subject("p-0", SubjectKind.TAG, tag="user"), "x") is None


def test_instants_of_other_zones_do_not_change_what_is_erased():
    east = replace(RECEIPTS[0], start_time=RECEIPTS[0].start_time.astimezone(UTC) + timedelta(0))
    assert receipts.erased_row(east, "e").body == receipts.erased_row(RECEIPTS[0], "e").body
    assert (
        datetime.fromisoformat(json.loads(receipts.erased_row(east, "e").body)["request"]["start"]).tzinfo is not None
    )
