"""A small artefact, built from a made-up world in which two kinds of prompts and two kinds of models exist."""

from functools import cache

import numpy as np

from infra.training.quality import encode, read, train
from infra.training.routing_sets import FOLDS, Corpus, LabelledSet

WORDS = ("[PAD]", "sum", "add", "number", "poem", "rose", "love", "hard", "easy", "zebra", "the", "of")
MODELS = ("calculator", "poet", "expert")
PROMPTS = 800


def made_up_corpus(seed=3):
    """Sums and poems, easy and hard: the expert does all, each of the others its own kind."""
    rng = np.random.default_rng(seed)
    prompts, domains, scores = [], [], []
    for number in range(PROMPTS):
        kind, hard = number % 2, rng.random() < 0.5
        words = rng.choice(WORDS[1:4] if kind == 0 else WORDS[4:7], 6).tolist()
        prompts.append(" ".join([*words, "hard" if hard else "easy", "the" * (number % 3), str(number)]))
        domains.append(kind)
        good = np.array([0.9 if kind == 0 else 0.2, 0.2 if kind == 0 else 0.9, 0.95]) - (0.3 if hard else 0.0)
        scores.append((rng.random(3) < good).astype(float))
    labelled = LabelledSet(
        name="made_up",
        models=MODELS,
        prompts=np.arange(PROMPTS),
        tasks=tuple("sums" if domain == 0 else "poems" for domain in domains),
        scores=np.array(scores),
        costs=np.tile([1.0, 1.0, 5.0], (PROMPTS, 1)),
    )
    return Corpus(
        tuple(prompts), np.arange(PROMPTS) // 2 % FOLDS, np.array(domains), ("math/sums", "poems"), (labelled,)
    )


@cache
def encoded_corpus():
    rng = np.random.default_rng(0)
    table = rng.integers(-127, 128, (len(WORDS), 256), dtype=np.int8)
    prompts = read(made_up_corpus(), WORDS, table, np.full(len(WORDS), 0.01, np.float32))
    return encode(prompts, np.ones(PROMPTS, np.bool_))


@cache
def artefact():
    return train(encoded_corpus(), "test-1")
