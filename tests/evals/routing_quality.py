"""Routing quality on labelled sets: ``make eval-routing DATA=folder``.

Prints, for unseen questions, unseen benchmarks and unseen models, what the router kept and what it saved, beside
routers that need no prediction. The data is read from the given folder; its licences keep it out of the repository.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.training.quality import ReadCorpus, read
from infra.training.routing_sets import LabelledSet, SetsMissing, read_corpus
from shared.learning.quality_model import QualityModel
from shared.stores.quality_artefact import PACKAGED
from tests.evals import routing_metrics as metrics
from tests.evals.routing_guards import Kept, kept_of, print_guards, summary
from tests.evals.routing_protocols import (
    GUARD,
    TARGET,
    LeftOut,
    Predicted,
    Tried,
    cross_validated,
    joined,
    left_out_benchmarks,
    left_out_models,
    routed,
)

SEED = 20261101
PAIR = ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
NEW_MODELS = (
    ("mixed4", "gemini-1.5-pro"),
    ("mixed4", "gemini-1.5-flash"),
    ("mmlupro", "Qwen1.5-72B-Chat"),
    ("mmlupro", "Phi-3-mini-4k-instruct"),
    ("llmrouter9", "qwen2.5-7b-instruct"),
    ("zeroeval", "claude-3-5-sonnet-20241022"),
)
RETENTION_AIM, APGR_AIM = 0.98, 0.70
BLIND_MARGIN, MIXED_SAVING = 0.15, 0.40


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when all was measured, 2 when there is no data. Aims that were missed are said, not hidden."""
    parser = argparse.ArgumentParser(prog="make eval-routing DATA=folder", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with <set>.dev.jsonl.gz")
    parser.add_argument("--part", choices=("all", "questions", "benchmarks", "models"), default="all")
    options = parser.parse_args(arguments)
    if options.data is None or not options.data.is_dir():
        sys.stderr.write(
            f"eval-routing needs the labelled routing sets: {options.data or 'no folder'} {'is absent' if options.data else 'was given'}.\n"
            "Their licences keep them out of this repository. Name the folder: make eval-routing DATA=path/to/routing\n"
        )
        return 2
    try:
        corpus = read_corpus(options.data)
    except SetsMissing as missing:
        sys.stderr.write(f"{missing}\n")
        return 2
    parts = QualityModel.encoder_parts(PACKAGED.read_bytes())
    prompts = read(corpus, parts.vocabulary, parts.table, parts.row_scales)
    if options.part != "models":
        crossed = cross_validated(prompts)
        tried = {labelled.name: Tried.on(joined(crossed[labelled.name]), labelled) for labelled in corpus.sets}
        for labelled in corpus.sets:
            _print_set(labelled, joined(crossed[labelled.name]), tried[labelled.name], corpus.folds)
        if options.part != "questions":
            cases = _print_benchmarks(prompts, tried)
            print_guards(corpus, crossed, cases)
    if options.part in {"all", "models"}:
        _print_models(prompts)
    return 0


def _print_set(labelled: LabelledSet, guess: Predicted, tried: Tried, folds: NDArray[np.intp]) -> None:
    scores, costs = labelled.scores, labelled.costs
    rng = np.random.default_rng(SEED)
    choice = routed(tried, folds[labelled.prompts])
    best, cheapest = metrics.best_single(scores), int(costs.mean(axis=0).argmin())
    rows = {
        f"always best ({labelled.models[best]})": np.full(len(scores), best),
        f"always cheapest ({labelled.models[cheapest]})": np.full(len(scores), cheapest),
        "random": rng.integers(0, scores.shape[1], len(scores)),
        "oracle": metrics.oracle(scores, costs),
        "router": choice,
    }
    print(f"\n{labelled.name}: {len(scores)} prompts, {scores.shape[1]} models, five folds by question")
    print(f"  {'':46} quality  retention [95% interval]   saving  hit rate  utility share")
    for name, chosen in rows.items():
        got = metrics.outcome(chosen, scores, costs)
        low, high = metrics.retention_interval(chosen, scores, rng=rng)
        print(
            f"  {name:46} {got.quality:7.4f}  {got.retention:9.4f} [{low:.4f}, {high:.4f}] {got.saving:8.3f}"
            f"  {got.hit_rate:8.4f}  {got.utility_share:8.4f}"
        )
    _print_curve(labelled, guess, tried, metrics.outcome(choice, scores, costs))


def _print_curve(labelled: LabelledSet, guess: Predicted, tried: Tried, got: metrics.Outcome) -> None:
    scores, costs = labelled.scores, labelled.costs
    points = metrics.curve(list(tried.choices), scores, costs)
    single = metrics.single_points(scores, costs)
    ideal = [
        (float(costs[np.arange(len(scores)), pick].mean()), float(scores[np.arange(len(scores)), pick].mean()))
        for pick in (metrics.oracle(scores, costs), costs.argmin(axis=1))
    ]
    low, high = min(cost for cost, _ in single), max(cost for cost, _ in single)
    aiq = [metrics.average_improvement_in_quality(found, low, high) for found in (single, points, ideal)]
    blind = metrics.blind_saving_at(RETENTION_AIM, scores, costs)
    along = {share: metrics.saving_at(points, share, scores, costs) for share in (0.98, 1.0)}
    shown = ", ".join(
        f"{share:.0%}: {'not reached' if part is None else f'{part:.3f}'}" for share, part in along.items()
    )
    ece = [
        metrics.expected_calibration_error(scores[:, model], guess.mean[:, model]) for model in range(scores.shape[1])
    ]
    print(f"  blind mixture saves {blind:.3f} at 98%; along the router's curve (in hindsight) {shown}")
    print(f"  AIQ single models {aiq[0]:.4f}, router {aiq[1]:.4f}, oracle {aiq[2]:.4f}")
    print(f"  ECE mean over models {np.mean(ece):.4f}, worst {max(ece):.4f}")
    if all(model in labelled.models for model in PAIR):
        strong, weak = (labelled.models.index(model) for model in PAIR)
        pair = metrics.pair_curve(
            scores[:, strong],
            scores[:, weak],
            guess.mean[:, strong] - guess.mean[:, weak],
            np.random.default_rng(SEED),
        )
        print(f"  pair: APGR {pair.apgr:.4f} (aim {APGR_AIM}), CPT50 {pair.cpt50:.3f}, CPT80 {pair.cpt80:.3f}")
    aim = max(MIXED_SAVING if labelled.name == "mixed4" else 0.0, blind + BLIND_MARGIN)
    verdict = "met" if got.retention >= RETENTION_AIM and got.saving >= aim else "MISSED"
    print(f"  aim retention >= {RETENTION_AIM} with saving >= {aim:.3f}: {verdict}")


def _print_benchmarks(prompts: ReadCorpus, tried: dict[str, Tried]) -> list[LeftOut]:
    print(f"\nUnseen benchmarks; rates chosen for {TARGET} on the others. Incumbent: best single model of the others.")
    print(
        f"  {'set':10} {'left out':28} prompts  of incumbent [95% interval]            of best there (incumbent)"
        "  saving  familiarity"
    )
    cases, kept = [], []
    for found in left_out_benchmarks(prompts):
        cases.append(found)
        kept.append(_print_left_out(found, found.choice(tried[found.labelled.name])))
    print(f"  {summary(kept)}")
    return cases


def _print_left_out(found: LeftOut, choice: NDArray[np.intp]) -> Kept:
    scores, costs = found.labelled.scores, found.labelled.costs
    rows = np.arange(len(scores))
    chosen, incumbent = scores[rows, choice], scores[:, found.asked.reference]
    kept = kept_of(chosen, incumbent)
    there = float(scores.mean(axis=0).max())
    saving = 1 - costs[rows, choice].mean() / costs[:, found.asked.reference].mean()
    print(
        f"  {found.labelled.name:10} {found.benchmark:28} {len(rows):7}  {kept.ratio:.3f} [{kept.low:.3f}, {kept.high:.3f}]"
        f" {kept.verdict:20} {chosen.mean() / there:.3f} ({incumbent.mean() / there:.3f})"
        f"   {saving:14.3f}  {found.asked.predicted(GUARD).familiarity.mean():.2f}"
    )
    return kept


def _print_models(prompts: ReadCorpus) -> None:
    print(
        "\nUnseen models: Brier score on unseen questions after some labels (flat: the labels' mean for every prompt)"
    )
    print(f"  {'set':10} {'model':32} labels  predicted    flat   all labels")
    for found in left_out_models(prompts, NEW_MODELS):
        print(
            f"  {found.set_name:10} {found.model:32} {found.labels:6}  {found.error:9.4f}  {found.baseline:6.4f}"
            f"  {found.full:11.4f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
