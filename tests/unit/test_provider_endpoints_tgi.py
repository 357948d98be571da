"""Text Generation Inference and vLLM: bodies and recorded answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    ReasoningEffort,
    ResponseFormat,
    Role,
    Sampling,
    Tool,
    ToolResultPart,
)
from shared.domain.errors import (
    ContextWindowExceeded,
    ProviderBadResponse,
    ProviderError,
    ProviderUnavailable,
    UnsupportedFeature,
)
from shared.domain.models import EndpointFormat, ProviderKind
from shared.domain.replies import Finished, FinishReason, TextDelta, Usage
from shared.providers.endpoints_check import check_tgi, check_vllm
from shared.providers.tgi import TgiReader, tgi_body
from shared.providers.vllm import vllm_events, vllm_instance
from shared.providers.wire_stream import read_sse
from tests.unit.openai_builders import call, collected, deployment, pieces, profile, reply, request, user

TGI = deployment(ProviderKind.HUGGING_FACE, EndpointFormat.TGI, target="1001")


def token(text: str, *, special: bool = False, **end: Any) -> dict[str, Any]:
    return {
        "index": 1,
        "token": {"id": 5, "text": text, "logprob": -0.1, "special": special},
        "generated_text": None,
        "details": None,
        **end,
    }


def ending(reason: str, text: str = "") -> dict[str, Any]:
    details = {"finish_reason": reason, "generated_tokens": 4, "seed": None, "input_length": 11}
    return {"generated_text": text, "details": details}


def sse(*events: dict[str, Any]) -> bytes:
    return "".join(f"data:{json.dumps(event)}\n\n" for event in events).encode()


def reader(*stops: str) -> TgiReader:
    return TgiReader(call(request(sampling=Sampling(stop=stops)), TGI), "the endpoint")


RECORDED = sse(
    token("Deep"), token(" learn"), token("ing."), token("</s>", special=True, **ending("eos_token", "Deep learning."))
)


async def test_a_recorded_stream() -> None:
    answer = reply(await collected(read_sse(pieces(RECORDED), reader())))
    assert answer.text() == "Deep learning."
    assert answer.usage == Usage(input_tokens=11, output_tokens=4)
    assert (answer.finish_reason, answer.native_finish_reason) == (FinishReason.STOP, "eos_token")


@given(cuts=st.lists(st.integers(0, 10_000), max_size=10))
async def test_chunk_boundaries_change_nothing(cuts: list[int]) -> None:
    whole = await collected(read_sse(pieces(RECORDED), reader()))
    assert await collected(read_sse(pieces(RECORDED, *cuts), reader())) == whole


@given(at=st.integers(0, 10_000))
async def test_a_cut_is_told(at: int) -> None:
    cut = RECORDED[: at % RECORDED.index(b'"finish_reason"')]
    with pytest.raises(ProviderUnavailable):
        await collected(read_sse(pieces(cut), reader()))


async def test_tokens_that_the_server_does_not_count_are_estimated() -> None:
    details = {"finish_reason": "length", "generated_tokens": 3, "seed": None}
    body = sse(token("Deep learning."), token("", details=details))
    answer = reply(await collected(read_sse(pieces(body), reader())))
    assert (answer.text(), answer.finish_reason) == ("Deep learning.", FinishReason.LENGTH)
    assert answer.usage == Usage(input_tokens=2, output_tokens=3, estimated=True)


async def test_the_stop_sequence_is_cut_off_even_when_tokens_share_it() -> None:
    body = sse(token("One EN"), token("D two E"), token("N"), token("D.", **ending("stop_sequence")))
    events = await collected(read_sse(pieces(body), reader("END.", "zzz")))
    assert reply(events).text() == "One END two "
    assert events[0] == TextDelta("One "), "what may become a stop sequence is held, the rest is not"


@given(
    parts=st.lists(st.text("abS", min_size=1, max_size=3), min_size=1, max_size=8),
    stops=st.lists(st.text("abS", min_size=1, max_size=3), max_size=3),
)
async def test_nothing_but_a_stop_sequence_is_cut_off(parts: list[str], stops: list[str]) -> None:
    text = "".join(parts)
    met = max((stop for stop in stops if text.endswith(stop)), key=len, default="")
    reason = "stop_sequence" if met else "length"
    body = sse(*(token(part) for part in parts[:-1]), token(parts[-1], **ending(reason, text)))
    answer = reply(await collected(read_sse(pieces(body), reader(*stops))))
    assert answer.text() == text.removesuffix(met)


@pytest.mark.parametrize(
    ("reported", "error"),
    [
        ({"error": "Model is overloaded", "error_type": "overloaded"}, ProviderUnavailable),
        ({"error": "Request failed during generation", "error_type": "generation"}, ProviderUnavailable),
        ({"error": "Incomplete generation stream", "error_type": "incomplete_generation"}, ProviderUnavailable),
        (
            {"error": "Input validation error: `inputs` must have less than 4096 tokens.", "error_type": "validation"},
            ContextWindowExceeded,
        ),
    ],
)
async def test_errors_inside_the_stream(reported: dict[str, Any], error: type[ProviderError]) -> None:
    with pytest.raises(error):
        await collected(read_sse(pieces(sse(token("a"), reported)), reader()))


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"[{}]",
        b"{}",
        b"3",
        b"null",
        b'{"generated_text": "x"}',
        b'{"token": 3}',
        b'{"token": {"text": 3}}',
        b'{"token": {"text": "x"}, "details": {}}',
        b'{"token": {"text": "x"}, "details": {"finish_reason": {}}}',
    ],
)
def test_what_is_not_of_tgis_form_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(ProviderBadResponse):
        reader().events_of(json.loads(body))


async def test_an_end_without_details_is_a_bad_response() -> None:
    with pytest.raises(ProviderBadResponse):
        await collected(read_sse(pieces(sse(token("a")) + b"data: [DONE]\n\n"), reader()))


def test_the_body() -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=50, seed=7, frequency_penalty=0.1, stop=("END",))
    body = tgi_body(call(request(user("Hi"), sampling=sampling), TGI), "chatml")
    assert body == {
        "inputs": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "parameters": {
            "max_new_tokens": 100,
            "return_full_text": False,
            "details": True,
            "seed": 7,
            "frequency_penalty": 0.1,
            "stop": ["END"],
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 50,
        },
        "stream": True,
    }


def test_values_that_the_server_refuses_are_said_in_its_own_way() -> None:
    greedy = tgi_body(call(request(sampling=Sampling(temperature=0, top_p=0.9)), TGI), "plain")
    assert greedy["parameters"]["do_sample"] is False
    assert not {"temperature", "top_p"} & greedy["parameters"].keys()
    assert "top_p" not in tgi_body(call(request(sampling=Sampling(top_p=1.0)), TGI), "plain")["parameters"]


def test_json_goes_by_grammar() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for wanted, value in (
        (ResponseFormat(FormatKind.JSON_SCHEMA, "n", schema), schema),
        (ResponseFormat(FormatKind.JSON_OBJECT), {"type": "object"}),
    ):
        body = tgi_body(call(request(response_format=wanted), TGI), "plain")
        assert body["parameters"]["grammar"] == {"type": "json", "value": value}


def test_a_vllm_instance() -> None:
    asked = call(request(user("Hi"), sampling=Sampling(temperature=0.5, stop=("END",))))
    assert vllm_instance(asked, "the prompt") == {
        "prompt": "the prompt",
        "max_tokens": 100,
        "temperature": 0.5,
        "stop": ["END"],
        "raw_response": True,
    }


@pytest.mark.parametrize("prediction", ["The answer", "Prompt:\nthe prompt\nOutput:\nThe answer"])
def test_a_vllm_answer(prediction: str) -> None:
    answer = reply(vllm_events(call(), "the prompt\n", [prediction], "the endpoint"))
    assert (answer.text(), answer.finish_reason) == ("The answer", FinishReason.STOP)
    assert answer.usage == Usage(input_tokens=2, output_tokens=3, estimated=True)


@pytest.mark.parametrize("predictions", [[], [None], [3], [{"text": "x"}]])
def test_a_vllm_answer_without_text_is_a_bad_response(predictions: list[Any]) -> None:
    with pytest.raises(ProviderBadResponse):
        vllm_events(call(), "the prompt", predictions, "the endpoint")


TEXT_ONLY = [
    (request(tools=(Tool("f"),)), "tools"),
    (request(user("x", MediaPart(Modality.IMAGE, "image/png", b"x"))), "messages[0].content[1]"),
    (request(Message(Role.TOOL, (ToolResultPart("a", "f", "1"),))), "messages[0].content[0]"),
    (request(reasoning_effort=ReasoningEffort.HIGH), "reasoning_effort"),
    (request(reasoning_effort=ReasoningEffort.NONE), None),
]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        *TEXT_ONLY,
        (request(sampling=Sampling(presence_penalty=0.1)), "presence_penalty"),
        (request(sampling=Sampling(top_k=3, seed=1)), None),
        (request(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema={})), None),
    ],
)
def test_what_tgi_cannot_carry(asked: ChatRequest, param: str | None) -> None:
    assert refused_field(check_tgi, asked) == param


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        *TEXT_ONLY,
        (request(sampling=Sampling(top_k=3)), "top_k"),
        (request(sampling=Sampling(seed=3)), "seed"),
        (request(response_format=ResponseFormat(FormatKind.JSON_OBJECT)), "response_format"),
        (request(sampling=Sampling(temperature=1, presence_penalty=0.1)), None),
    ],
)
def test_what_vllm_behind_predict_cannot_carry(asked: ChatRequest, param: str | None) -> None:
    assert refused_field(check_vllm, asked) == param


def refused_field(check: Any, asked: ChatRequest) -> str | None:
    try:
        check(asked, profile(), TGI)
    except UnsupportedFeature as error:
        return error.param
    return None


def test_the_reader_ends_once() -> None:
    under_test = reader()
    events = [
        *under_test.events_of(token("a", **ending("length"))),
        *under_test.events_of(token("", **ending("length"))),
    ]
    assert sum(isinstance(event, Finished) for event in events) == 1
