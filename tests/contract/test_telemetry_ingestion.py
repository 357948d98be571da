"""What reaches a real ingestion endpoint on loopback: the envelopes, their joints, and what must not be in them."""

import asyncio
import json
import logging
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from shared.domain.errors import ProviderUnavailable
from shared.telemetry import build_telemetry
from shared.telemetry.ingestion import Ingestion
from tests.contract.telemetry_endpoint import CANARY, KEY, endpoint, eventually, make

__all__ = ["endpoint", "make"]  # pytest finds fixtures by their names in the module

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


async def test_caller_router_and_model_are_joined_in_one_operation(endpoint, make):
    telemetry = make()
    with telemetry.request("POST /api/v1/route", request_id="r-1", traceparent=TRACEPARENT) as request:
        request.set(status=200, model="gemini-flash", cost_usd=0.0125, stream=False)

        async def call_model():
            with telemetry.dependency("generateContent", kind="GRPC", target="europe-west4/gemini") as attempt:
                attempt.set(status="OK")
                await asyncio.sleep(0)
            return attempt

        attempt = await asyncio.create_task(call_model())
        telemetry.log(logging.INFO, "decided", model="gemini-flash", margin=0.25)
    await telemetry.aclose()

    by_type = {one["data"]["baseType"]: one for one in endpoint.accepted}
    served, called, logged = by_type["RequestData"], by_type["RemoteDependencyData"], by_type["MessageData"]
    assert {one["tags"]["ai.operation.id"] for one in (served, called, logged)} == {TRACE}
    assert served["tags"]["ai.operation.parentId"] == CALLER
    assert served["data"]["baseData"]["id"] == request.span_id
    assert called["tags"]["ai.operation.parentId"] == request.span_id
    assert called["data"]["baseData"]["id"] == attempt.span_id
    assert attempt.traceparent == f"00-{TRACE}-{attempt.span_id}-01"  # what the model's side would be joined by
    assert logged["tags"]["ai.operation.parentId"] == request.span_id
    for one in (served, called, logged):
        assert one["iKey"] == KEY
        assert one["tags"]["ai.cloud.role"] == "llm-router"
        assert "sampleRate" not in one


async def test_request_dependency_and_log_carry_what_the_schema_asks(endpoint, make):
    telemetry = make()
    with telemetry.request("GET /api/v1/receipts/{id}", request_id="r-1", traceparent=None) as request:
        request.set(status=404, service="billing", cached=True, absent=None)
        with telemetry.dependency("EVALSHA", kind="Redis", target="cache:6380"):
            pass
        telemetry.log(logging.WARNING, "limits_degraded", rule="rpm")
    await telemetry.aclose()

    (served,) = endpoint.of("Request")
    assert served["name"] == "GET /api/v1/receipts/{id}"
    assert served["url"] == "/api/v1/receipts/{id}"
    assert served["responseCode"] == "404"
    assert served["success"] is False
    assert served["duration"].startswith("0.00:00:0")
    assert served["properties"] == {"status": "404", "service": "billing", "cached": "true", "request_id": "r-1"}
    (called,) = endpoint.of("RemoteDependency")
    assert (called["type"], called["target"], called["name"]) == ("Redis", "cache:6380", "EVALSHA")
    assert (called["success"], called["resultCode"]) == (True, "0")
    assert "data" not in called
    (logged,) = endpoint.of("Message")
    assert logged["message"] == "limits_degraded"
    assert logged["severityLevel"] == 2
    assert logged["properties"] == {"rule": "rpm", "request_id": "r-1"}
    envelope = next(one for one in endpoint.accepted if one["data"]["baseType"] == "RequestData")
    assert "ai.operation.parentId" not in envelope["tags"]
    assert envelope["tags"]["ai.operation.name"] == "GET /api/v1/receipts/{id}"
    assert envelope["time"].endswith("+00:00")


