import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.features import Category
from shared.domain.models import QualityPrior
from shared.learning.item_response import Abilities
from shared.learning.quality_model import ArtefactInvalid, QualityModel
from tests.unit.learning_builders import MODELS, artefact, made_up_corpus

SUM, POEM = "sum add number sum add number easy 1", "poem rose love poem rose love easy 2"
HARD_SUM = SUM.replace("easy", "hard")


@cache
def read_once():
    return QualityModel.from_bytes(artefact())


@pytest.fixture
def model():
    return read_once()


def prior(mean, weight=5.0, **by_category):
    named = {name: QualityPrior(value, weight, "test") for name, value in by_category.items()}
    return {"overall": QualityPrior(mean, weight, "test"), **named}


def one(abilities, row):
    return Abilities(abilities.mean[row : row + 1], abilities.variance[row : row + 1])


def test_each_model_is_expected_to_do_its_own_kind_well(model):
    sums = model.predict(model.embed(SUM), model.trained_abilities).mean
    poems = model.predict(model.embed(POEM), model.trained_abilities).mean
    calculator, poet = (model.trained[f"made_up/{name}"] for name in MODELS[:2])
    assert sums[calculator] > sums[poet] + 0.3
    assert poems[poet] > poems[calculator] + 0.3


def test_harder_prompts_are_expected_to_go_worse_for_every_model(model):
    easy = model.predict(model.embed(SUM), model.trained_abilities).mean
    hard = model.predict(model.embed(HARD_SUM), model.trained_abilities).mean
    assert (hard < easy - 0.1).all()


def test_predictions_are_calibrated(model):
    corpus = made_up_corpus(seed=4)
    embeddings = np.stack([model.embed(prompt) for prompt in corpus.prompts])
    expected = model.predict(embeddings, model.trained_abilities).mean
    assert np.abs(expected.mean(axis=0) - corpus.sets[0].scores.mean(axis=0)).max() < 0.05


def test_one_prompt_and_many_are_predicted_alike(model):
    embeddings = np.stack([model.embed(SUM), model.embed(POEM)])
    together = model.predict(embeddings, model.trained_abilities)
    alone = model.predict(embeddings[1], model.trained_abilities)
    np.testing.assert_allclose(together.mean[1], alone.mean, rtol=1e-4)
    np.testing.assert_allclose(together.std[1], alone.std, rtol=1e-4)


def test_what_resembles_nothing_is_doubted(model):
    usual = np.stack([model.embed(prompt) for prompt in made_up_corpus(seed=8).prompts])
    known = model.predict(usual, model.trained_abilities)
    strange = model.predict(model.embed("zebra " * 400 + "$$$ ((( === {{{ \n\n\n" * 50), model.trained_abilities)
    assert (known.familiarity > 0.9).mean() > 0.6
    assert strange.familiarity < 0.2
    doubt = (known.std / (known.mean * (1 - known.mean))).mean(axis=0)
    assert (strange.std / (strange.mean * (1 - strange.mean)) > doubt).all()


def test_what_models_have_not_shown_is_not_familiar_when_labels_count(model):
    """The calculator was labelled on sums only: of poems it has shown nothing, however well known they are."""
    corpus = made_up_corpus(seed=9)
    sums = np.array(corpus.domains) == 0
    embeddings = np.stack([model.embed(prompt) for prompt in corpus.prompts])
    learned = model.fit_ability(embeddings[sums], corpus.sets[0].scores[sums, 0], model.unknown_ability())
    for asked in (False, True):
        familiar = model.predict(embeddings, learned, labelled=asked).familiarity
        assert np.median(familiar[sums]) > 0.9
        assert (np.median(familiar[~sums]) > 0.9) is not asked
    by_prior = model.predict(embeddings, model.abilities_from_priors([prior(0.7)]), labelled=True)
    assert by_prior.familiarity.max() < 0.01


def test_priors_become_the_mean_quality_over_the_category(model):
    corpus = made_up_corpus()
    priors = [prior(0.5, math=0.9), prior(0.7)]
    abilities = model.abilities_from_priors(priors, Category.MATH)
    sums = np.stack([model.embed(text) for text, kind in zip(corpus.prompts, corpus.domains, strict=True) if kind == 0])
    expected = model.predict(sums, abilities).mean.mean(axis=0)
    np.testing.assert_allclose(expected, [0.9, 0.7], atol=0.03)


def test_a_category_without_training_prompts_uses_all_of_them(model):
    prompts = np.stack([model.embed(text) for text in made_up_corpus().prompts])
    abilities = model.abilities_from_priors([prior(0.8)], Category.TRANSLATION)
    assert model.predict(prompts, abilities).mean.mean() == pytest.approx(0.8, abs=0.03)


def test_a_heavier_prior_is_surer(model):
    light, heavy = model.abilities_from_priors([prior(0.8, 2.0), prior(0.8, 200.0)]).variance[:, 0]
    assert heavy < light / 10


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_a_certain_prior_stays_finite(model, extreme):
    abilities = model.abilities_from_priors([prior(extreme)])
    got = model.predict(model.embed(SUM), abilities)
    assert np.isfinite(got.mean).all()
    assert np.isfinite(got.std).all()


