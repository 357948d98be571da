"""The bytes of a kept answer, its seal, and the policy that lets it be kept."""

import json
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.cached_answers import CachedAnswer, pack, unpack
from shared.domain.caching import CachePolicy, CacheScope
from shared.domain.chat import TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from shared.domain.features import Category
from shared.domain.replies import ChatReply, Citation, FinishReason, ReplyBuilder, Usage
from shared.domain.security import SecurityLevel
from shared.services.reuse import replayed
from shared.stores.cache_schema import CacheTable
from shared.stores.sealing import Seal

TEXTS = st.text(max_size=60)
NAMES = st.none() | TEXTS
PARTS = (
    st.builds(TextPart, TEXTS.filter(bool))
    | st.builds(ThinkingPart, TEXTS, NAMES, st.just("m"))
    | st.builds(ToolCallPart, TEXTS, TEXTS, TEXTS.filter(bool), st.none() | TEXTS.filter(bool), st.just("m"))
)
ANSWERS = st.builds(
    CachedAnswer,
    reply=st.builds(
        ChatReply,
        parts=st.lists(PARTS, max_size=5).map(tuple),
        finish_reason=st.sampled_from(FinishReason),
        native_finish_reason=TEXTS,
        usage=st.builds(Usage, input_tokens=st.integers(0, 2**40), estimated=st.booleans()),
        finish_detail=NAMES,
        model_version=NAMES,
        response_id=NAMES,
        citations=st.lists(st.builds(Citation, NAMES, NAMES), max_size=2).map(tuple),
    ),
    model_id=TEXTS,
    deployment_id=TEXTS,
    cost_usd=st.decimals(0, 100, places=12),
    kept_at=st.datetimes(timezones=st.just(UTC)),
)
REPLY = ChatReply((TextPart("hi"),), FinishReason.STOP, "stop", Usage())
ANSWER = CachedAnswer(REPLY, "m", "d", Decimal("0.1"), datetime(2026, 1, 1, tzinfo=UTC))


@given(ANSWERS)
def test_what_was_packed_comes_back_exactly(answer):
    assert unpack(pack(answer)) == answer


def test_half_a_surrogate_pair_is_kept_too():
    answer = replace(ANSWER, reply=replace(REPLY, parts=(TextPart("\ud83d"),)))
    assert unpack(pack(answer)) == answer


def test_what_no_answer_holds_is_refused():
    with pytest.raises(ValueError):
        pack(replace(ANSWER, reply=replace(REPLY, parts=(ToolResultPart("1", "n", "t"),))))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_none(data):
    for prefix in (b"", b"\x01"):
        unpack(prefix + data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02" + pack(ANSWER)[1:],
        pack(ANSWER)[:-5],
        b"\x01" + zlib.compress(b"[]"),
        b"\x01" + zlib.compress(b'{"parts": [["text", {"unknown": 1}]]}'),
        b"\x01" + zlib.compress(b"0" * (64 * 2**20)),
    ],
)
def test_other_bytes_are_no_answer(data):
    assert unpack(data) is None


@given(ANSWERS)
def test_a_replayed_answer_folds_into_the_same_text_calls_and_end(answer):
    reply = answer.reply
    folded = ReplyBuilder("m").extend(list(replayed(reply))).build()
    assert folded.text() == reply.text()
    assert folded.tool_calls() == reply.tool_calls()
    assert (folded.finish_reason, folded.usage, folded.citations) == (reply.finish_reason, reply.usage, reply.citations)


# --- seals -----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), TEXTS)
def test_a_seal_opens_what_it_sealed_and_nothing_else(plain, name):
    seal, other = Seal(b"1" * 32), Seal(b"2" * 32)
    sealed = seal.seal(plain, name)
    assert seal.open(sealed, name) == plain
    assert seal.open(sealed, name + "x") is None
    assert other.open(sealed, name) is None
    assert seal.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), name) is None
    assert seal.seal(plain, name) != sealed


def test_derived_seals_need_all_secrets_in_their_order():
    sealed = Seal.derived(b"a", b"bc").seal(b"x", "n")
    assert Seal.derived(b"a", b"bc").open(sealed, "n") == b"x"
    assert Seal.derived(b"ab", b"c").open(sealed, "n") is None


@pytest.mark.parametrize("text", ["", "short", "!" * 44, "AAAA"])
def test_a_setting_that_is_no_key_is_refused_without_being_shown(text):
    with pytest.raises(ValueError) as told:
        Seal.from_setting(text)
    assert not text or text not in str(told.value)


def test_a_setting_is_base64_of_32_bytes():
    seal = Seal.from_setting("MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=")
    assert Seal(b"1" * 32).open(seal.seal(b"x", "n"), "n") == b"x"


@pytest.mark.parametrize("sealed", [b"", b"short", b"x" * 12, b"x" * 40])
def test_what_was_never_sealed_does_not_open(sealed):
    assert Seal(b"1" * 32).open(sealed, "n") is None


# --- the policy ------------------------------------------------------------------------------------------------------


def test_the_policy_table_says_all_that_the_domain_knows():
    table = {
        "ttl_s": 60,
        "scope": "tenant",
        "semantic": True,
        "thresholds": {"math": 0.99},
        "sampled": True,
        "tools": True,
        "max_level": "confidential",
        "max_answer_bytes": 2048,
    }
    assert CacheTable.model_validate_json(json.dumps(table)).to_domain() == CachePolicy(
        60,
        CacheScope.TENANT,
        semantic=True,
        thresholds={Category.MATH: 0.99},
        sampled=True,
        tools=True,
        max_level=SecurityLevel.CONFIDENTIAL,
        max_answer_bytes=2048,
    )
    assert CacheTable.model_validate_json('{"ttl_s": 60}').to_domain() == CachePolicy(60)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"ttl_s": 0},
        {"ttl_s": 8 * 24 * 3600},
        {"ttl_s": 60, "max_level": "restricted"},
        {"ttl_s": 60, "thresholds": {"math": 0.2}},
        {"ttl_s": 60, "thresholds": {"cooking": 0.9}},
        {"ttl_s": 60, "scope": "world"},
        {"ttl_s": 60, "enabled": True},
        {"ttl_s": 60, "max_answer_bytes": 1},
    ],
)
def test_a_wrong_table_is_refused(wrong):
    with pytest.raises(ValueError):
        CacheTable.model_validate_json(json.dumps(wrong))


def test_thresholds_fall_back_to_the_defaults_by_category():
    rules = CachePolicy(60, thresholds={Category.CREATIVE_WRITING: 0.9})
    assert rules.threshold(Category.CREATIVE_WRITING) == 0.9
    assert CachePolicy(60).threshold(Category.CREATIVE_WRITING) is None
    assert rules.threshold(Category.MATH) > rules.threshold(Category.CONVERSATION)
