import asyncio
import contextvars

import pytest

from shared.domain.errors import DependencyUnavailable, InvalidRequest, ProviderTimeout
from shared.ports import Span, Telemetry
from shared.telemetry import RecordingTelemetry, spans

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


@pytest.fixture
def telemetry() -> RecordingTelemetry:
    return RecordingTelemetry()


def _request(telemetry, traceparent=None):
    return telemetry.request("POST /api/v1/route", request_id="r-1", traceparent=traceparent)


def test_the_twin_satisfies_the_ports(telemetry):
    port: Telemetry = telemetry
    with port.request("POST /x", request_id="r", traceparent=None) as span:
        active: Span = span
    assert active.trace_id == telemetry.spans[0].trace_id


def test_a_request_joins_the_callers_trace(telemetry):
    with _request(telemetry, f"00-{TRACE}-{CALLER}-01") as span:
        assert span.trace_id == TRACE
        assert span.parent_id == CALLER
        assert span.traceparent == f"00-{TRACE}-{span.span_id}-01"
    assert telemetry.requests == [span]


@pytest.mark.parametrize("header", [None, "", "nonsense", f"00-{'0' * 32}-{CALLER}-01"])
def test_without_a_valid_header_a_new_trace_begins(telemetry, header):
    with _request(telemetry, header) as first, _request(telemetry, header) as second:
        assert first.parent_id == second.parent_id == ""
        assert first.trace_id != second.trace_id
        assert int(first.trace_id, 16)


async def test_dependencies_nest_below_the_request_across_awaits_and_tasks(telemetry):
    async def call(name):
        with telemetry.dependency(name, kind="GRPC", target="vertex") as outer:
            await asyncio.sleep(0)
            with telemetry.dependency(f"{name} token", kind="HTTP", target="sts") as inner:
                await asyncio.sleep(0)
        return outer, inner

    async def serve():
        with _request(telemetry) as request:
            calls = await asyncio.gather(call("a"), call("b"), asyncio.create_task(call("c")))
        return request, calls

    served = await asyncio.gather(serve(), serve())
    assert len({request.trace_id for request, _ in served}) == 2
    for request, calls in served:
        for outer, inner in calls:
            assert (outer.trace_id, outer.parent_id) == (request.trace_id, request.span_id)
            assert (inner.trace_id, inner.parent_id) == (request.trace_id, outer.span_id)
            assert outer.request_id == "r-1"
    assert spans.current_span() is None


def test_siblings_share_the_parent_after_one_ended(telemetry):
    with _request(telemetry) as request:
        with telemetry.dependency("one", kind="Redis", target="cache"):
            pass
        with telemetry.dependency("two", kind="Redis", target="cache"):
            pass
    assert [span.parent_id for span in telemetry.dependencies] == [request.span_id] * 2


def test_a_dependency_outside_any_request_is_the_root_of_a_trace(telemetry):
    with telemetry.dependency("flush", kind="PostgreSQL", target="ledger") as span:
        assert span.parent_id == ""
        assert span.request_id == ""


def test_a_loop_that_outlives_its_request_gets_traces_of_its_own(telemetry, monkeypatch):
    with _request(telemetry) as request:
        inherited = contextvars.copy_context()

    def flush():
        with telemetry.dependency("flush", kind="PostgreSQL", target="ledger") as span:
            return span

    assert inherited.run(flush).parent_id == request.span_id
    monkeypatch.setattr(spans, "_ORPHANED_AFTER_S", -1.0)
    late = inherited.run(flush)
    assert late.parent_id == ""
    assert late.trace_id != request.trace_id


async def test_a_streamed_body_produced_elsewhere_stays_in_the_trace(telemetry):
    request = _request(telemetry)

    async def handler():
        return request.__enter__()

    async def body():
        try:
            with request.activate(), telemetry.dependency("stream", kind="GRPC", target="vertex"):
                yield b"chunk"
        finally:
            request.__exit__(None, None, None)

    async def produce():
        return [piece async for piece in body()]

    await asyncio.create_task(handler())
    assert await asyncio.create_task(produce()) == [b"chunk"]
    assert telemetry.dependencies[0].parent_id == request.span_id
    assert telemetry.requests == [request]
    assert spans.current_span() is None


def test_leaving_a_span_in_another_context_does_not_raise(telemetry):
    request = _request(telemetry)
    contextvars.copy_context().run(request.__enter__)
    request.__exit__(None, None, None)
    assert telemetry.requests == [request]


def test_a_span_ends_once_and_does_not_change_after(telemetry):
    with _request(telemetry) as span:
        span.set(status=200)
    span.set(status=500, late=True)
    span.fail("internal_error")
    span.__exit__(None, None, None)
    assert len(telemetry.spans) == 1
    assert span.attributes == {"status": 200}
    assert span.success


