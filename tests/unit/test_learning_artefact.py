"""The artefact that is shipped, and the commands that make and measure such artefacts."""

import numpy as np
import pytest

from infra.training import quality
from shared.domain.features import Category
from shared.domain.models import QualityPrior
from shared.learning.item_response import Abilities
from shared.stores.quality_artefact import PACKAGED, load_quality_model
from tests.evals import routing_quality

EASY = "What is the capital of France?\nA. Paris\nB. Rome\nC. Madrid\nD. Berlin\nAnswer:"
HARD = (
    "Let $p(x)$ be a monic polynomial of degree 7 with $p(k) = k^2$ for $k = 1, \\ldots, 7$. "
    "Find $\\sum_{k=8}^{12} p(k) \\bmod 1009$."
)


@pytest.fixture(scope="module")
def model():
    return load_quality_model()


def priors(*means):
    return [{"overall": QualityPrior(mean, 5.0, "test")} for mean in means]


def test_it_is_small_enough_to_ship():
    assert PACKAGED.stat().st_size < 8_000_000


def test_a_competition_problem_is_harder_than_a_capital(model):
    abilities = model.abilities_from_priors(priors(0.6, 0.8), Category.QUESTION_ANSWERING)
    easy, hard = (model.predict(model.embed(text), abilities).mean for text in (EASY, HARD))
    assert (easy > hard + 0.1).all()


def test_better_priors_stay_better_and_matter_less_on_easy_prompts(model):
    abilities = model.abilities_from_priors(priors(0.6, 0.8))
    easy, hard = (model.predict(model.embed(text), abilities).mean for text in (EASY, HARD))
    assert easy[1] > easy[0]
    assert hard[1] - hard[0] > easy[1] - easy[0]


def test_two_hundred_models_are_predicted_at_once(model):
    rng = np.random.default_rng(1)
    abilities = model.abilities_from_priors(priors(*rng.uniform(0.3, 0.9, 200)))
    got = model.predict(model.embed(HARD), abilities)
    assert got.mean.shape == got.std.shape == (200,)


def test_labels_outweigh_a_prior_that_was_wrong(model):
    prompts = np.stack([model.embed(f"{EASY} {number}") for number in range(60)])
    start = model.abilities_from_priors(priors(0.3))
    learned = model.fit_ability(prompts, np.ones(60), Abilities(start.mean, start.variance))
    before, after = (float(model.predict(model.embed(EASY), belief).mean[0]) for belief in (start, learned))
    assert after > before + 0.15


def test_the_eval_says_plainly_that_there_is_no_data(tmp_path, capsys):
    assert routing_quality.main([]) == 2
    assert routing_quality.main(["--data", str(tmp_path / "absent")]) == 2
    assert routing_quality.main(["--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "DATA=" in said
    assert str(tmp_path) in said


def test_training_says_plainly_that_there_is_no_data(tmp_path, capsys):
    assert quality.main(["--data", str(tmp_path), "--out", str(tmp_path), "--reuse", str(PACKAGED)]) == 2
    assert "mixed4" in capsys.readouterr().err
