"""What a caller sees of every fault: plain and streamed, before and after the first token, with and without others.

The cases come from the simulator's own list of faults (`fault_cases`). One simulator has all faults set, each for the
regions of its case; all requests run at the same time, and each is judged by itself: status, envelope, Retry-After,
how a stream ends, the attempts, the record and the cost.
"""

import asyncio
from dataclasses import dataclass
from decimal import Decimal

import aiohttp
import pytest

from infra.local.simulator.faults import NAMES
from tests.e2e.fault_app import Told, ask, function_app, records_of
from tests.e2e.fault_cases import INPUT_USD, MODELS, OUTPUT_USD, POLICY, REGIONS, Case, cases, registry

AT_ONCE = 32
MILLION = Decimal(1_000_000)
CASES = cases()


@dataclass(frozen=True)
class Failure:
    """How a fault shows when it makes a call fail."""

    code: str
    status: int
    again: bool = False
    """Whether the same deployment is worth a second call."""
    elsewhere: tuple[str, ...] = (REGIONS, MODELS)
    """Who can still answer."""


@dataclass(frozen=True)
class Answer:
    """A fault that leaves an answer, and why that ends."""

    finish_reason: str
    empty: bool = False


AWAY = Failure("provider_unavailable", 503, again=True)
LATE = Failure("provider_timeout", 504, again=True)
REFUSED = Failure("provider_auth_error", 502)
UNREADABLE = Failure("provider_bad_response", 502)
EFFECTS: dict[str, Failure | Answer] = {
    "rate_limit": Failure("provider_rate_limited", 429, again=True),
    "unavailable": AWAY,
    "server_error": AWAY,
    "overloaded": AWAY,
    "cut": AWAY,
    "stream_error": AWAY,
    "deadline": LATE,
    "hang": LATE,
    "stall": LATE,
    "forbidden": REFUSED,
    "unauthenticated": REFUSED,
    "not_found": Failure("provider_not_found", 502),
    "bad_request": Failure("provider_rejected", 400, elsewhere=(MODELS,)),
    "malformed_json": UNREADABLE,
    "empty_candidates": UNREADABLE,
    "slow_first_token": Answer("stop"),
    "truncated": Answer("length"),
    "safety_block": Answer("content_filter"),
}


def effect_of(case: Case) -> Failure | Answer:
    """What the fault comes to on this wire."""
    if case.fault == "stream_error" and not case.stream:
        return Answer("stop")  # there is no stream to fail in
    if case.fault == "malformed_json" and case.stream and case.provider == "gemini":
        return Answer("stop")  # protocol buffers cannot be malformed: a piece without content is passed over
    if case.fault == "empty_candidates" and case.provider == "anthropic":
        return Answer("stop", empty=True)  # Claude may end its turn without a word: that is its answer
    if case.parameters.get("level") == "prompt":
        return Answer("content_filter", empty=True)
    return EFFECTS[case.fault]


def calls_of(case: Case, effect: Failure | Answer) -> int:
    """How many attempts that makes, of the two that the policy allows."""
    if isinstance(effect, Answer) or case.is_late:
        return 1
    if case.others in effect.elsewhere:
        return 2
    takes_all_its_time = case.fault in {"hang", "stall"} and not case.stream
    return 2 if effect.again and "retry_after_s" not in case.parameters and not takes_all_its_time else 1


@pytest.fixture(scope="module")
async def seen(stack, tmp_path_factory) -> dict[str, tuple[Told, dict]]:
    """What the caller was told and what was recorded, by case."""
    files = {"models.toml": registry(CASES), "policy.toml": POLICY}
    with function_app(stack, tmp_path_factory.mktemp("faults"), files, redis_database=7) as url:
        stack.simulator.set_faults([case.rule() for case in CASES])
        gate = asyncio.Semaphore(AT_ONCE)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one(case: Case) -> Told:
                async with gate:
                    return await ask(session, url, case.body())

            told = await asyncio.gather(*(one(case) for case in CASES))
        ids = [answer.headers["x-request-id"] for answer in told]
        records = await records_of(stack.settings["POSTGRES_DSN"], ids)
    return {case.id: (answer, records[i]) for case, answer, i in zip(CASES, told, ids, strict=True)}