@pytest.mark.parametrize(
    ("attributes", "code", "success", "result"),
    [
        ({}, None, True, "0"),
        ({"status": 200}, None, True, "200"),
        ({"status": 399}, None, True, "399"),
        ({"status": 400}, None, False, "400"),
        ({"status": 429}, "rate_limit_exceeded", False, "429"),
        ({"status": 200}, "provider_unavailable", False, "200"),
        ({}, "provider_timeout", False, "provider_timeout"),
        ({"status": "UNAVAILABLE"}, "provider_unavailable", False, "UNAVAILABLE"),
    ],
)
def test_status_and_failure_decide_the_outcome(telemetry, attributes, code, success, result):
    with _request(telemetry) as span:
        span.set(**attributes)
        if code:
            span.fail(code)
    assert (span.success, span.result_code) == (success, result)


@pytest.mark.parametrize(
    ("error", "code", "type_name", "has_frames"),
    [
        (ProviderTimeout("late", code="vertex_late"), "vertex_late", "ProviderTimeout", False),
        (DependencyUnavailable("away"), "dependency_unavailable", "DependencyUnavailable", False),
        (InvalidRequest("bad"), "invalid_request", None, False),
        (asyncio.CancelledError(), "cancelled", None, False),
        (GeneratorExit(), "cancelled", None, False),
        (KeyError("a defect"), "internal_error", "KeyError", True),
    ],
)
def test_an_exception_that_leaves_names_the_failure(telemetry, error, code, type_name, has_frames):
    with pytest.raises(type(error)), _request(telemetry) as span:
        raise error
    assert span.error_code == code
    assert (span.fault.type_name if span.fault else None) == type_name
    assert bool(span.fault and span.fault.frames) is has_frames


def test_a_code_given_inside_wins_over_that_of_the_exception_that_leaves(telemetry):
    span = _request(telemetry)
    span.fail("provider_timeout")
    with pytest.raises(KeyError), span:
        raise KeyError
    assert span.error_code == "provider_timeout"
    assert span.fault is not None
    assert span.fault.type_name == "KeyError"


def test_the_frames_of_a_defect_are_bounded_and_hold_no_values(telemetry):
    def recurse(depth, secret):
        return recurse(depth - 1, secret) if depth else {}[secret]

    with pytest.raises(KeyError), _request(telemetry) as span:
        recurse(100, "canary")
    assert span.fault is not None
    assert len(span.fault.frames) == 30
    assert "canary" not in str(span.fault)
    assert span.fault.frames[-1].function.endswith("recurse")


@pytest.mark.parametrize(
    ("sampling", "honour", "flags", "sampled", "percentage"),
    [
        (1.0, False, None, True, 100.0),
        (0.0, False, None, False, 0.0),
        (0.0, False, "01", True, 100.0),  # a set flag is honoured, whatever our own share
        (1.0, False, "00", True, 100.0),  # a cleared one leaves the decision to us
        (1.0, True, "00", False, 100.0),  # unless told that callers mean it
        (1.0, True, None, True, 100.0),
    ],
)
def test_sampling(sampling, honour, flags, sampled, percentage):
    telemetry = RecordingTelemetry(sampling=sampling, honour_unsampled=honour)
    header = f"00-{TRACE}-{CALLER}-{flags}" if flags else None
    with _request(telemetry, header) as span, telemetry.dependency("x", kind="Redis", target="y") as below:
        assert (span.sampled, span.sample_percentage) == (sampled, percentage)
        assert (below.sampled, below.sample_percentage) == (sampled, percentage)
        assert below.traceparent.endswith("-01" if sampled else "-00")


@pytest.mark.parametrize("sampling", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(sampling):
    with pytest.raises(ValueError, match="sampling"):
        RecordingTelemetry(sampling=sampling)


async def test_the_twin_remembers_metrics_and_logs(telemetry):
    telemetry.count("requests", model="a", outcome="ok")
    telemetry.count("requests", 2, model="b", outcome="ok")
    telemetry.observe("latency_ms", 1.5, model="a")
    with _request(telemetry) as span:
        telemetry.log(30, "fallback", model="a")
    await telemetry.aclose()
    assert telemetry.counted("requests") == 3
    assert telemetry.counted("requests", model="b") == 2
    assert telemetry.observed("latency_ms", model="a") == [1.5]
    assert telemetry.observed("latency_ms", model="b") == []
    assert telemetry.events() == {"fallback": [{"model": "a"}]}
    assert telemetry.logs[0].span is span
    assert telemetry.closed
