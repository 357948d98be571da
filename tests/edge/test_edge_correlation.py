"""One trace from the caller through the router to the model: each call upstream lies below its own attempt."""

from shared.domain.errors import ProviderUnavailable
from tests.edge.edge_harness import CHAT, PROVED
from tests.service.routing_doubles import ScriptedProvider

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_each_call_upstream_names_its_own_attempt_as_its_parent(build_edge):
    provider = ScriptedProvider({"a@eu": [[ProviderUnavailable("away", vendor_status="503")]]})
    edge = build_edge(provider)
    answer = await edge.post("chat/completions", CHAT, headers={**PROVED, "traceparent": CALLER})
    (request,) = edge.telemetry.requests
    attempts = edge.telemetry.dependencies
    assert request.trace_id == CALLER.split("-")[1]
    assert request.parent_id == CALLER.split("-")[2]
    assert [call.headers["traceparent"] for call in provider.calls] == [attempt.traceparent for attempt in attempts]
    assert attempts
    for attempt in attempts:
        assert attempt.trace_id == request.trace_id
        assert attempt.parent_id == request.span_id
    assert answer.status in {200, 503}


async def test_what_a_request_cost_is_measured_by_model_and_service(edge):
    assert (await edge.post("chat/completions", CHAT)).status == 200
    (record,) = await edge.records()
    assert edge.telemetry.observed("request_cost_usd", model="a", service="app-1") == [float(record.cost_usd)]
    assert record.cost_usd > 0
