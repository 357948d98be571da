"""Real vectors for the simulator: how texts become rows of pieces, and rows vectors. The model itself is optional."""

import argparse

import numpy as np
import pytest

from infra.local.simulator import __main__ as command
from infra.local.simulator import minilm
from infra.local.simulator.embedding import HashedVectors
from infra.local.simulator.minilm import MiniLmVectors

VOCABULARY = ["[PAD]", "[CLS]", "a", "cat", "dog", "##s"]


class Recorder:
    """In place of the model: the first number of a vector is the sum of the rows, and every pass is noted."""

    passes: list = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, folder):
        self.vocabulary = VOCABULARY

    def embed_sequences(self, rows):
        self.passes.append(rows.shape)
        vectors = np.zeros((len(rows), 384), np.float32)
        vectors[:, 0], vectors[:, 1] = rows.sum(axis=1), 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def vectors(monkeypatch, tmp_path):
    Recorder.passes = []
    monkeypatch.setattr(minilm, "MiniLM", Recorder)
    return MiniLmVectors(tmp_path)


def test_vectors_come_in_the_order_of_the_texts(vectors):
    found = vectors.of(["cat", "a cat", "dog", "cats", ""], 384)
    assert [round(vector[0] / vector[1]) for vector in found] == [3, 5, 4, 8, 0]
    assert all(np.linalg.norm(vector) == pytest.approx(1) for vector in found)
    assert sorted(Recorder.passes) == [(1, 0), (2, 1), (2, 2)]


def test_a_text_is_computed_once(vectors):
    first = vectors.of(["cat", "cat", "dog"], 384)
    again = vectors.of(["dog", "cat"], 384)
    assert Recorder.passes == [(2, 1)]
    assert np.array_equal(first[2], again[0])
    assert np.array_equal(first[0], first[1])


def test_what_is_kept_is_bounded(vectors, monkeypatch):
    monkeypatch.setattr(minilm, "_KEPT", 2)
    vectors.of(["cat", "dog", "a"], 384)
    vectors.of(["cat"], 384)
    vectors.of(["a"], 384)
    assert Recorder.passes == [(3, 1), (1, 1)]


def test_long_texts_are_cut_and_passes_stay_small(vectors):
    vectors.of(["cat " * 5000, "dog " * 5000, "a " * 5000], 384)
    assert Recorder.passes == [(2, 254), (1, 254)]


@pytest.mark.parametrize("dimensions", [1, 2, 100, 384, 3072])
def test_every_length_is_a_unit_vector_and_a_longer_one_changes_no_similarity(vectors, dimensions):
    cat, dog = vectors.of(["cat", "dog"], dimensions)
    assert len(cat) == dimensions
    assert np.linalg.norm(cat) == pytest.approx(1)
    if dimensions >= 384:
        own = vectors.of(["cat", "dog"], 384)
        assert cat @ dog == pytest.approx(own[0] @ own[1])


def test_which_vectors_are_served(monkeypatch, tmp_path):
    def served(wanted):
        arguments = argparse.Namespace(config=None, time_scale=None, seed=None, embeddings=wanted)
        return command.build(arguments).vectors

    monkeypatch.setattr(minilm, "installed", lambda: None)
    assert isinstance(served("auto"), HashedVectors)
    assert isinstance(served("hashed"), HashedVectors)
    with pytest.raises(ValueError, match="needs the package"):
        served("minilm")
    monkeypatch.setattr(minilm, "installed", lambda: tmp_path)
    assert served("auto").name == served("minilm").name == "all-MiniLM-L6-v2"
    assert isinstance(served("hashed"), HashedVectors)


@pytest.mark.skipif(minilm.installed() is None, reason="the optional package with the model is not installed")
def test_the_real_model_places_texts_by_meaning():
    texts = ["What is the capital of France?", "Paris is the French capital city.", "A boat travels upstream."]
    question, answer, boat = MiniLmVectors(minilm.installed()).of(texts, 384)
    assert question @ answer > 0.7
    assert question @ boat < 0.2
