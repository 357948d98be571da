"""Which texts are alike, and what they are about."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.rag.similarity import clusters, key_phrases, matrix_of, nearest, pairwise, topic_labels

_VALUES = st.floats(-1, 1, width=32)
VECTORS = st.lists(st.tuples(_VALUES, _VALUES, _VALUES), min_size=1, max_size=12)


def rows_of(vectors):
    return matrix_of([np.array(vector, "<f4").tobytes() for vector in vectors])


def test_vectors_become_unit_rows_and_one_without_direction_becomes_zero():
    rows = rows_of([(3, 4, 0), (0, 0, 0), (float("nan"), 1, 0)])
    assert rows.tolist() == [pytest.approx([0.6, 0.8, 0]), [0, 0, 0], [0, 1, 0]]
    assert matrix_of([]).shape == (0, 0)
    with pytest.raises(ValueError, match="one length"):
        matrix_of([b"\0" * 4, b"\0" * 8])


@given(VECTORS)
def test_similarity_is_symmetric_bounded_and_one_with_itself(vectors):
    similarity = pairwise(rows_of(vectors))
    assert (similarity == similarity.T).all()
    assert similarity.min() >= -1
    assert similarity.max() <= 1
    assert (np.diag(similarity) == 1).all()


@settings(deadline=None)
@given(VECTORS, st.floats(-1, 1))
def test_every_text_is_in_one_cluster_whose_texts_are_as_alike_as_asked(vectors, threshold):
    similarity = pairwise(rows_of(vectors))
    found = clusters(similarity, threshold)
    assert sorted(place for cluster in found for place in cluster.members) == list(range(len(vectors)))
    for cluster in found:
        inside = similarity[np.ix_(cluster.members, cluster.members)]
        assert cluster.cohesion == pytest.approx(inside.min())
        assert cluster.centre in cluster.members
        assert len(cluster.members) == 1 or inside.min() >= threshold
    assert [len(cluster.members) for cluster in found] == sorted((len(c.members) for c in found), reverse=True)


def test_a_chain_of_neighbours_is_no_cluster():
    angles = np.radians([0, 30, 60])
    similarity = pairwise(rows_of([(np.cos(a), np.sin(a), 0) for a in angles]))
    assert [cluster.members for cluster in clusters(similarity, 0.8)] == [(0, 1), (2,)]


def test_the_nearest_others_come_in_order_and_a_text_is_not_its_own():
    similarity = pairwise(rows_of([(1, 0, 0), (0.8, 0.6, 0), (0, 1, 0), (1, 0, 0)]))
    assert [[place for place, _ in near] for near in nearest(similarity, 2)] == [[3, 1], [0, 3], [1, 0], [0, 1]]
    assert len(nearest(similarity, 10)[0]) == 3


def test_phrases_that_are_said_again_come_first_and_parts_of_longer_ones_do_not_count():
    text = (
        "Azure Functions scale on demand. The premium plan of Azure Functions keeps workers warm, so cold starts are "
        "rare. Gemini models serve answers; cold starts do not matter there. Azure Functions again."
    )
    found = key_phrases(text, 3)
    assert [phrase.text for phrase in found[:2]] == ["Azure Functions", "cold starts"]
    assert found[0].score == 1.0
    assert len(found) == 3
    assert "Functions" not in [phrase.text for phrase in key_phrases(text, 50)]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("机器学习是人工智能的分支。机器学习用数据训练模型,人工智能很重要。", {"机器学习", "人工智能"}),
        ("Die Kündigungsfrist beträgt drei Monate. Nach der Kündigungsfrist endet der Vertrag.", {"Kündigungsfrist"}),
        ("the of and to 12 345 ... !!!", set()),
        ("", set()),
    ],
)
def test_phrases_in_other_scripts_and_in_none(text, phrases):
    assert {phrase.text for phrase in key_phrases(text, 2)} >= phrases
    if not phrases:
        assert key_phrases(text, 5) == ()


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(1, 5))
def test_any_text_gives_phrases_that_stand_in_it(text, count):
    found = key_phrases(text, count)
    assert len(found) <= count
    assert all(phrase.text in text and 0 < phrase.score <= 1 for phrase in found)


def test_labels_tell_a_cluster_from_the_others():
    texts = [
        "The refund for my order has not arrived",
        "I want a refund of the order",
        "A refund is due for the late order",
        "The app crashes when I log in",
        "Login makes the app crash",
    ]
    first, second = topic_labels(texts, [[0, 1, 2], [3, 4]], 2)
    assert {phrase.text for phrase in first} == {"refund", "order"}
    assert "app" in {word for phrase in second for word in phrase.text.split()}
    assert topic_labels(["", "the"], [[0], [1]], 3) == ((), ())
