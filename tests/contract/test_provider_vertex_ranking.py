"""The ranking adapter over real sockets, against a server that answers as told, and against the simulator."""

import json
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.errors import (
    InternalError,
    ProviderBadResponse,
    ProviderNotFound,
    ProviderRateLimited,
    ProviderTimeout,
    UnsupportedFeature,
)
from shared.domain.ranking import ranking_request
from shared.domain.replies import ReplyBuilder
from shared.ports import ProviderCall
from shared.providers.credentials import AnonymousTokens
from shared.providers.vertex_http import VertexHttp
from shared.providers.vertex_ranking import VertexRankingProvider
from shared.stores.system import SystemClock
from tests.contract.simulator_process import running
from tests.unit.ranking_builders import ranking_deployment, ranking_model

MODEL = ranking_model("semantic-ranker-default-004")
DEPLOYMENT = ranking_deployment(MODEL.id)
ASKED = "When are refunds paid?"
REFUNDS = "Refunds are paid within 14 days."
TEXTS = ("Shipping to Norway costs twelve euros.", REFUNDS, "The warranty of the blender ends.")


class Token(AnonymousTokens):
    async def token(self):
        return "secret"


class Vendor:
    """Answers with `status` and `answer`, and remembers what it was sent."""

    def __init__(self):
        self.status, self.answer, self.asked = 200, {"records": []}, []

    async def handle(self, request):
        self.asked.append((request.path, request.headers.get("authorization"), await request.json()))
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def vendor():
    made = Vendor()
    app = web.Application()
    app.router.add_post("/{rest:.*}", made.handle)
    async with TestServer(app) as server:
        made.url = str(server.make_url(""))
        yield made


@pytest.fixture
async def provider(vendor):
    made = provider_at(vendor.url, Token())
    yield made
    await made.aclose()


def provider_at(url, tokens=None):
    return VertexRankingProvider(
        VertexHttp("the-project", tokens or AnonymousTokens(), SystemClock(), base_override=url)
    )


def attempt(texts=TEXTS, question=ASKED, **changes):
    given = {"max_output_tokens": 2, "deadline_s": time.monotonic() + 20} | changes
    return ProviderCall(ranking_request(question, texts), MODEL, DEPLOYMENT, "r1", **given)


async def ranked(provider, call):
    return ReplyBuilder("r").extend(await provider.complete(call)).build()


async def test_what_the_vendor_is_sent(vendor, provider):
    vendor.answer = {"records": [{"id": "1", "score": 0.97}, {"id": "0", "score": 0.02}, {"id": "2"}]}
    reply = await ranked(provider, attempt())

    assert vendor.asked == [
        (
            "/v1/projects/the-project/locations/global/rankingConfigs/default_ranking_config:rank",
            "Bearer secret",
            {
                "model": "semantic-ranker-default-004",
                "query": ASKED,
                "records": [{"id": str(place), "content": text} for place, text in enumerate(TEXTS)],
                "ignoreRecordDetailsInResponse": True,
            },
        )
    ]
    assert reply.scores == (0.02, 0.97, 0.0)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.estimated) == (0, 1, False)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"records": None},
        {"records": [{"id": "0", "score": 1}]},
        {"records": [{"id": str(n), "score": 0.5} for n in (0, 1, 1)]},
        {"records": [{"id": str(n), "score": 0.5} for n in (0, 1, 3)]},
        {"records": [{"id": str(n), "score": 0.5} for n in (0, 1, 2, 2)]},
        {"records": [{"id": "x", "score": 0.5}] * 3},
        {"records": [{"id": str(n), "score": 1.5} for n in range(3)]},
        {"records": [{"id": str(n), "score": "high"} for n in range(3)]},
        {"records": [{"id": str(n), "score": True} for n in range(3)]},
        {"records": [{"score": 0.5}] * 3},
        {"records": ["0", "1", "2"]},
        ["0"],
    ],
)
async def test_what_cannot_be_read_is_a_bad_response(vendor, provider, answer):
    vendor.answer = answer
    with pytest.raises(ProviderBadResponse):
        await provider.complete(attempt())


async def test_not_a_number_is_a_bad_response(vendor, provider):
    vendor.answer = {"records": [{"id": str(n), "score": float("nan")} for n in range(3)]}
    with pytest.raises(ProviderBadResponse):
        await provider.complete(attempt())


