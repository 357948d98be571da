"""The real library that runs Python functions in Azure indexes this app and runs its functions.

`azure-functions-runtime` is what the Functions host talks to; here a child process plays the host. Functions of all three
triggers meet the real stack behind them.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from functions.http import PREFIX, ROUTES
from infra.local.environment import REPOSITORY, Directories, function_app_environment
from shared.domain.record_codec import encode
from tests.stores_builders import record

MODEL = "gemini-3.8-flash"
JSON = {"content-type": "application/json"}
TIMER = {"IsPastDue": False, "Schedule": {"AdjustForDST": True}, "ScheduleStatus": {}}
DEADLINE_S = 90.0


class Runtime:
    """The child process, its two pipes and its log."""

    def __init__(self, environment, log_path):
        self.journal = environment["ROUTER_JOURNAL_DIR"]
        self._log_path = log_path
        self._log = log_path.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("functions_runtime_host.py")), str(REPOSITORY)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.indexed = self._read()

    def run(self, function, **order):
        """Orders one invocation and returns how it ended."""
        self._process.stdin.write(json.dumps({"function": function, **order}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def post(self, function, path, body, **more):
        request = {"method": "POST", "path": f"/api/{PREFIX}/{path}", "headers": JSON, "body": json.dumps(body), **more}
        return self.run(function, http=request)["http"]

    def _read(self):
        line = self._process.stdout.readline()
        assert line, f"the runtime ended; the end of its log:\n{self._log_path.read_text()[-4000:]}"
        return json.loads(line)

    def stop(self):
        """Ends the process; returns its exit code."""
        try:
            self._process.communicate(timeout=DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()
        return self._process.returncode


@pytest.fixture(scope="module")
def runtime(servers, postgres_dsn, redis_url, azurite, simulator, tmp_path_factory):
    directories = Directories(tmp_path_factory.mktemp("functions-runtime"))
    settings = function_app_environment(servers.ports, directories, dsn=postgres_dsn)
    started = Runtime({**os.environ, **settings}, directories.root / "runtime.log")
    try:
        assert "error" not in started.indexed, started.indexed
        yield started
    finally:
        code = started.stop()
    assert code == 0, "closing the container failed"


@pytest.fixture
def ledger(postgres_dsn):
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


def row_of(ledger, request_id, *, deadline_s=DEADLINE_S):
    """The request's row, which is written behind the response."""
    deadline = time.monotonic() + deadline_s
    while True:
        row = ledger.execute("SELECT status, stream, model_used FROM requests WHERE id = %s", (request_id,)).fetchone()
        if row is not None:
            return row
        assert time.monotonic() < deadline, f"no record of {request_id}"
        time.sleep(0.05)


def test_every_function_is_indexed_with_its_trigger(runtime):
    functions = runtime.indexed["functions"]
    triggers = {name: function["bindings"][0] for name, function in functions.items()}
    routes = {
        (trigger["route"], tuple(trigger["methods"]))
        for trigger in triggers.values()
        if trigger["type"] == "httpTrigger"
    }
    assert routes == {(f"{PREFIX}/{route.path}", (route.method,)) for route in ROUTES}
    assert {route.name for route in ROUTES} < set(functions)
    assert triggers["store_spilled_records"]["queueName"] == "request-log"
    timers = {name for name, trigger in triggers.items() if trigger["type"] == "timerTrigger"}
    assert timers >= {"recover_records", "prepare_partitions"}
    assert all(function["worker_indexed"] == "True" for function in functions.values())


def test_no_key_is_asked_for_because_the_door_asks_for_identity(runtime):
    bindings = [f["bindings"][0] for f in runtime.indexed["functions"].values()]
    assert {b["authLevel"] for b in bindings if b["type"] == "httpTrigger"} == {"ANONYMOUS"}


def test_streaming_over_http_v2_is_on(runtime):
    capabilities = runtime.indexed["capabilities"]
    assert capabilities["HttpUri"].startswith("http://")
    assert capabilities["RequiresRouteParameters"] == "true"


def test_a_plain_answer_and_its_record(runtime, ledger):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    answer = runtime.post("chat_completions", "chat/completions", body)
    reply = json.loads(answer["body"])
    assert answer["status"] == 200
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["message"]["content"]
    assert answer["headers"]["x-router-model"] == reply["model"] == MODEL
    assert row_of(ledger, answer["headers"]["x-request-id"]) == ("success", False, MODEL)


def test_a_route_value_arrives(runtime):
    request = {"method": "GET", "path": f"/api/{PREFIX}/models/{MODEL}", "params": {"model": MODEL}}
    answer = runtime.run("model", http=request)["http"]
    assert (answer["status"], json.loads(answer["body"])["id"]) == (200, MODEL)


