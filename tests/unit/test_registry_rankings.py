"""Ranking models in the registry, and the policy's word on retrieval."""

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from shared.domain.models import ProviderKind
from shared.domain.pricing import cost_of
from shared.domain.replies import Usage
from shared.domain.retrieval_rules import RetrievalRules
from shared.scoring.embedding_part import part_of, ranking_part
from shared.stores.registry_files import (
    RegistryError,
    load_policy,
    load_registry,
    parse_kept,
    parse_policy,
    parse_registry,
)
from tests.unit.ranking_builders import ranking_deployment, ranking_model
from tests.unit.routing_builders import deployment, model, policy, registry
from tests.unit.test_registry_embeddings import CHAT_MODEL, SOURCE, place

DIRECTORY = Path(__file__).parents[2] / "shared" / "registry"
DAY = date(2026, 11, 23)
RANKER = "semantic-ranker-default-004"
RANKING_MODEL = {
    "id": "k",
    "publisher": "p",
    "display_name": "K",
    "max_texts": 200,
    "max_text_tokens": 1024,
    "texts_per_query": 100,
    "latency_ms": 80.0,
    "latency_source": SOURCE,
    "lifecycle": {"available_from": "2026-10-01"},
    "price": [{"effective_from": "2026-10-01", "source": SOURCE, "usd_per_1000_queries": "2.50"}],
}


def document(change=None, *deployments):
    return {
        "model": [CHAT_MODEL],
        "ranking_model": [RANKING_MODEL | (change or {})],
        "deployment": [place("c", "gemini"), *(deployments or [place("k", "ranking")])],
    }


def test_ranking_models_stand_apart_and_share_the_version():
    whole = parse_registry({"r.toml": document()})
    assert set(whole.models) == {"c"}
    assert [d.id for d in whole.deployments] == ["c@eu"]
    rankings = whole.rankings
    assert [d.id for d in rankings.deployments] == ["k@eu"]
    assert (rankings.version, rankings.document) == (whole.version, whole.document)
    assert rankings.models["k"].ranking.queries(100) == 1
    assert rankings.models["k"].ranking.queries(101) == 2


def test_a_query_costs_what_the_file_says():
    profile = parse_registry({"r.toml": document()}).rankings.models["k"]
    cost = cost_of(profile, Usage(output_tokens=2), day=DAY, region="global")
    assert cost.total_usd == Decimal("0.005")
    assert profile.max_output_tokens == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_texts": 0}, "ranking_model[k].max_texts"),
        ({"id": "c"}, "model[c].id: occurs more than once"),
        ({"price": RANKING_MODEL["price"] * 2}, "price: periods must be in ascending order"),
        (
            {"price": [{"effective_from": "2027-01-01", "source": SOURCE, "usd_per_1000_queries": "1"}]},
            "price: the first period starts",
        ),
        (
            {"price": [{"effective_from": "2026-10-01", "source": SOURCE, "usd_per_1000_queries": 1}]},
            "write prices as text",
        ),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(RegistryError) as caught:
        parse_registry({"r.toml": document(change)})
    assert message in str(caught.value)


def test_a_provider_must_fit_the_kind_of_its_model():
    with pytest.raises(RegistryError) as caught:
        parse_registry({"r.toml": document(None, place("k", "gemini"), place("c", "ranking", id="c@2"))})
    assert "deployment[k@eu].provider: gemini does not fit model 'k', which ranks" in str(caught.value)
    assert "deployment[c@2].provider: ranking does not fit model 'c', which does not rank" in str(caught.value)


def test_the_shipped_ranker_and_that_it_is_off():
    whole = load_registry(DIRECTORY)
    (found,) = whole.rankings.deployments
    assert (found.provider, found.region, found.residency) == (ProviderKind.RANKING, "global", frozenset({"global"}))
    cost = cost_of(whole.rankings.models[RANKER], Usage(output_tokens=1), day=DAY, region="global")
    assert cost.total_usd == Decimal("0.001")
    assert load_policy(DIRECTORY, registry=whole).retrieval == RetrievalRules()
    assert parse_kept(whole.document, load_policy(DIRECTORY, registry=whole).document)[0] == whole


def test_the_policy_turns_it_on():
    whole = load_registry(DIRECTORY)
    shipped = load_policy(DIRECTORY, registry=whole)
    _, given = parse_kept(whole.document, shipped.document)
    assert given == shipped
    rules = parse_policy(_with(shipped, reranker=RANKER, collections=["handbook"], reranked=20), whole).retrieval
    assert (rules.reranker_for("handbook"), rules.reranker_for("default"), rules.reranked) == (RANKER, None, 20)
    assert parse_policy(_with(shipped, reranker=RANKER), whole).retrieval.reranker_for("default") == RANKER


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"reranker": "gemini-embedding-001"}, "retrieval.reranker: no ranking model 'gemini-embedding-001'"),
        ({"reranker": RANKER, "reranked": 201}, "retrieval.reranked"),
        ({"rewriter": RANKER}, "retrieval.rewriter: no model"),
        ({"reranker_timeout_ms": 10}, "retrieval.reranker_timeout_ms"),
        ({"collections": ["a b"]}, "retrieval.collections"),
        ({"unknown": 1}, "retrieval.unknown"),
    ],
)
def test_mistakes_of_the_policy_are_named(table, message):
    whole = load_registry(DIRECTORY)
    with pytest.raises(RegistryError) as caught:
        parse_policy(_with(load_policy(DIRECTORY, registry=whole), **table), whole)
    assert message in str(caught.value)


def test_the_named_model_says_which_part_decides():
    chat = registry((model("a"), deployment("a")))
    rankings = registry((ranking_model(), ranking_deployment()))
    whole, rules = replace(chat, rankings=rankings), policy()
    assert part_of("ranker", whole, rules)[0] is rankings
    assert part_of("a", whole, rules)[0] is whole
    assert ranking_part(chat, rules)[0].models == {}


def _with(shipped, **table):
    return json.loads(shipped.document) | {"retrieval": table}
