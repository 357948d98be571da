"""Profiles and fault rules: what is shipped, what may be laid over it, and what is refused by name."""

from datetime import UTC, datetime
from typing import Any

import pytest

from infra.local.simulator.faults import NAMES, FaultTable, read_header, read_rule
from infra.local.simulator.profiles import Profiles

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SHIPPED = [
    ("google", "gemini-3.1-flash-lite"),
    ("google", "gemini-3.5-flash-lite"),
    ("google", "gemini-3.8-flash"),
    ("google", "gemini-3.5-flash"),
    ("google", "gemini-3.1-pro-preview"),
    ("google", "gemini-4-argon"),
    ("anthropic", "claude-haiku-5-5"),
    ("anthropic", "claude-haiku-5-5@default"),
    ("anthropic", "claude-haiku-4-5@20251001"),
    ("anthropic", "claude-sonnet-5-5"),
    ("anthropic", "claude-opus-5-5"),
    ("openai", "openai/gpt-oss-120b-maas"),
    ("openai", "gpt-oss-120b-maas"),
    ("meta", "meta/llama-4-maverick-17b-128e-instruct-maas"),
    ("deepseek-ai", "deepseek-ai/deepseek-v4.1-flash-maas"),
    ("google", "google/gemma-4-26b-a4b-it-maas"),
    ("mistralai", "mistral-medium-3"),
    ("mistralai", "codestral-2"),
    ("google", "gemini-embedding-001"),
    ("google", "text-embedding-005"),
]


@pytest.mark.parametrize(("publisher", "model"), SHIPPED)
def test_shipped_models(publisher: str, model: str) -> None:
    profile = Profiles.load().model(publisher, model)
    assert profile is not None
    assert profile.ttft_p95_ms > profile.ttft_p50_ms


def test_what_is_not_listed_is_not_there_unless_added() -> None:
    profiles = Profiles.load()
    assert profiles.model("google", "gemini-9") is None
    assert profiles.model("anthropic", "claude-haiku-4-5") is None
    profiles.merge({"models": {"gemini-9": {"answer_tokens": 5}}, "time_scale": 0})
    added = profiles.model("google", "gemini-9")
    assert added is not None
    assert (added.answer_tokens, added.dialect) == (5, "gemini")
    assert profiles.time_scale == 0


def test_a_merge_changes_one_field_and_keeps_the_others() -> None:
    profiles = Profiles.load()
    profiles.merge({"models": {"gemini-3.8-flash": {"ttft_p50_ms": 50}}})
    profile = profiles.model("google", "gemini-3.8-flash")
    assert profile is not None
    assert (profile.ttft_p50_ms, profile.tokens_per_s, profile.can_think) == (50, 220, True)
    assert profiles.document()["models"]["gemini-3.8-flash"]["ttft_p50_ms"] == 50


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"model": {}}, "unknown section 'model'"),
        ({"time_scale": -1}, "time_scale"),
        ({"time_scale": "fast"}, "time_scale"),
        ({"models": {"m": {"speed": 1}}}, r"models\.m\.speed"),
        ({"models": {"m": {"tokens_per_s": 0}}}, r"models\.m\.tokens_per_s"),
        ({"models": {"m": {"ttft_p50_ms": 500, "ttft_p95_ms": 100}}}, "ttft_p95_ms"),
        ({"models": {"m": {"quality": {"math": 2}}}}, r"quality\.math"),
        ({"models": {"m": 5}}, r"models\.m must be a table"),
        ({"models": {"m": {"media": {"smell": 1}}}}, "media"),
        ({"endpoints": {"9": {"format": "soap"}}}, r"endpoints\.9\.format"),
        ({"endpoints": {"9": {"format": "tgi", "speed": 1}}}, "speed"),
    ],
)
def test_a_wrong_document_is_refused_by_name_and_changes_nothing(document: dict[str, Any], named: str) -> None:
    profiles = Profiles.load()
    before = profiles.document()
    with pytest.raises(ValueError, match=named):
        profiles.merge(document)
    assert profiles.document() == before


