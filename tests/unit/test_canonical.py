"""Canonical JSON: one text for one value, and the same that the fast writer makes."""

import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.canonical import canonical
from shared.services.receipts import fast_canonical

laws = settings(deadline=None, derandomize=True, max_examples=500)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**64 - 1)
values = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@laws
@given(values)
def test_the_fast_writer_writes_the_same_bytes(value: object) -> None:
    assert canonical(value) == fast_canonical(value)


@settings(deadline=None, derandomize=True, max_examples=3000)
@given(st.integers(0, 2**64 - 1))
def test_every_float_is_written_alike_and_reads_back_as_itself(bits: int) -> None:
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    if math.isfinite(value):
        written = canonical(value)
        assert written == fast_canonical(value)
        assert struct.pack("<d", json.loads(written)) == struct.pack("<d", value)


def test_powers_of_ten_around_every_change_of_notation() -> None:
    for power in range(-330, 308):
        for digits in ("1", "-1.5", "9.999999999999999", "1.2345678901234567"):
            value = float(f"{digits}e{power}")
            assert canonical(value) == fast_canonical(value)


@laws
@given(values)
def test_reading_and_writing_again_changes_nothing(value: object) -> None:
    written = canonical(value)
    assert canonical(json.loads(written)) == written


@laws
@given(st.dictionaries(texts, values, min_size=2, max_size=6))
def test_the_order_of_keys_does_not_count(value: dict[str, object]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_the_form() -> None:
    value = {"b": [1, 1.0, 1e-7, 1e16, -0.0], "a": {"é\u2028": 'x"\\\n\x1f\x7f/'}, "漢": None, "": True}
    assert canonical(value).decode() == (
        '{"":true,"a":{"é\u2028":"x\\"\\\\\\n\\u001f\x7f/"},"b":[1,1.0,1e-7,1e+16,-0.0],"漢":null}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**64, -(2**63) - 1, "\ud800"])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical([value])


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a", "b"}, b"bytes"])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)
