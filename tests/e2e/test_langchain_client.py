"""LangChain's OpenAI classes run against the router unchanged."""

import json

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

MODELS = {
    "gemini": "gemini-3.8-flash",
    "anthropic": "claude-haiku-5-5",
    "openai_maas": "deepseek-v4.1-flash",
}


class Film(BaseModel):
    """A film."""

    title: str
    year: int = Field(ge=1900)
    tags: list[str] = Field(min_length=1)


@tool
def get_weather(city: str) -> str:
    """The weather of a city now."""
    return f"19 degrees in {city}"


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def chat(request, stack):
    def build(model="auto:cost", **more):
        return ChatOpenAI(
            model=model,
            base_url=f"{stack.base_url}/api/v1",
            api_key="local",
            max_retries=0,
            timeout=30,
            use_responses_api=request.param,
            **more,
        )

    return build


@pytest.fixture
def embeddings(stack):
    # LangChain would otherwise cut texts into OpenAI's tokens, which mean nothing to other models.
    return OpenAIEmbeddings(
        model="text-embedding-005",
        base_url=f"{stack.base_url}/api/v1",
        api_key="local",
        max_retries=0,
        check_embedding_ctx_length=False,
    )


@pytest.mark.parametrize("family", MODELS)
def test_invoke(chat, family):
    reply = chat(MODELS[family]).invoke([SystemMessage("Be brief."), HumanMessage("Why is the sky blue?")])
    assert reply.text
    assert reply.usage_metadata["total_tokens"] > 0
    assert MODELS[family] in (reply.response_metadata["model_name"], reply.response_metadata.get("model"))


@pytest.mark.parametrize("family", MODELS)
def test_stream_adds_up_to_the_plain_answer_with_its_usage(chat, family):
    model = chat(MODELS[family], stream_usage=True)
    pieces = list(model.stream("Why is the sky blue?"))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    plain = model.invoke("Why is the sky blue?")
    assert len(pieces) > 3
    assert whole.text == plain.text
    assert whole.usage_metadata["output_tokens"] == plain.usage_metadata["output_tokens"]


async def test_asynchronous_calls_and_batches(chat):
    model = chat()
    replies = await model.abatch(["Name a river.", "Name a lake."])
    assert all(reply.text for reply in replies)
    assert [piece async for piece in model.astream("Name a hill.")]


@pytest.mark.parametrize("family", MODELS)
def test_tools_are_bound_called_and_answered(chat, family):
    model = chat(MODELS[family]).bind_tools([get_weather])
    messages = [HumanMessage("Use get_weather for Paris.")]
    first = model.invoke(messages)
    assert isinstance(first, AIMessage)
    (call,) = first.tool_calls
    assert call["name"] == "get_weather"
    messages += [first, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert model.invoke(messages).text


def test_streamed_tool_calls_assemble(chat):
    model = chat(MODELS["gemini"]).bind_tools([get_weather], tool_choice="get_weather")
    whole = None
    for piece in model.stream("What is it like in Paris?"):
        whole = piece if whole is None else whole + piece
    (call,) = whole.tool_calls
    assert call["name"] == "get_weather"
    assert set(call["args"]) == {"city"}


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("family", MODELS)
def test_structured_output(chat, family, method):
    film = chat(MODELS[family]).with_structured_output(Film, method=method).invoke("Describe a film with Film.")
    assert isinstance(film, Film)


def test_json_mode(chat):
    model = chat(MODELS["gemini"]).bind(response_format={"type": "json_object"})
    assert isinstance(json.loads(model.invoke("Describe a film as JSON.").text), dict)


def test_errors_are_the_clients_own(chat):
    with pytest.raises(openai.NotFoundError) as caught:
        chat("no-such-model").invoke("hello")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        chat(extra_body={"router": {"security_label": "restricted"}}, model="gemini-3.8-flash").invoke("hello")
    assert refused.value.code == "no_eligible_model"


def test_a_broken_stream_raises(chat, stack):
    stack.simulator.set_faults([{"match": {}, "fault": "cut", "after_chunks": 2}])
    # The Responses API tells of it in events, which LangChain raises as a ValueError.
    with pytest.raises((openai.APIError, ValueError), match="UNAVAILABLE"):
        list(chat(MODELS["gemini"]).stream("Tell me about rivers."))


def test_embeddings_of_documents_and_queries(embeddings):
    documents = embeddings.embed_documents(["Cats sleep a lot.", "Stocks fell on Monday."])
    query = embeddings.embed_query("Cats sleep a lot.")
    assert [len(vector) for vector in documents] == [768, 768]
    nearness = [sum(a * b for a, b in zip(query, document, strict=True)) for document in documents]
    assert nearness[0] == pytest.approx(1, abs=1e-5)
    assert nearness[0] > nearness[1]
