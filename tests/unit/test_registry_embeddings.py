"""Embedding models in the registry: apart from the others, checked as they are, and the policy as it applies to them."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from shared.domain.embeddings import Embedding
from shared.domain.models import ProviderKind
from shared.domain.policy import CallerLimits, ServicePolicy
from shared.domain.pricing import rates_for
from shared.domain.rules import Actions, Rule
from shared.domain.security import SecurityLevel
from shared.scoring.embedding_part import embedding_part, part_of
from shared.stores.registry_files import RegistryError, load_policy, load_registry, parse_kept, parse_registry
from tests.unit.embedding_builders import embedding_deployment, embedding_model
from tests.unit.routing_builders import deployment, model, policy, registry

DIRECTORY = Path(__file__).parents[2] / "shared" / "registry"
SOURCE = "https://example.org"
CHAT_MODEL = {
    "id": "c",
    "publisher": "p",
    "display_name": "C",
    "context_window_tokens": 1000,
    "max_output_tokens": 100,
    "lifecycle": {"available_from": "2026-10-01"},
    "capabilities": {"modalities": ["text"]},
    "latency": {"ttft_ms": 1.0, "tokens_per_s": 1.0, "source": SOURCE},
    "price": [{"effective_from": "2026-10-01", "source": SOURCE, "tiers": [{"input": "1", "output": "2"}]}],
    "quality": [{"categories": ["overall"], "mean": 0.5, "weight": 1.0, "source": SOURCE}],
}
EMBEDDING_MODEL = {
    "id": "e",
    "publisher": "p",
    "display_name": "E",
    "aliases": ["auto"],
    "dimensions": 768,
    "min_dimensions": 1,
    "max_input_tokens": 2048,
    "max_texts_per_call": 250,
    "max_tokens_per_call": 20000,
    "latency_ms": 80.0,
    "latency_source": SOURCE,
    "lifecycle": {"available_from": "2026-10-01"},
    "price": [{"effective_from": "2026-10-01", "source": SOURCE, "input": "0.1"}],
}


def place(model_id, provider, **changes):
    given = {
        "id": f"{model_id}@eu",
        "model": model_id,
        "provider": provider,
        "target": model_id,
        "region": "eu",
        "residency": ["eu"],
        "clearance": "internal",
    }
    return {**given, **changes}


def document(embedding=None, *deployments, chat=None):
    return {
        "model": [CHAT_MODEL if chat is None else chat],
        "embedding_model": [EMBEDDING_MODEL | (embedding or {})],
        "deployment": [
            place("c", "gemini"),
            *(deployments or [place("e", "text_embedding")]),
        ],
    }


def refused(*arguments, **fields):
    with pytest.raises(RegistryError) as caught:
        parse_registry({"r.toml": document(*arguments, **fields)})
    return str(caught.value)


def test_embedding_models_stand_apart_and_share_the_version():
    whole = parse_registry({"r.toml": document()})
    assert set(whole.models) == {"c"}
    assert [d.id for d in whole.deployments] == ["c@eu"]
    assert whole.resolve("auto") is None
    vectors = whole.embeddings
    assert set(vectors.models) == {"e"}
    assert [d.id for d in vectors.deployments] == ["e@eu"]
    assert vectors.resolve("auto").id == "e"
    assert vectors.models["e"].embedding.dimensions == 768
    assert (vectors.version, vectors.document) == (whole.version, whole.document)


def test_a_registry_without_them_keeps_its_version():
    plain = {"model": [CHAT_MODEL], "deployment": [place("c", "gemini")]}
    none = parse_registry({"r.toml": plain})
    assert none.version == parse_registry({"r.toml": {**plain, "embedding_model": []}}).version
    assert dict(none.embeddings.models) == {}
    assert none.version != parse_registry({"r.toml": document()}).version


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_dimensions": 769}, "embedding_model[e].min_dimensions: larger than dimensions"),
        ({"max_tokens_per_call": 100}, "max_tokens_per_call: smaller than max_input_tokens"),
        ({"dimensions": 0}, "embedding_model[e].dimensions"),
        ({"id": "c"}, "model[c].id: occurs more than once"),
        ({"aliases": ["c"]}, "alias 'c': is also the id of a model"),
        (
            {"price": [{"effective_from": "2027-01-01", "source": SOURCE, "input": "1"}]},
            "price: the first period starts",
        ),
        ({"price": EMBEDDING_MODEL["price"] * 2}, "price: periods must be in ascending order"),
        ({"price": [{"effective_from": "2026-10-01", "source": SOURCE, "input": 0.1}]}, "write prices as text"),
    ],
)
def test_mistakes_are_named(change, message):
    assert message in refused(change)


def test_a_provider_must_fit_the_kind_of_its_model():
    assert "deployment[e@eu].provider: gemini does not fit model 'e', which gives vectors" in refused(
        None, place("e", "gemini")
    )
    wrong = place("c", "text_embedding", id="c@2")
    assert "deployment[c@2].provider: text_embedding does not fit model 'c', which gives answers" in refused(
        None, place("e", "text_embedding"), wrong
    )


def test_the_shipped_models_their_limits_and_prices():
    whole = load_registry(DIRECTORY)
    vectors = whole.embeddings
    traits = {name: profile.embedding for name, profile in vectors.models.items()}
    assert {name: (t.dimensions, t.max_texts_per_call) for name, t in traits.items()} == {
        "gemini-embedding-001": (3072, 1),
        "text-embedding-005": (768, 250),
        "text-multilingual-embedding-002": (768, 250),
    }
    prices = {
        name: rates_for(profile, day=date(2026, 11, 23), prompt_tokens=1, region="us-central1")
        for name, profile in vectors.models.items()
    }
    assert {name: rates.input for name, rates in prices.items()} == {
        "gemini-embedding-001": Decimal("0.15"),
        "text-embedding-005": Decimal("0.10"),
        "text-multilingual-embedding-002": Decimal("0.10"),
    }
    assert {rates.output for rates in prices.values()} == {Decimal(0)}
    for name in vectors.models:
        zones = {zone for d in vectors.deployments_of(name) for zone in d.residency}
        assert zones == {"eu", "us"}
    assert {d.provider for d in vectors.deployments} == {ProviderKind.TEXT_EMBEDDING}
    assert ProviderKind.TEXT_EMBEDDING not in {d.provider for d in whole.deployments}


def test_a_kept_registry_is_the_same_again():
    whole = load_registry(DIRECTORY)
    again, _ = parse_kept(whole.document, load_policy(DIRECTORY, registry=whole).document)
    assert again == whole


# --- the policy as it applies to them --------------------------------------------------------------------------------

CHAT = registry((model("a"), deployment("a")))
VECTORS = registry((embedding_model("e"), embedding_deployment("e")))


def whole_registry():
    return replace(CHAT, embeddings=VECTORS)


def test_pins_to_other_models_do_not_shut_embeddings_out_but_everything_else_binds():
    rules = (
        Rule("pin", actions=Actions(pin_model="a", residency=frozenset({"eu"}))),
        Rule("pin-place", actions=Actions(pin_deployment="a@europe-west4", max_level=SecurityLevel.INTERNAL)),
        Rule("ours", actions=Actions(pin_deployment="e@europe-west4")),
        Rule("plain", actions=Actions(deny_models=frozenset({"e"}))),
    )
    limits = CallerLimits(pin=False)
    given = policy(
        rules=rules, limits=limits, services={"s": ServicePolicy(limits=limits, max_level=SecurityLevel.PUBLIC)}
    )
    embeddings, adapted = embedding_part(whole_registry(), given)
    assert embeddings is VECTORS
    assert [rule.actions for rule in adapted.rules] == [
        Actions(residency=frozenset({"eu"})),
        Actions(max_level=SecurityLevel.INTERNAL),
        Actions(pin_deployment="e@europe-west4"),
        Actions(deny_models=frozenset({"e"})),
    ]
    assert adapted.limits.pin
    assert adapted.services["s"].limits.pin
    assert adapted.services["s"].max_level is SecurityLevel.PUBLIC


def test_the_named_model_says_which_part_decides():
    rules = policy()
    assert part_of("a", whole_registry(), rules) == (whole_registry(), rules)
    assert part_of(None, whole_registry(), rules)[0] == whole_registry()
    assert part_of("e", CHAT, rules) == (CHAT, rules)
    assert part_of("e", whole_registry(), rules)[0] is VECTORS
    assert dict(embedding_part(CHAT, rules)[0].models) == {}


def test_a_vector_is_its_bytes():
    embedding = Embedding(b"\x00\x00\x80?\x00\x00\x00\xbf", 3)
    assert (embedding.dimensions, embedding.values()) == (2, (1.0, -0.5))
