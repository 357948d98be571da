"""Records as JSON, and the bounds of what is stored."""

import json
import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.record_bounds import MAX_MESSAGE_CHARS, MAX_TEXT_CHARS, storable
from shared.domain.record_codec import (
    MAX_DOCUMENT_BYTES,
    decode,
    encode,
    encode_within,
    from_document,
    to_document,
)
from shared.domain.records import AttemptRecord, RequestRecord, RequestStatus
from shared.domain.replies import Usage
from tests.stores_builders import attempt, bare_record, batch, record

# How long an example takes says nothing about the code, only about the machine.
laws = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
texts = st.text(st.characters(exclude_categories=()), max_size=40)
finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(min_value=0, max_value=2**63 - 1)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))])
instants = st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=zones)
money = st.decimals(min_value=0, allow_nan=False, allow_infinity=False)
usages = st.builds(Usage, **{f.name: st.booleans() if f.type is bool else counts for f in fields(Usage)})
attempts = st.builds(
    AttemptRecord,
    number=st.integers(1, 9),
    deployment_id=texts,
    model_id=texts,
    provider=texts,
    region=texts,
    started_at=instants,
    duration_ms=finite,
    outcome=texts,
    vendor_status=st.none() | texts,
    ttft_ms=st.none() | finite,
    usage=usages,
    cost_usd=money,
)
_BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    str | None: st.none() | texts,
    int: counts,
    float: finite,
    float | None: st.none() | finite,
    bool: st.booleans(),
    datetime: instants,
    Decimal: money,
    RequestStatus: st.sampled_from(RequestStatus),
    Usage: usages,
    tuple[tuple[str, str], ...]: st.lists(st.tuples(texts, texts), max_size=5).map(tuple),
    tuple[AttemptRecord, ...]: st.lists(attempts, max_size=3).map(tuple),
    # Made by the router itself (`shared.domain.budgets`), never by a caller.
    tuple[str, ...]: st.lists(st.from_regex(r"[a-z0-9/~-]{1,60}", fullmatch=True), max_size=3).map(tuple),
}
records = st.builds(RequestRecord, **{f.name: _BY_TYPE[f.type] for f in fields(RequestRecord)})
well_made = records.flatmap(lambda made: st.uuids().map(lambda key: replace(made, id=str(key))))


@laws
@given(st.lists(records, max_size=3))
def test_every_record_comes_back_exactly(written: list[RequestRecord]) -> None:
    document = encode(written)

    assert document.isascii()
    read = decode(document)
    assert list(read) == written
    assert decode(document.encode()) == read
    # Equal money may be written in other ways (1.0, 1.00); it is kept digit by digit.
    assert [str(r.cost_usd) for r in read] == [str(w.cost_usd) for w in written]


@laws
@given(st.lists(records, max_size=12), st.integers(3_000, 20_000))
def test_split_documents_hold_the_same_records_in_order_and_fit(written: list[RequestRecord], room: int) -> None:
    try:
        documents = encode_within(written, room)
    except ValueError:
        assert any(len(encode([alone])) > room for alone in written)
    else:
        assert all(len(document) <= room for document in documents)
        assert [item for document in documents for item in decode(document)] == written
        # No two neighbours would have fitted into one.
        for left, right in pairwise(documents):
            assert len(encode([*decode(left), decode(right)[0]])) > room


def test_a_faster_encoder_writes_the_same_form() -> None:
    for written in (record(), bare_record()):
        assert orjson.loads(orjson.dumps(written, default=str)) == to_document(written)