async def test_refusals_and_late_answers_are_told_apart(vendor, provider):
    vendor.status, vendor.answer = 429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "quota"}}
    with pytest.raises(ProviderRateLimited):
        await provider.complete(attempt())
    with pytest.raises(ProviderTimeout):
        await provider.complete(attempt(deadline_s=time.monotonic() - 1))


async def test_more_than_a_hundred_texts_are_billed_as_two_queries(vendor, provider):
    vendor.answer = {"records": [{"id": str(n), "score": 0.5} for n in range(101)]}
    reply = await ranked(provider, attempt(["text"] * 101))
    assert reply.usage.completion_tokens == 2


def test_more_texts_than_a_call_takes_are_refused_before_it():
    provider = provider_at("http://127.0.0.1:1")
    provider.check(ranking_request("q", ["t"] * 200), MODEL, DEPLOYMENT)
    with pytest.raises(UnsupportedFeature, match="200 texts at most"):
        provider.check(ranking_request("q", ["t"] * 201), MODEL, DEPLOYMENT)
    with pytest.raises(InternalError):
        provider.check(ChatRequest((Message(Role.USER, (TextPart("hello"),)),)), MODEL, DEPLOYMENT)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("global", "discoveryengine.googleapis.com"),
        ("eu", "eu-discoveryengine.googleapis.com"),
        ("us", "us-discoveryengine.googleapis.com"),
    ],
)
def test_the_host_is_that_of_the_location(region, host):
    http = VertexHttp("p", AnonymousTokens(), SystemClock())
    url = http.url(ranking_deployment(MODEL.id, region), "rankingConfigs/default_ranking_config:rank")
    path = f"/v1/projects/p/locations/{region}/rankingConfigs/default_ranking_config:rank"
    assert str(url) == f"https://{host}{path}"


@pytest.fixture(scope="module")
def simulated():
    with running("--embeddings", "hashed") as simulated:
        yield simulated


@pytest.fixture
async def ranker(simulated):
    made = provider_at(simulated.http)
    yield made
    await made.aclose()


async def test_the_text_that_answers_scores_highest(ranker, simulated):
    reply = await ranked(ranker, attempt())
    assert max(zip(reply.scores, TEXTS, strict=True))[1] == REFUNDS
    assert all(0 < score <= 1 for score in reply.scores)
    call = simulated.last_call()
    assert (call["method"], call["model"], call["region"]) == (
        "rankingConfigs:rank",
        "semantic-ranker-default-004",
        "global",
    )


async def test_texts_are_ranked_wherever_they_stand(ranker):
    forwards = (await ranked(ranker, attempt())).scores
    assert (await ranked(ranker, attempt(TEXTS[::-1]))).scores == forwards[::-1]


async def test_a_model_that_is_not_there(simulated, ranker):
    with pytest.raises(ProviderNotFound):
        await ranker.complete(
            ProviderCall(
                ranking_request(ASKED, TEXTS),
                MODEL,
                ranking_deployment(MODEL.id, target="no-such-ranker"),
                "r1",
                max_output_tokens=2,
                deadline_s=time.monotonic() + 20,
            )
        )


@pytest.mark.parametrize(
    "change",
    [{"records": []}, {"records": [{"id": "1"}]}, {"records": [{"id": "1", "content": "x"}] * 201}, {"query": 7}],
)
async def test_the_simulator_refuses_what_the_vendor_does(simulated, change):
    body = {"query": ASKED, "records": [{"id": "a", "title": "T", "content": "C"}]} | change
    status, answer = await post(simulated.http, body)
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_the_simulator_gives_details_and_the_top_where_it_is_asked(simulated):
    records = [{"id": str(n), "title": "T", "content": text} for n, text in enumerate(TEXTS)]
    status, answer = await post(simulated.http, {"query": ASKED, "records": records, "topN": 1})
    assert status == 200
    (record,) = answer["records"]
    assert {**record, "score": None} == {"id": "1", "title": "T", "content": REFUNDS, "score": None}


async def post(url, body):
    provider = VertexHttp("p", AnonymousTokens(), SystemClock())
    path = "/v1/projects/p/locations/global/rankingConfigs/default_ranking_config:rank"
    try:
        async with provider._session().post(url + path, data=json.dumps(body)) as answer:
            return answer.status, await answer.json()
    finally:
        await provider.aclose()