async def test_an_exception_is_its_class_and_our_code(endpoint, make):
    telemetry = make()
    with (
        pytest.raises(ProviderUnavailable),
        telemetry.request("POST /api/v1/route", request_id="r-1", traceparent=TRACEPARENT) as provider,
    ):
        raise ProviderUnavailable(f"said {CANARY}")
    with telemetry.request("POST /api/v1/route", request_id="r-2", traceparent=TRACEPARENT) as defect:
        try:
            {}[CANARY]
        except KeyError as error:
            defect.set(status=500)
            defect.fail("internal_error", error)
    await telemetry.aclose()

    known, unknown = (data["exceptions"][0] for data in endpoint.of("Exception"))
    assert (known["typeName"], known["message"], known["parsedStack"]) == (
        "ProviderUnavailable",
        "provider_unavailable",
        [],
    )
    assert (unknown["typeName"], unknown["message"]) == ("KeyError", "internal_error")
    assert unknown["parsedStack"][0]["method"].endswith("test_an_exception_is_its_class_and_our_code")
    parents = [
        one["tags"]["ai.operation.parentId"] for one in endpoint.accepted if one["data"]["baseType"] == "ExceptionData"
    ]
    assert parents == [provider.span_id, defect.span_id]
    assert [data["responseCode"] for data in endpoint.of("Request")] == ["provider_unavailable", "500"]
    assert CANARY not in json.dumps(endpoint.posts)


async def test_a_test_of_availability_carries_what_the_schema_asks_and_is_never_sampled(endpoint, make):
    telemetry = make(sampling=0.0, run_location="West Europe")
    with telemetry.request("report_availability", request_id="r-1", traceparent=None) as job:
        telemetry.availability(
            "self/redis", success=False, duration_ms=61_001.4, message="away", required=False, region=None
        )
    telemetry.availability("self/router", success=True, duration_ms=0.0)
    await telemetry.aclose()

    assert endpoint.of("Request") == []
    failed, went_well = endpoint.accepted
    for one in (failed, went_well):
        assert (one["iKey"], one["name"]) == (KEY, "Microsoft.ApplicationInsights.Availability")
        assert one["data"]["baseType"] == "AvailabilityData"
        assert one["data"]["baseData"].keys() == {
            "ver",
            "id",
            "name",
            "duration",
            "success",
            "runLocation",
            "message",
            "properties",
        }
        assert (one["data"]["baseData"]["ver"], one["data"]["baseData"]["runLocation"]) == (2, "West Europe")
        assert one["tags"]["ai.cloud.role"] == "llm-router"
        assert "sampleRate" not in one
    assert failed["tags"]["ai.operation.id"] == job.trace_id
    assert failed["tags"]["ai.operation.parentId"] == job.span_id
    assert "ai.operation.id" not in went_well["tags"]
    first, second = (one["data"]["baseData"] for one in (failed, went_well))
    assert (first["name"], first["success"], first["message"]) == ("self/redis", False, "away")
    assert first["duration"] == "0.00:01:01.001"
    assert first["properties"] == {"required": "false"}
    assert (second["success"], second["message"], second["duration"]) == (True, "", "0.00:00:00.000")
    assert 0 < len(first["id"]) <= 64
    assert first["id"] != second["id"]
    began, told = (datetime.fromisoformat(one["time"]) for one in (failed, went_well))
    assert timedelta(seconds=60) < told - began < timedelta(seconds=120)  # the row's time is when the test began


@pytest.mark.parametrize("duration_ms", [-1.0, float("nan"), float("inf")])
async def test_a_duration_that_is_none_does_not_cost_the_result(endpoint, make, duration_ms):
    telemetry = make()
    telemetry.availability("self/router", success=True, duration_ms=duration_ms)
    await telemetry.aclose()
    assert [data["duration"] for data in endpoint.of("Availability")] == ["0.00:00:00.000"]


async def test_where_no_region_is_known_the_role_is_the_location(endpoint, make):
    telemetry = make()
    telemetry.availability("self/router", success=True, duration_ms=1.0)
    await telemetry.aclose()
    assert [data["runLocation"] for data in endpoint.of("Availability")] == ["llm-router"]


async def test_no_content_leaves(endpoint, make):
    telemetry = make()
    name = f"GET /api/v1/models?prompt={CANARY}"

    def serve() -> None:
        with telemetry.request(name, request_id="r-1", traceparent=None) as request:
            request.set(prompt=CANARY * 30)
            with telemetry.dependency(f"GET ?{CANARY}", kind="HTTP", target=f"host?{CANARY}") as called:
                called.set(body=CANARY * 30)
            telemetry.log(logging.ERROR, "failed", text=CANARY * 30)
            telemetry.count("requests", prompt=CANARY * 30)
            telemetry.availability(CANARY * 30, success=False, duration_ms=1, message=CANARY * 30, text=CANARY * 30)
            raise KeyError(CANARY)

    with pytest.raises(KeyError):
        serve()
    await telemetry.aclose()
    assert len(endpoint.accepted) == 6
    assert CANARY not in json.dumps(endpoint.posts)
    assert endpoint.of("Request")[0]["url"] == "/api/v1/models"