def test_every_fault_of_the_simulator_has_its_place():
    assert set(EFFECTS) == NAMES
    assert {case.fault for case in CASES} == NAMES
    assert len({case.region(1) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_the_caller_sees_and_what_is_kept(case: Case, seen):
    told, record = seen[case.id]
    effect = effect_of(case)
    fails = isinstance(effect, Failure) and (case.is_late or case.others not in effect.elsewhere)
    if not fails:
        check_answer(case, effect, told)
    elif case.is_late:
        check_broken_stream(effect, told)
    else:
        check_refusal(case, effect, told)
    check_attempts(case, effect, record)
    check_record(fails, effect, told, record)
    check_cost(case, told, record)


def check_answer(case: Case, effect: Failure | Answer, told: Told) -> None:
    assert told.status == 200
    assert told.error is None
    wanted = effect if isinstance(effect, Answer) else Answer("stop")
    assert told.finish_reason == wanted.finish_reason
    assert bool(told.text) is not wanted.empty
    calls = calls_of(case, effect)
    assert (told.headers["x-router-attempts"], told.headers["x-router-fallbacks"]) == (str(calls), str(calls - 1))
    assert told.headers["x-router-model"] == (
        f"{case.model}-other" if calls == 2 and case.others == MODELS else case.model
    )
    if case.stream:
        assert told.events[-1] == "[DONE]"
        # One clean stream: nothing of a failed attempt is in it.
        assert sum(1 for e in told.events[:-1] for c in e["choices"] if c["finish_reason"]) == 1
        assert sum(1 for e in told.events[:-1] for c in e["choices"] if c["delta"].get("role")) == 1


def check_broken_stream(effect: Failure, told: Told) -> None:
    """Content came, so the status is said; the end says what happened and never looks like one."""
    assert told.status == 200
    assert told.text
    assert told.events[-1] != "[DONE]"
    assert told.error["code"] == effect.code
    assert told.error["request_id"] == told.headers["x-request-id"]
    assert told.finish_reason is None


def check_refusal(case: Case, effect: Failure, told: Told) -> None:
    assert told.status == effect.status
    assert told.headers["content-type"] == "application/json"
    assert (told.error["code"], told.error["request_id"]) == (effect.code, told.headers["x-request-id"])
    assert set(told.error) == {"message", "type", "code", "param", "request_id"}
    if effect.status in {429, 503}:
        wait_s = int(told.headers["retry-after"])
        asked_s = case.parameters.get("retry_after_s")
        assert wait_s == 1 if asked_s is None else asked_s - 5 <= wait_s <= asked_s + 1
    else:
        assert "retry-after" not in told.headers


def check_attempts(case: Case, effect: Failure | Answer, record: dict) -> None:
    calls = calls_of(case, effect)
    outcomes = [attempt["outcome"] for attempt in record["attempts"]]
    if isinstance(effect, Answer):
        assert outcomes == ["success"]
    elif case.others in effect.elsewhere and not case.is_late:
        assert outcomes == [effect.code, "success"]
        assert [a["deployment_id"] for a in record["attempts"]] == [f"{case.model}@1", record["deployment_used"]]
        assert record["deployment_used"].endswith("@2")
    else:
        assert outcomes == [effect.code] * calls
        assert {a["deployment_id"] for a in record["attempts"]} == {f"{case.model}@1"}
    assert [attempt["number"] for attempt in record["attempts"]] == list(range(1, calls + 1))


def check_record(fails: bool, effect: Failure | Answer, told: Told, record: dict) -> None:
    assert record["status"] == ("error" if fails else "success")
    assert record["error_code"] == (effect.code if fails else None)
    if not fails:
        reason = effect.finish_reason if isinstance(effect, Answer) else "stop"
        # The record tells a refusal from a filter; OpenAI's vocabulary does not.
        assert record["finish_reason"] in {reason, "refusal" if reason == "content_filter" else reason}


def check_cost(case: Case, told: Told, record: dict) -> None:
    assert record["cost_exact"] == sum(attempt["cost_exact"] for attempt in record["attempts"])
    for attempt in record["attempts"]:
        prompt = sum(attempt[f"{kind}_tokens"] for kind in ("input", "input_audio", "cache_read", "cache_write"))
        output = attempt["output_tokens"] + attempt["thinking_tokens"]
        assert attempt["cost_exact"] == (prompt * Decimal(INPUT_USD) + output * Decimal(OUTPUT_USD)) / MILLION
    if case.is_late and told.error is not None:
        # What came is paid for, though no vendor counted it to the end.
        assert record["token_count"] > 0
        assert record["usage_estimated"]
        assert record["cost_exact"] > 0
    if told.status == 200 and not case.stream:
        assert Decimal(told.headers["x-router-cost-usd"]) == record["cost_exact"]
        assert told.body["usage"]["total_tokens"] == record["token_count"]
    if case.stream and told.error is None:
        usage = next(e for e in told.events[:-1] if e["usage"])
        assert usage["router"]["cost_usd"] == pytest.approx(float(record["cost_exact"]))
        assert usage["usage"]["total_tokens"] == record["token_count"]