class TestFaults:
    def test_the_first_rule_that_matches_wins_as_often_as_it_may(self) -> None:
        table = FaultTable(7)
        table.replace([
            {"match": {"model": "a", "region": "eu"}, "fault": "unavailable", "times": 2},
            {"match": {"endpoint": "1001"}, "fault": "hang"},
            {"match": {"model": "a"}, "fault": "rate_limit"},
        ])  # fmt: skip

        def picked(model: str, region: str = "eu", endpoint: str = "") -> str | None:
            fault = table.pick(model=model, region=region, endpoint=endpoint)
            return fault.name if fault else None

        assert [picked("a") for _ in range(3)] == ["unavailable", "unavailable", "rate_limit"]
        assert picked("a", "us") == "rate_limit"
        assert picked("b") is None
        assert picked("", endpoint="1001") == "hang"
        assert [(rule["times"], rule["fired"]) for rule in table.documents()] == [(0, 2), (None, 1), (None, 2)]

    def test_a_drawn_fault_is_drawn_the_same_way_again(self) -> None:
        def draws() -> list[bool]:
            table = FaultTable(3)
            table.replace([{"fault": "cut", "probability": 0.3}])
            return [table.pick(model="m", region="r", endpoint="") is not None for _ in range(400)]

        assert draws() == draws()
        assert 0.2 < sum(draws()) / 400 < 0.4

    def test_a_wrong_list_leaves_the_rules_as_they_were(self) -> None:
        table = FaultTable(7)
        table.replace([{"fault": "cut", "after_chunks": 3}])
        with pytest.raises(ValueError, match=r"\[1\]\.fault"):
            table.replace([{"fault": "hang"}, {"fault": "nonsense"}])
        rule = {"match": {}, "fault": "cut", "probability": 1.0, "times": None, "after_chunks": 3, "fired": 0}
        assert table.documents() == [rule]

    def test_a_header_is_a_name_or_an_object(self) -> None:
        assert read_header(" stall ").name == "stall"
        assert read_header('{"fault": "cut", "after_chunks": 4}').after_chunks == 4
        with pytest.raises(ValueError, match="x-sim-fault is not JSON"):
            read_header("{oops")
        with pytest.raises(ValueError, match=r"x-sim-fault\.fault must be one of"):
            read_header("nonsense")

    @pytest.mark.parametrize(
        ("document", "named"),
        [
            (5, "must be an object"),
            ({"fault": "cut", "color": 1}, r"\.color"),
            ({"fault": "cut", "match": {"user": "x"}}, r"\.match"),
            ({"fault": "cut", "probability": 2}, r"\.probability"),
            ({"fault": "cut", "times": -1}, r"\.times"),
            ({"fault": "cut", "after_chunks": -1}, r"\.after_chunks"),
            ({"fault": "cut", "after_chunks": True}, r"\.after_chunks"),
            ({"fault": "slow_first_token", "delay_s": 1e9}, r"\.delay_s"),
            ({"fault": "rate_limit", "retry_after_s": "soon"}, r"\.retry_after_s"),
            ({"fault": "safety_block", "level": "both"}, r"\.level"),
            ({"fault": "rate_limit", "by": "me"}, r"\.by"),
        ],
    )
    def test_wrong_rules_are_refused_by_name(self, document: Any, named: str) -> None:
        with pytest.raises(ValueError, match=named):
            read_rule(document, "rule")

    def test_refusals_carry_the_wait_in_both_forms(self) -> None:
        in_seconds = read_header('{"fault": "rate_limit", "retry_after_s": 1.5}').problem(NOW)
        assert in_seconds is not None
        assert in_seconds.http_headers() == {"Retry-After": "2"}
        assert in_seconds.google_details()[0]["retryDelay"] == "1.5s"
        dated = read_header('{"fault": "rate_limit", "retry_after_s": 30, "http_date": true}').problem(NOW)
        assert dated is not None
        assert dated.http_headers() == {"Retry-After": "Mon, 23 Nov 2026 10:00:30 GMT"}

    def test_every_other_fault_lets_the_call_begin(self) -> None:
        refusing = {name for name in NAMES if read_header(name).problem(NOW) is not None}
        assert refusing == {
            "rate_limit", "overloaded", "server_error", "unavailable", "bad_request", "forbidden", "unauthenticated", "not_found", "deadline",
        }  # fmt: skip