async def test_metrics_are_aggregated(endpoint, make):
    telemetry = make(metrics_interval_s=3600.0)
    for value in (1.0, 2.0, 3.0, 6.0):
        telemetry.observe("overhead_ms", value, route="chat")
    telemetry.count("fallbacks", 2, model="a")
    telemetry.count("fallbacks", model="a")
    telemetry.count("fallbacks", model="b")
    await telemetry.aclose()

    ((overhead, dimensions),) = endpoint.metric("overhead_ms")
    assert dimensions == {"route": "chat"}
    assert (overhead["value"], overhead["count"], overhead["min"], overhead["max"]) == (12.0, 4, 1.0, 6.0)
    assert overhead["stdDev"] == pytest.approx(1.8708286)
    assert overhead["kind"] == "Aggregation"
    fallbacks = {properties["model"]: point["value"] for point, properties in endpoint.metric("fallbacks")}
    assert fallbacks == {"a": 3, "b": 1}


async def test_metrics_are_exported_periodically(endpoint, make):
    telemetry = make()
    telemetry.count("first")
    await eventually(lambda: endpoint.metric("first"))
    telemetry.count("second")
    await eventually(lambda: endpoint.metric("second"))
    assert len(endpoint.metric("first")) == 1


async def test_sampling_leaves_metrics_and_warnings_alone(endpoint, make):
    telemetry = make(sampling=0.0)
    with telemetry.request("POST /api/v1/route", request_id="r-1", traceparent=None):
        with telemetry.dependency("EVALSHA", kind="Redis", target="cache"):
            telemetry.count("requests")
        telemetry.log(logging.INFO, "decided")
        telemetry.log(logging.WARNING, "fallback")
    telemetry.log(logging.INFO, "started")
    await telemetry.aclose()
    assert endpoint.of("Request") == endpoint.of("RemoteDependency") == []
    assert [data["message"] for data in endpoint.of("Message")] == ["fallback", "started"]
    assert len(endpoint.metric("requests")) == 1


async def test_sampled_spans_say_what_share_they_stand_for(endpoint, make):
    telemetry = make(sampling=0.5)
    kept = 0
    for _ in range(64):
        with telemetry.request("POST /api/v1/route", request_id="r", traceparent=None) as span:
            kept += span.sampled
    await telemetry.aclose()
    spans = [one for one in endpoint.accepted if one["data"]["baseType"] == "RequestData"]
    assert len(spans) == kept
    assert {one["sampleRate"] for one in spans} <= {50.0}


_PROCESS = """
import sys
connected = []
def audit(event, args):
    if event == "socket.connect":
        connected.append(args[1])
    elif event == "socket.getaddrinfo":
        connected.append((args[0], args[1]))
sys.addaudithook(audit)
from shared.telemetry import build_telemetry
telemetry = build_telemetry(sys.argv[1], role_name="llm-router", storage_path=sys.argv[2])
with telemetry.request("GET /api/v1/models", request_id="r-1", traceparent=None) as span:
    span.set(status=200)
telemetry.count("requests")
if sys.argv[3] == "stop":
    import asyncio
    asyncio.run(telemetry.aclose())
    print(sorted({str(host) for host, *_ in connected}))
    print([name for name in sys.modules if name.startswith("opencensus.ext.azure.statsbeat.statsbeat")])
"""


@pytest.mark.parametrize("ending", ["stop", "exit"])
def test_only_the_endpoint_is_contacted_and_leaving_flushes(endpoint, tmp_path, ending):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROCESS, endpoint.connection_string, str(tmp_path), ending],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    if ending == "stop":
        assert done.stdout.splitlines() == ["['127.0.0.1']", "[]"]
    assert [data["name"] for data in endpoint.of("Request")] == ["GET /api/v1/models"]
    assert len(endpoint.metric("requests")) == 1


async def test_build_telemetry_sends(endpoint, tmp_path):
    telemetry = build_telemetry(endpoint.connection_string, role_name="llm-router", storage_path=str(tmp_path))
    telemetry.log(logging.CRITICAL, "started")
    await telemetry.aclose()
    assert [(data["message"], data["severityLevel"]) for data in endpoint.of("Message")] == [("started", 4)]


def test_a_semicolon_at_the_end_of_the_variable_does_no_harm(monkeypatch, tmp_path):
    text = "InstrumentationKey=11111111-2222-3333-4444-555555555555;IngestionEndpoint=http://127.0.0.1:9/;"
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", f" {text} ")
    ingestion = Ingestion(text, storage_path=str(tmp_path))
    assert ingestion.options.endpoint == "http://127.0.0.1:9"
    ingestion.close()
