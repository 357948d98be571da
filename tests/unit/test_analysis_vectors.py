"""The vector that the classifier weighs, the formats inside a text, and the examples that the classifier learns from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.training.categories import CLASSES, fit, logits_of, quantised, rows_of, temperature_of, written
from infra.training.category_examples import examples
from shared.analysis.category_evidence import MARKS, Evidence, evidence_vector
from shared.analysis.ngrams import BUCKETS, text_vector
from shared.analysis.text_kind import TextShape, shape_of
from shared.domain.features import Category


@given(st.text(max_size=900))
def test_a_vector_is_sparse_ordered_and_of_bounded_length(text: str):
    used, values = text_vector(text)
    assert len(used) == len(values)
    assert np.all(np.diff(used) > 0)
    assert used.size == 0 or (used[0] >= 0 and used[-1] < BUCKETS)
    assert np.isfinite(values).all()
    # The root of the length over the root of 8; a window of 640 characters has below 4,000 n-grams.
    assert float(values @ values) < 4_000 / 8


def test_case_digits_and_spacing_do_not_matter_but_words_do():
    first, same, other = (text_vector(t) for t in ("Add 12  to\n34", "add 99 to \n\n 11", "add 12 from 34"))
    assert np.array_equal(first[0], same[0])
    assert np.array_equal(first[1], same[1])
    assert not np.array_equal(first[0], other[0])


def test_the_middle_of_a_long_text_is_not_looked_at():
    ends = "Summarize this. " * 40
    plain, filled = text_vector(ends + "x" * 5_000 + ends), text_vector(ends + "y" * 5_000 + ends)
    assert np.array_equal(plain[0], filled[0])


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("x^2 + 3 = 7", "formula"),
        ("<context>a</context> why?", "material"),
        ("Which?\n(a) one\n(b) two", "choices"),
        ("@@ -1,2 +1,2 @@", "diff"),
        ("KeyError: 'x'", "error"),
        ("why?", "ends_as_question"),
        ("你好吗？", "ends_as_question"),  # noqa: RUF001  # the mark of that script
        ("why?\nbecause", "asks_at_an_end"),
        ("a\nb\nc", "lines"),
        ("123 456", "figures"),
        ("word " * 50, "above_40_words"),
    ],
)
def test_marks(text: str, mark: str):
    used, _ = evidence_vector(Evidence(text))
    shown = {MARKS[number - BUCKETS] for number in used if number >= BUCKETS}
    assert mark in shown
    bare, _ = evidence_vector(Evidence("tell me"))
    assert mark not in {MARKS[number - BUCKETS] for number in bare if number >= BUCKETS}


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        ("", ()),
        ("Select a good one from the list, please.", ()),
        ("see https://example.com/x", ("url",)),
        ('{"a": 1}', ("json",)),
        ('{"a": 1}\n{"a": 2}\n', ("json",)),
        ("a;b;c\n1;2;3\n4;5;6", ("csv",)),
        ("<a><b/></a>", ("xml",)),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ("table",)),
        ("What now?\nAnd then?\nHm.\nWell.\n| a | b |\n|---|---|\n| 1 | 2 |", ("table",)),
        ("DELETE FROM t WHERE id = 3;", ("sql",)),
        ("```sql\nSELECT a FROM b\n```\nWhy is it slow?", ("sql",)),
        ("Parse:\n```json\n{}\n```\nthanks", ("json",)),
        ("look:\n```py\nx = 1\n```", ("code:python",)),
        ("```\nlet mut v = 1;\n```", ("code:rust",)),
        ("```\n???\n```", ("code",)),
    ],
)
def test_formats(text: str, formats: tuple[str, ...]):
    assert shape_of(text).formats == formats


@given(st.text(max_size=300) | st.text("{}[]<>|,;\t\n`\"'abc123=-", max_size=300))
def test_any_text_has_a_shape(text: str):
    shape = shape_of(text)
    assert isinstance(shape, TextShape)
    assert shape.content_type in {"prose", "code", "math", "data", "logs"}
    assert shape == shape_of(text)


def test_examples_cover_the_taxonomy_in_every_language_and_come_out_alike():
    first, again = ([*examples({}, 1, seed=3)] for _ in range(2))
    assert first == again
    pairs = {(example.language, example.category) for example in first}
    languages = {language for language, _ in pairs} - {"und", "cues"}
    assert len(languages) == 17
    assert {(language, category) for language in languages for category in Category} <= pairs
    assert not any("{" in e.evidence.instruction and "material}" in e.evidence.instruction for e in first)


def test_training_learns_and_what_is_written_is_what_was_learnt():
    wanted = {Category.TRANSLATION, Category.MATH}
    made = [e for e in examples({}, 1, seed=3) if e.language == "en" and e.category in wanted]
    rows = rows_of(made)
    weights = fit(rows, epochs=6)
    logits = logits_of(rows, weights)
    assert (logits.argmax(axis=1) == rows.classes).mean() > 0.95
    assert temperature_of(logits, rows.classes) < 1
    levels, scale = quantised(weights)
    assert np.abs(levels * scale - weights.matrix).mean() < scale.mean()
    source = written(weights, 0.5, "digest")
    values: dict[str, object] = {}
    exec(source, values)  # noqa: S102  # the module that was just written
    assert values["CLASSES"] == tuple(c.value for c in CLASSES)
    assert values["TEMPERATURE"] == 0.5