def test_a_refusal_keeps_its_status_and_envelope(runtime):
    answer = runtime.post("chat_completions", "chat/completions", {"messages": []})
    error = json.loads(answer["body"])["error"]
    assert answer["status"] == 400
    assert error["param"] == "messages"
    assert error["request_id"] == answer["headers"]["x-request-id"]


def test_a_streamed_answer_and_its_record(runtime, ledger):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": True}
    answer = runtime.post("chat_completions", "chat/completions", body)
    events = answer["body"].split("\n\n")
    assert answer["status"] == 200
    assert answer["headers"]["content-type"].startswith("text/event-stream")
    assert events[-2:] == ["data: [DONE]", ""]
    assert json.loads(events[-3].removeprefix("data: "))["choices"][0]["finish_reason"] == "stop"
    assert row_of(ledger, answer["headers"]["x-request-id"]) == ("success", True, MODEL)


STREAMED = {
    "chat/completions": ({"messages": [{"role": "user", "content": "Tell me about rivers."}]}, '"delta":{"content":"['),
    "responses": ({"input": "Tell me about rivers."}, "response.output_text.delta"),
}


@pytest.mark.parametrize("path", STREAMED)
def test_events_leave_while_the_model_still_works_and_a_caller_who_goes_ends_it(runtime, ledger, simulator, path):
    # The model falls silent after its second piece: what arrives has not waited for the end of the answer.
    simulator.set_faults([{"match": {}, "fault": "stall", "after_chunks": 2}])
    body, sign = STREAMED[path]
    request = {
        "method": "POST",
        "path": f"/api/{PREFIX}/{path}",
        "headers": JSON,
        "body": json.dumps({"model": MODEL, "stream": True, **body}),
        "leave_after": sign,
    }
    answer = runtime.run(path.replace("/", "_"), http=request)["http"]
    assert "[DONE]" not in answer["body"]
    assert "response.completed" not in answer["body"]
    # No heartbeat would tell of the leaving for another 15 s: the row is there before.
    assert row_of(ledger, answer["headers"]["x-request-id"], deadline_s=10) == ("cancelled", True, MODEL)
    with urllib.request.urlopen(f"{simulator.http_endpoint}/_sim/calls?last=1", timeout=10) as page:  # noqa: S310 - our own
        assert json.load(page)["calls"][0]["status"] == "cancelled"


def test_vectors(runtime, ledger):
    answer = runtime.post("embeddings", "embeddings", {"model": "auto", "input": ["one", "two"], "dimensions": 8})
    body = json.loads(answer["body"])
    assert [len(row["embedding"]) for row in body["data"]] == [8, 8]
    assert row_of(ledger, answer["headers"]["x-request-id"]) == ("success", False, "gemini-embedding-001")


def test_a_queue_message_is_stored_once_however_often_it_comes(runtime, ledger):
    first, second = record(), replace(record(), service_name="other")
    message = encode([first, second])
    assert runtime.run("store_spilled_records", queue=message)["status"] == "success"
    assert runtime.run("store_spilled_records", queue=message)["status"] == "success"
    stored = ledger.execute(
        "SELECT service_name, (SELECT count(*) FROM attempts WHERE request_id = requests.id) FROM requests"
        " WHERE id = ANY(%s::uuid[]) ORDER BY service_name",
        ([first.id, second.id],),
    ).fetchall()
    assert stored == [(first.service_name, len(first.attempts)), ("other", len(second.attempts))]


def test_a_queue_message_that_nobody_can_read_fails_so_that_the_host_sets_it_aside(runtime):
    ended = runtime.run("store_spilled_records", queue='{"v": 1, "records": "none"}')
    assert ended["status"] == "failure"
    assert "records: not a list" in ended["error"]


def test_a_timer_makes_the_partition_that_is_missing(runtime, ledger):
    months = "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'requests'::regclass"
    before = {name for (name,) in ledger.execute(months)}
    newest = max(name for name in before if name.rpartition("_")[2].isdigit())
    ledger.execute(f'DROP TABLE "{newest}"')
    assert runtime.run("prepare_partitions", timer=TIMER)["status"] == "success"
    assert {name for (name,) in ledger.execute(months)} == before


DYING_WORKER = """
import sys
from pathlib import Path
from shared.stores.journal import FileJournal
from tests.stores_builders import record
left = record()
FileJournal(Path(sys.argv[1])).finished(left)
print(left.id)
"""


def test_a_past_due_timer_writes_what_a_dead_worker_left(runtime, ledger):
    worker = [sys.executable, "-c", DYING_WORKER, runtime.journal]
    left = subprocess.run(worker, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    assert runtime.run("recover_records", timer={**TIMER, "IsPastDue": True})["status"] == "success"
    assert row_of(ledger, left)[0] == "success"