def test_a_field_that_a_record_did_not_have_yet_takes_its_default() -> None:
    document = to_document(record())
    del document["propensity"], document["usage"]["estimated"], document["attempts"][0]["vendor_status"]

    read = from_document(document)

    assert (read.propensity, read.usage.estimated, read.attempts[0].vendor_status) == (None, False, None)


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in to_document(record()).items() if key != name}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (_without("tenant_id"), "tenant_id"),
        (_without("start_time"), "start_time"),
        (to_document(record()) | {"surprise": 1}, "surprise: unknown field"),
        (to_document(record()) | {"tenant_id": None}, "tenant_id: not a str"),
        (to_document(record()) | {"stream": 1}, "stream: not a bool"),
        (to_document(record()) | {"attachment_size": True}, "attachment_size: not a int"),
        (to_document(record()) | {"overhead_ms": "1"}, "overhead_ms: not a number"),
        (to_document(record()) | {"cost_usd": 0.1}, "cost_usd: not a str"),
        (to_document(record()) | {"cost_usd": "NaN"}, "cost_usd: not a finite amount"),
        (to_document(record()) | {"cost_usd": "much"}, "cost_usd"),
        (to_document(record()) | {"start_time": "2026-01-01T00:00:00"}, "start_time: an instant without an offset"),
        (to_document(record()) | {"end_time": "soon"}, "end_time"),
        (to_document(record()) | {"status": "fine"}, "status"),
        (to_document(record()) | {"tags": [["a"]]}, "tags"),
        (to_document(record()) | {"tags": {"a": "b"}}, "tags: not a list"),
        (to_document(record()) | {"attempts": [1]}, "attempts: AttemptRecord: not an object"),
        (to_document(record()) | {"usage": {"input_tokens": -1.5}}, "usage: Usage.input_tokens: not a int"),
        (None, "not an object"),
    ],
)
def test_a_bad_record_is_refused_by_name(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match="RequestRecord") as refusal:
        from_document(document)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", ""),
        (b"\xff", ""),
        ("[]", "not an object"),
        ("{}", "record format None is unknown"),
        ('{"v":2,"records":[]}', "record format 2 is unknown; this version reads 1"),
        ('{"v":true,"records":[]}', "record format True is unknown"),
        ('{"v":1}', "records: not a list"),
        ('{"v":1,"records":{}}', "records: not a list"),
        ('{"v":1,"records":[[]]}', "RequestRecord: not an object"),
    ],
)
def test_a_bad_document_is_refused(document: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        decode(document)
    assert message in str(refusal.value)


def test_a_float_that_is_not_finite_is_not_written_as_something_else() -> None:
    with pytest.raises(ValueError):
        encode([record(quality_score=math.nan)])


@laws
@given(well_made)
def test_mending_is_done_once_and_fits_every_store(made: RequestRecord) -> None:
    mended = storable(made)

    assert storable(mended) is mended
    body = orjson.dumps(mended, default=str)
    assert b"\\u0000" not in body.replace(rb"\\", b"")
    assert len(encode_within([replace(mended, attempts=())])) == 1
    # Money and instants are as they were.
    assert mended.cost_usd is made.cost_usd
    assert (mended.start_time, mended.end_time) == (made.start_time, made.end_time)
    assert [a.cost_usd for a in mended.attempts] == [a.cost_usd for a in made.attempts]


def test_a_record_with_nothing_to_mend_is_the_same_object() -> None:
    for made in (record(), bare_record(), record(requested_model="模型-🚀", error_message="x" * MAX_MESSAGE_CHARS)):
        assert storable(made) is made


def test_texts_are_cut_at_their_bounds() -> None:
    mended = storable(record(region="r" * 999, error_message="m" * 9_999, tags=(("k" * 99, "v" * 999),)))

    assert (len(mended.region or ""), len(mended.error_message or "")) == (MAX_TEXT_CHARS, MAX_MESSAGE_CHARS)
    assert mended.tags == (("k" * 64, "v" * 512),)


def test_tags_are_sorted_unique_and_bounded_as_a_whole() -> None:
    assert storable(record(tags=(("b", "1"), ("a", "2"), ("b", "3")))).tags == (("a", "2"), ("b", "3"))

    many = storable(record(tags=tuple((f"{number:04}", "\x01" * 512) for number in range(500)))).tags
    assert 0 < len(many) < 10
    assert many[0][0] == "0000"


def test_what_the_edge_lets_through_is_stored_whole() -> None:
    tags = tuple((f"{number:02}" + "k" * 62, "v" * 512) for number in range(32))

    assert storable(record(tags=tags)).tags == tags


@pytest.mark.parametrize(
    ("fields_", "message"),
    [
        ({"id": ""}, "id"),
        ({"id": "not-a-uuid"}, "not-a-uuid"),
        ({"id": "{019a0000-0000-7000-8000-000000000000}"}, "canonical"),
        ({"id": "019a0000-0000-7000-8000-000000000000\n"}, "canonical"),
        ({"end_time": datetime(2026, 1, 1)}, "offset"),
        ({"attempts": (attempt(1, started_at=datetime(2026, 1, 1)),)}, "offset"),
        ({"cost_usd": Decimal("-0.01")}, "cost"),
        ({"cost_usd": Decimal("Infinity")}, "cost"),
        ({"attempts": (attempt(1, cost_usd=Decimal("NaN")),)}, "cost"),
    ],
)
def test_what_only_a_defect_can_make_is_refused(fields_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        storable(record(**fields_))


def test_an_oversized_record_is_named_and_never_shortened() -> None:
    endless = record(attempts=tuple(attempt(number) for number in range(1, 200)))

    with pytest.raises(ValueError, match=f"{endless.id} takes .* bytes; a document holds {MAX_DOCUMENT_BYTES - 20}"):
        encode_within([record(), endless])


def test_records_of_ordinary_size_share_a_message() -> None:
    documents = encode_within(batch(100))

    assert len(documents) <= 5
    assert json.loads(documents[0])["v"] == 1
    assert encode_within([]) == []
