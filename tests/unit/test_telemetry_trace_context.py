import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.trace_context import (
    format_traceparent,
    is_within_ratio,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def test_the_example_of_the_recommendation():
    parent = parse_traceparent(f"00-{TRACE}-{SPAN}-01")
    assert parent == (TRACE, SPAN, True)


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)])
def test_only_the_lowest_flag_means_sampled(flags, sampled):
    parent = parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}")
    assert parent is not None
    assert parent.sampled is sampled


@pytest.mark.parametrize(
    "header",
    [
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f" \t00-{TRACE}-{SPAN}-01 ",
    ],
)
def test_later_versions_and_padding_are_read(header):
    assert parse_traceparent(header) == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "-",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01.",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
        f"\u0660\u0660-{TRACE}-{SPAN}-01",
        "0" * 100_000,
    ],
)
def test_what_breaks_the_grammar_is_ignored(header):
    assert parse_traceparent(header) is None


@given(st.text())
def test_no_header_raises(header):
    parent = parse_traceparent(header)
    assert parent is None or len(parent.trace_id) == 32


@given(st.booleans())
def test_what_is_written_is_read_back(sampled):
    trace_id, span_id = new_trace_id(), new_span_id()
    assert parse_traceparent(format_traceparent(trace_id, span_id, sampled=sampled)) == (trace_id, span_id, sampled)


def test_sampling_keeps_its_share_and_depends_on_the_id_alone():
    trace_ids = [f"{'a' * 18}{index * (1 << 56) // 1000:014x}" for index in range(1000)]
    kept = [trace_id for trace_id in trace_ids if is_within_ratio(trace_id, 0.25)]
    assert len(kept) == 250
    assert all(is_within_ratio(trace_id, 0.5) for trace_id in kept)
    assert not any(is_within_ratio(trace_id, 0.0) for trace_id in trace_ids)
    assert is_within_ratio("f" * 32, 1.0)
