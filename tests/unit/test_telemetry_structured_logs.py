import json
import logging
import subprocess
import sys
import threading
from decimal import Decimal

import pytest

from shared.domain.errors import ProviderUnavailable
from shared.telemetry import LoggingTelemetry, build_telemetry

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CANARY = "canary-7f3a"


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.DEBUG, logger="llm_router")

    def read():
        return [json.loads(record.getMessage()) for record in caplog.records if record.name == "llm_router"]

    return read


@pytest.mark.parametrize("connection_string", [None, ""])
async def test_without_a_connection_string_there_are_lines_and_no_thread(connection_string, lines):
    before = threading.enumerate()
    telemetry = build_telemetry(connection_string, role_name="router")
    assert isinstance(telemetry, LoggingTelemetry)
    with telemetry.request("GET /api/v1/models", request_id="r-1", traceparent=TRACEPARENT) as span:
        span.set(status=200)
    await telemetry.aclose()
    assert threading.enumerate() == before
    (line,) = lines()
    assert line["event"] == "request"
    assert line["role"] == "router"
    assert line["name"] == "GET /api/v1/models"
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert line["parent_id"] == "00f067aa0ba902b7"
    assert line["request_id"] == "r-1"
    assert line["result"] == "200"
    assert line["success"] is True
    assert line["duration_ms"] >= 0


def test_each_kind_of_event_is_one_line_of_its_level(lines, caplog):
    telemetry = LoggingTelemetry(role_name="router")
    with telemetry.request("POST /api/v1/route", request_id="r-1", traceparent=None) as request:
        with telemetry.dependency("GET", kind="Redis", target="cache"):
            pass
        with (
            pytest.raises(ProviderUnavailable),
            telemetry.dependency("generate", kind="GRPC", target="vertex") as failed,
        ):
            raise ProviderUnavailable(CANARY)
        telemetry.count("fallbacks", model="a")
        telemetry.observe("overhead_ms", 1.25)
        telemetry.log(logging.ERROR, "spilled", records=3, ok=True, cost=1.5, skipped=None)
    redis, vertex, count, observation, log, last = lines()
    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING", "DEBUG", "DEBUG", "ERROR", "INFO"]
    assert (redis["kind"], redis["target"], redis["success"]) == ("Redis", "cache", True)
    assert (vertex["code"], vertex["exception_type"]) == ("provider_unavailable", "ProviderUnavailable")
    assert vertex["span_id"] == failed.span_id
    assert vertex["parent_id"] == request.span_id
    assert (count["name"], count["value"], count["fields"]) == ("fallbacks", 1, {"model": "a"})
    assert (observation["name"], observation["value"]) == ("overhead_ms", 1.25)
    assert log["fields"] == {"records": 3, "ok": True, "cost": 1.5}
    assert log["span_id"] == request.span_id
    assert {line["trace_id"] for line in lines()} == {request.trace_id}
    assert last["event"] == "request"


def test_no_content_gets_into_a_line(lines, caplog):
    telemetry = LoggingTelemetry(role_name="router")
    name = f"GET /api/v1/models?prompt={CANARY}"

    def serve():
        with telemetry.request(name, request_id="r-1", traceparent=None) as span:
            span.set(answer=CANARY * 100)
            telemetry.log(logging.INFO, "late", text=CANARY * 100)
            raise KeyError(CANARY)

    with pytest.raises(KeyError):
        serve()
    assert len(lines()) == 2
    assert CANARY not in caplog.text
    assert lines()[1]["fields"]["answer"] == "<omitted: 1100 characters>"


def test_odd_values_stay_valid_json_in_one_line(lines, caplog):
    telemetry = LoggingTelemetry(role_name="router")
    telemetry.log(logging.INFO, "odd", nan=float("nan"), lines="a\nb\u2028c", cost=Decimal("0.10"), percent="%s %d")
    (line,) = lines()
    assert line["fields"] == {"nan": "nan", "lines": "a\nb\u2028c", "cost": "0.10", "percent": "%s %d"}
    assert len(caplog.records[0].getMessage().splitlines()) == 1


def test_a_silent_logger_costs_no_line(caplog):
    caplog.set_level(logging.ERROR, logger="llm_router")
    telemetry = LoggingTelemetry(role_name="router")
    with telemetry.request("GET /x", request_id="r", traceparent=None):
        telemetry.count("x")
        telemetry.log(logging.INFO, "y")
    assert caplog.records == []


def test_the_library_is_not_imported_without_a_connection_string():
    code = (
        "import sys; from shared.telemetry import build_telemetry; build_telemetry(None, role_name='r');"
        "print([name for name in sys.modules if name.split('.')[0] in ('opencensus', 'requests', 'azure')])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "connection_string",
    [
        "nonsense",
        "InstrumentationKey=not-a-uuid;IngestionEndpoint=http://127.0.0.1:1/",
        "IngestionEndpoint=http://127.0.0.1:1/",
    ],
)
def test_a_connection_string_that_cannot_be_read_is_refused(connection_string, monkeypatch):
    monkeypatch.delenv("APPLICATIONINSIGHTS_CONNECTION_STRING", raising=False)
    before = threading.enumerate()
    with pytest.raises(ValueError):
        build_telemetry(connection_string, role_name="router")
    assert threading.enumerate() == before


def test_a_test_of_availability_is_a_line_and_a_failed_one_a_warning(lines, caplog):
    telemetry = LoggingTelemetry(role_name="router")
    with telemetry.request("report_availability", request_id="r-1", traceparent=None) as job:
        telemetry.availability("self/redis", success=False, duration_ms=1.23456, message="away", required=True)
    telemetry.availability("self/router", success=True, duration_ms=float("nan"))
    failed, _, went_well = lines()
    assert (failed["level"], went_well["level"]) == ("WARNING", "DEBUG")
    assert failed["trace_id"] == job.trace_id
    assert (failed["event"], failed["name"], failed["message"]) == ("availability", "self/redis", "away")
    assert (failed["success"], failed["duration_ms"], failed["fields"]) == (False, 1.235, {"required": True})
    assert (went_well["success"], went_well["duration_ms"]) == (True, 0.0)
    assert "message" not in went_well
    assert "trace_id" not in went_well
    caplog.set_level(logging.INFO, logger="llm_router")
    telemetry.availability("self/router", success=True, duration_ms=1.0)
    assert len(lines()) == 3


def test_a_long_text_of_a_test_of_availability_is_replaced_by_its_length(lines):
    LoggingTelemetry(role_name="router").availability(
        CANARY * 30, success=False, duration_ms=1.0, message=CANARY * 30, text=CANARY * 30
    )
    assert CANARY not in str(lines())
