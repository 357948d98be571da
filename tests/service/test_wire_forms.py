"""What adapters cannot carry is asked once for requests that differ only in their texts: it must not depend on those."""

import contextlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shared.config import REGISTRY_DIRECTORY, Settings
from shared.container.ground import lay_ground
from shared.container.models import build_providers
from shared.domain.chat import ChatRequest, Message, ReasoningEffort, Role, Sampling, TextPart, Tool
from shared.domain.embeddings import EmbeddingRequest
from shared.domain.errors import UnsupportedFeature
from shared.services.refusals import WireForms
from shared.stores.registry_files import load_registry

SETTINGS = Settings.from_env(
    {
        "POSTGRES_DSN": "postgresql://nowhere/router",
        "REDIS_URL": "redis://nowhere",
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "VERTEX_PROJECT": "project",
        "VERTEX_CREDENTIALS": "anonymous",
        "ROUTER_ENVIRONMENT": "local",
        "ROUTER_AUTH": "development",
    }
)
PROVIDERS = build_providers(lay_ground(SETTINGS, contextlib.AsyncExitStack()))
REGISTRY = load_registry(REGISTRY_DIRECTORY)

texts = st.text(max_size=20)
turns = st.lists(st.tuples(st.sampled_from([Role.USER, Role.ASSISTANT]), texts), min_size=1, max_size=4)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([None, 0.0, 1.5]),
    top_p=st.sampled_from([None, 0.9]),
    top_k=st.sampled_from([None, 4]),
    seed=st.sampled_from([None, 1, 2**40]),
    stop=st.sampled_from([(), (" ",), ("a", "b", "c", "d", "e", "f")]),
)
requests = st.builds(
    lambda turns, system, sampling, effort: ChatRequest(
        messages=tuple(Message(role, (TextPart(text),)) for role, text in turns),
        system=system,
        sampling=sampling,
        reasoning_effort=effort,
    ),
    turns,
    texts,
    samplings,
    st.sampled_from([None, *ReasoningEffort]),
)


def said(request):
    """By deployment, what stands in the way: asked of the adapters themselves."""
    found = {}
    for deployment in REGISTRY.deployments:
        try:
            PROVIDERS[deployment.provider].check(request, REGISTRY.models[deployment.model_id], deployment)
            found[deployment.id] = None
        except UnsupportedFeature as error:
            found[deployment.id] = error.message
    return found


def told(forms, request):
    limit = forms.limits_of(request)
    return {d.id: limit(REGISTRY.models[d.model_id], d) for d in REGISTRY.deployments}


FORMS = WireForms(PROVIDERS)


@given(requests)
def test_what_is_remembered_is_what_the_adapters_say(request):
    assert told(FORMS, request) == said(request)


class Counting:
    """An adapter that counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def check(self, request, profile, deployment):
        self.asked += 1


def ask(text, **changes):
    return replace(ChatRequest((Message(Role.USER, (TextPart(text),)),)), **changes)


def test_requests_that_look_alike_are_asked_about_once_until_the_registry_changes():
    deployment = REGISTRY.deployments[0]
    profile, counting = REGISTRY.models[deployment.model_id], Counting()
    forms = WireForms({deployment.provider: counting})
    for text in ("one", "two"):
        forms.limits_of(ask(text))(profile, deployment)
    assert counting.asked == 1
    forms.limits_of(ask("one"))(profile, replace(deployment, clearance=deployment.clearance))
    assert counting.asked == 2
    forms.limits_of(ask("one", reasoning_effort=ReasoningEffort.LOW))(profile, deployment)
    assert counting.asked == 3


def test_what_holds_more_than_texts_is_asked_about_each_time():
    deployment = REGISTRY.deployments[0]
    profile, counting = REGISTRY.models[deployment.model_id], Counting()
    forms = WireForms({deployment.provider: counting})
    for _ in range(2):
        forms.limits_of(ask("one", tools=(Tool("t"),)))(profile, deployment)
    assert counting.asked == 2


def test_it_forgets_rather_than_grow_without_bound():
    deployment = REGISTRY.deployments[0]
    profile, counting = REGISTRY.models[deployment.model_id], Counting()
    forms = WireForms({deployment.provider: counting})
    for seed in range(2_000):
        forms.limits_of(ask("one", sampling=Sampling(seed=seed)))(profile, deployment)
    assert len(forms._known) <= 512


def test_requests_that_say_more_than_a_conversation_are_asked_about_each_time():
    deployment = REGISTRY.deployments[0]
    profile, counting = REGISTRY.models[deployment.model_id], Counting()
    forms = WireForms({deployment.provider: counting})
    for dimensions in (None, 64):
        vectors = EmbeddingRequest(ask("one").messages, dimensions=dimensions)
        forms.limits_of(vectors)(profile, deployment)
    assert counting.asked == 2
