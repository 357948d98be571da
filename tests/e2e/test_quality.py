"""An answer that is judged by another model: the whole stack, with the simulator as the judge, and nothing of it kept."""

import time
import uuid
from pathlib import Path

import psycopg
import pytest
import requests

from infra.local.environment import REPOSITORY
from shared.stores.postgres.pool import PostgresPool
from shared.stores.postgres.quality import PostgresQuality
from shared.stores.system import SystemClock
from tests.e2e.fault_app import function_app
from tests.e2e.ledger_row import row_of
from tests.e2e.test_canaries import files, postgres_rows, redis_values

_DEADLINE_S = 60.0
_DATABASE = 12
RULES = """
[judging]
daily_usd = "1"

[[judging.shares]]
services = ["judged"]
share = 1.0
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return Path(tmp_path_factory.mktemp("quality"))


@pytest.fixture(scope="module")
def url(stack, directory):
    shipped = REPOSITORY / "shared/registry"
    registry = {name: (shipped / name).read_text() for name in ("google.toml", "anthropic.toml")}
    registry["policy.toml"] = (shipped / "policy.toml").read_text() + RULES
    with function_app(stack, directory, registry, redis_database=_DATABASE) as url:
        yield url


def ask(url, text, **body):
    asked = {"model": "gemini-3.8-flash", "messages": [{"role": "user", "content": text}], **body}
    headers = {"x-router-service": "judged"}
    answer = requests.post(f"{url}/chat/completions", json=asked, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def evidence_on(dsn, request_id):
    """The verdict on a request, awaited with a deadline."""
    give_up_at = time.monotonic() + _DEADLINE_S
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "SELECT score, judge_model, judge_request_id::text, rubric FROM quality_evidence "
                "WHERE request_id = %s AND kind = 'judge'",
                (request_id,),
            ).fetchone()
            if row is not None:
                return row
            assert time.monotonic() < give_up_at, f"no verdict on {request_id}"
            time.sleep(0.05)


async def settle(dsn):
    """What the timer does each minute."""
    pool = PostgresPool(dsn)
    while await PostgresQuality(pool).settle(SystemClock().now()):
        pass
    await pool.aclose()


async def test_an_answer_is_judged_through_the_same_engine_and_nothing_said_is_kept(url, stack, directory, servers):
    canary = f"Kanarie{uuid.uuid4().hex}"
    answer = ask(url, f"Explain in two sentences why the sky over {canary} is blue.", stream=False)
    request_id = answer.headers["x-request-id"]
    dsn = stack.settings["POSTGRES_DSN"]
    score, judge_model, judge_request_id, rubric = evidence_on(dsn, request_id)
    assert 0.0 <= score <= 1.0
    assert len(rubric) == 16
    judging, answered = row_of(stack, judge_request_id), row_of(stack, request_id)
    assert (judging["service_name"], judging["endpoint"], judging["status"]) == ("router-judge", "judge", "success")
    assert judging["model_used"] == judge_model
    assert judging["tenant_id"] == answered["tenant_id"]
    assert judging["cost_exact"] > 0
    assert [account.split("/")[0] for account in judging["budget_accounts"]] == ["router-judging"]
    assert answered["model_used"].startswith("gemini")
    assert judge_model.startswith("claude"), "another family"
    await settle(dsn)
    scored = row_of(stack, request_id)
    assert (scored["quality_score"], scored["quality_source"]) == (score, "judge")
    redis_url = stack.settings["REDIS_URL"].rsplit("/", 1)[0] + f"/{_DATABASE}"
    sinks = [*postgres_rows(dsn), *redis_values(redis_url), *files(servers.directories)]
    sinks += [(path.name, path.read_bytes()) for path in directory.rglob("*") if path.is_file()]
    text = answer.json()["choices"][0]["message"]["content"]
    assert any(request_id.encode() in content for _, content in sinks)
    assert [where for where, content in sinks if canary.encode() in content or text[:60].encode() in content] == []


def test_other_services_are_not_judged_and_nobody_waits_for_a_judge(url, stack):
    headers = {"x-router-service": "unjudged"}
    body = {"prompt": "Say hello to nobody in particular, please."}
    answer = requests.post(f"{url}/route", json=body, headers=headers, timeout=30)
    row_of(stack, answer.headers["x-request-id"])
    judged = ask(url, "Say hello to everybody in the room, please.")
    evidence_on(stack.settings["POSTGRES_DSN"], judged.headers["x-request-id"])
    with psycopg.connect(stack.settings["POSTGRES_DSN"], autocommit=True) as connection:
        found = connection.execute(
            "SELECT count(*) FROM quality_evidence WHERE request_id = %s", (answer.headers["x-request-id"],)
        ).fetchone()
    assert found == (0,)
