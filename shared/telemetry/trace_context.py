"""W3C Trace Context: reading and writing `traceparent` (https://www.w3.org/TR/trace-context/, level 1)."""

import os
import re
from typing import NamedTuple

_VERSION_00 = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
# A later version may append fields, each behind its own dash (section 4.3, "Versioning of traceparent").
_LATER_VERSION = re.compile(r"(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_SAMPLED = 0x01
_RANDOM_BITS = 56
"""The rightmost 7 bytes of a trace id are the ones that generators promise to be random (level 2, section 5.1)."""


class RemoteParent(NamedTuple):
    """What a valid `traceparent` says.

    Attributes:
        sampled: whether the caller may have recorded the trace.
    """

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(header: str | None) -> RemoteParent | None:
    """The caller's position in its trace, or None for a header that is absent or breaks the grammar.

    An invalid header is ignored as a whole and a new trace begins, as section 3.2.2 asks: nothing is raised.
    """
    if not header:
        return None
    # Optional whitespace around a field value is not part of it (RFC 9110, section 5.5).
    stripped = header.strip(" \t")
    match = _VERSION_00.fullmatch(stripped) or _LATER_VERSION.fullmatch(stripped)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return RemoteParent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def format_traceparent(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """The header that names `span_id` as the parent of what happens next."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


def new_trace_id() -> str:
    """32 random hex digits. From the kernel: unlike a seeded generator it cannot repeat itself after a fork."""
    trace_id = os.urandom(16).hex()
    return trace_id if trace_id != _NO_TRACE else new_trace_id()


def new_span_id() -> str:
    """16 random hex digits."""
    span_id = os.urandom(8).hex()
    return span_id if span_id != _NO_SPAN else new_span_id()


def is_within_ratio(trace_id: str, ratio: float) -> bool:
    """Whether a trace belongs to the given share of all traces.

    Depends on the id alone, so that every process that sees the trace decides alike.
    """
    return int(trace_id[-_RANDOM_BITS // 4 :], 16) < ratio * (1 << _RANDOM_BITS)