def test_fifty_labels_teach_a_new_model(model):
    corpus = made_up_corpus(seed=5)
    rows = np.arange(50)
    embeddings = np.stack([model.embed(corpus.prompts[row]) for row in rows])
    learned = model.fit_ability(embeddings, corpus.sets[0].scores[rows, 0], model.unknown_ability())
    before = model.predict(model.embed(SUM), model.unknown_ability())
    after = model.predict(model.embed(SUM), learned)
    assert after.mean[0] > model.predict(model.embed(POEM), learned).mean[0] + 0.2
    assert after.std[0] < before.std[0]


def test_no_labels_leave_the_prior_as_it_is(model):
    start = model.unknown_ability()
    none = np.zeros((0, len(model.embed(SUM))), np.float32)
    learned = model.fit_ability(none, np.zeros(0), start)
    np.testing.assert_allclose(learned.mean, start.mean, atol=1e-6)
    np.testing.assert_allclose(learned.variance, start.variance, rtol=1e-5)


def test_evidence_in_two_parts_ends_near_evidence_at_once(model):
    corpus = made_up_corpus(seed=6)
    embeddings = np.stack([model.embed(prompt) for prompt in corpus.prompts[:200]])
    scores = corpus.sets[0].scores[:200, 1]
    at_once = model.fit_ability(embeddings, scores, model.unknown_ability())
    half = model.fit_ability(embeddings[:100], scores[:100], model.unknown_ability())
    in_parts = model.fit_ability(embeddings[100:], scores[100:], half)
    for text in (SUM, POEM):
        features = model.embed(text)
        assert model.predict(features, in_parts).mean[0] == pytest.approx(
            model.predict(features, at_once).mean[0], abs=0.1
        )


def test_few_and_many_labels_are_weighed_by_the_same_rule(model):
    """More labels than components and fewer take two forms of one linear system: the border must not show."""
    corpus = made_up_corpus(seed=7)
    embeddings = np.stack([model.embed(prompt) for prompt in corpus.prompts])
    scores = corpus.sets[0].scores[:, 2]
    width = model.unknown_ability().mean.shape[1]
    below, above = (
        model.fit_ability(embeddings[:count], scores[:count], model.unknown_ability()) for count in (width - 1, width)
    )
    np.testing.assert_allclose(below.mean, above.mean, atol=0.05)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=2000))
def test_any_text_gets_a_bounded_finite_reading(text):
    model = read_once()
    features = model.embed(text)
    got = model.predict(features, model.trained_abilities)
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= 4.0
    assert ((got.mean >= 0) & (got.mean <= 1)).all()
    assert (got.std >= 0).all()
    assert 0 <= got.familiarity <= 1


def test_meaning_is_the_words_part_of_what_is_read(model):
    meaning = model.meaning(SUM)
    np.testing.assert_array_equal(model.embed(SUM)[: len(meaning)], meaning)
    assert not model.meaning("qqq").any()
    assert meaning @ model.meaning(HARD_SUM) > meaning @ model.meaning(POEM)


def test_reading_is_bounded_by_sampling(model):
    long, longer = ("sum add easy " * count for count in (10_000, 40_000))
    assert np.abs(model.embed(long) - model.embed(longer)).max() < 4.0
    assert model.embed("").shape == model.embed(long).shape


def _changed(**changes):
    with np.load(io.BytesIO(artefact()), allow_pickle=False) as archive:
        parts = {name: archive[name] for name in archive.files}
    parts.update(changes)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: part for name, part in parts.items() if part is not None})
    return buffer.getvalue()


def artefact_terms():
    with np.load(io.BytesIO(artefact()), allow_pickle=False) as archive:
        return len(archive["term_steps"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 cut off",
        artefact()[:2000],
        _changed(demands=None),
        _changed(about=np.frombuffer(b'{"format": 99}', np.uint8)),
        _changed(about=np.frombuffer(b"not json", np.uint8)),
        _changed(demands=np.zeros((3, 4), np.float32)),
        _changed(row_scales=np.full(12, np.nan, np.float32)),
        _changed(easiness=np.zeros((1, 20), np.float32)),
        _changed(vocabulary=np.frombuffer(b"one", np.uint8)),
        _changed(table=np.zeros(12, np.int8)),
        _changed(term_scales=np.ones(3, np.float32)),
        _changed(term_table=np.zeros(artefact_terms(), np.int8)),
        _changed(
            term_steps=np.zeros(0, np.int64), term_table=np.zeros((0, 20), np.int8), term_scales=np.zeros(0, np.float32)
        ),
    ],
    ids=[
        "empty",
        "no zip",
        "cut",
        "part missing",
        "format",
        "facts",
        "shape",
        "nan",
        "categories",
        "vocabulary",
        "flat",
        "terms",
        "flat terms",
        "no term",
    ],
)
def test_a_damaged_artefact_is_refused(data):
    with pytest.raises(ArtefactInvalid):
        QualityModel.from_bytes(data)


def test_training_twice_gives_the_same_bytes(model):
    assert model.version == "test-1"
    assert artefact.__wrapped__() == artefact()
