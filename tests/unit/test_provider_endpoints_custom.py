"""The declarative mapping of custom endpoints, and the check of `Deployment.options` when a registry loads."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.chat import FormatKind, MediaPart, Modality, ResponseFormat, Sampling, Tool
from shared.domain.errors import InvalidRequest, ProviderBadResponse, UnsupportedFeature
from shared.domain.models import EndpointFormat, ProviderKind
from shared.domain.replies import Finished, FinishReason, Usage
from shared.providers.custom import CustomMapping, answer_events, filled, found
from shared.providers.endpoints_check import check_custom
from shared.providers.endpoints_options import OptionsCache, PromptOptions, validate_options
from shared.stores.registry_files import load_registry
from tests.unit.openai_builders import assistant, call, deployment, profile, reply, request, user

OPTIONS: dict[str, Any] = {
    "request": {
        "text": "Q: {{prompt}} A:",
        "turns": "{{messages}}",
        "config": {
            "limit": "{{max_tokens}}",
            "temperature": "{{temperature}}",
            "stops": "{{stop}}",
            "penalty": "{{presence_penalty}}",
        },
        "list": ["{{seed}}", 1, None],
        "fixed": {"mode": "chat", "nothing": None},
    },
    "response": {
        "text": "/predictions/0/content",
        "input_tokens": "predictions.0.usage.in",
        "output_tokens": "/predictions/0/usage/out",
        "finish_reason": "/predictions/0/reason",
    },
    "finish_reasons": {"ran_out": "length"},
}


def mapping(**changes: Any) -> CustomMapping:
    return CustomMapping.model_validate({**OPTIONS, **changes})


def custom(options: dict[str, Any] | None = None, form: EndpointFormat = EndpointFormat.PREDICT, **fields: Any) -> Any:
    return deployment(
        ProviderKind.CUSTOM, form, target="1004", options=OPTIONS if options is None else options, **fields
    )


def test_slots_become_values_of_their_own_type_and_unset_ones_vanish() -> None:
    asked = call(request(user("Hi"), sampling=Sampling(temperature=0.5, stop=("END",))))
    assert filled(mapping().request, asked, "plain") == {
        "text": "Q: User: Hi\n\nAssistant: A:",
        "turns": [{"role": "user", "content": "Hi"}],
        "config": {"limit": 100, "temperature": 0.5, "stops": ["END"]},
        "list": [1, None],
        "fixed": {"mode": "chat", "nothing": None},
    }


def test_inserted_text_is_never_searched_for_slots() -> None:
    asked = call(request(user("{{max_tokens}} {{messages}} {{unknown}}")))
    body = filled(mapping().request, asked, "plain")
    assert body["text"] == "Q: User: {{max_tokens}} {{messages}} {{unknown}}\n\nAssistant: A:"
    assert body["turns"][0]["content"] == "{{max_tokens}} {{messages}} {{unknown}}"


def test_an_answer() -> None:
    answer = {"predictions": [{"content": "Yes.", "reason": "ran_out", "usage": {"in": 7.0, "out": 2}}]}
    built = reply(answer_events(mapping(), call(), answer, "the endpoint"))
    assert (built.text(), built.usage) == ("Yes.", Usage(input_tokens=7, output_tokens=2))
    assert (built.finish_reason, built.native_finish_reason) == (FinishReason.LENGTH, "ran_out")


def test_missing_counts_are_estimated_and_said_to_be() -> None:
    answer = {"predictions": [{"content": "y" * 40, "usage": {"in": 7}}]}
    assert reply(answer_events(mapping(), call(), answer, "e")).usage == Usage(7, output_tokens=10, estimated=True)


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        ({"content": "x", "reason": "LENGTH"}, FinishReason.LENGTH),
        ({"content": "x", "reason": "eos_token"}, FinishReason.STOP),
        ({"content": "x", "reason": "whatever"}, FinishReason.STOP),
        ({"content": "x", "reason": None, "usage": {"out": 100}}, FinishReason.LENGTH),
        ({"content": "x", "usage": {"out": 99}}, FinishReason.STOP),
    ],
)
def test_finish_reasons(prediction: dict[str, Any], reason: FinishReason) -> None:
    events = answer_events(mapping(), call(), {"predictions": [prediction]}, "the endpoint")
    assert [event.reason for event in events if isinstance(event, Finished)] == [reason]


@pytest.mark.parametrize("answer", [None, [], {}, {"predictions": []}, {"predictions": [{"content": 3}]}, "x", 7])
def test_an_answer_without_text_is_a_bad_response(answer: object) -> None:
    with pytest.raises(ProviderBadResponse):
        answer_events(mapping(), call(), answer, "the endpoint")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/a/0/b", 1),
        ("a.0.b", 1),
        ("/x~1y/~0", 2),
        ("/a/1", None),
        ("/a/-1", None),
        ("/a/²", None),
        ("a.b", None),
        ("/a/0/b/c", None),
        (None, None),
    ],
)
def test_paths(path: str | None, there: int | None) -> None:
    assert found({"a": [{"b": 1}], "x/y": {"~": 2}}, path) == there


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": (Tool("f"),)}, "tools"),
        ({"response_format": ResponseFormat(FormatKind.JSON_OBJECT)}, "response_format"),
        ({"sampling": Sampling(top_p=0.5)}, "top_p"),
        ({"sampling": Sampling(temperature=0.5, stop=("a",), seed=3)}, None),
    ],
)
def test_what_the_template_has_no_slot_for(fields: dict[str, Any], param: str | None) -> None:
    try:
        check_custom(request(**fields), profile(), custom(), mapping())
    except UnsupportedFeature as error:
        assert error.param == param
    else:
        assert param is None


def test_attachments_are_refused_wherever_they_stand() -> None:
    asked = request(user("a"), assistant("b"), user(MediaPart(Modality.IMAGE, "image/png", b"x")))
    with pytest.raises(UnsupportedFeature) as caught:
        check_custom(asked, profile(), custom(), mapping())
    assert caught.value.param == "messages[2].content[0]"


REQUEST = {"p": "{{prompt}}", "n": "{{max_tokens}}"}
RESPONSE = {"text": "/text"}


@pytest.mark.parametrize(
    ("broken", "key", "word"),
    [
        (custom({}), "options.request", "required"),
        (custom({"request": REQUEST}), "options.response", "required"),
        (custom({"request": REQUEST, "response": {}}), "options.response.text", "required"),
        (custom({"request": REQUEST, "response": RESPONSE, "typo": 1}), "options.typo", "xtra"),
        (custom({"request": {"p": "{{prompt}}"}, "response": RESPONSE}), "options", "{{max_tokens}}"),
        (custom({"request": {"n": "{{max_tokens}}"}, "response": RESPONSE}), "options", "{{prompt}}"),
        (custom({"request": {**REQUEST, "x": "{{sytem}}"}, "response": RESPONSE}), "options.request", "{{sytem}}"),
        (custom({"request": {**REQUEST, "x": "{{}}"}, "response": RESPONSE}), "options.request", "unknown slot"),
        (
            custom({"request": {**REQUEST, "x": "t={{top_p}}"}, "response": RESPONSE}),
            "options.request",
            "longer string",
        ),
        (custom({"request": REQUEST, "response": RESPONSE, "template": "alpaca"}), "options.template", "chatml"),
        (
            custom({"request": REQUEST, "response": RESPONSE, "finish_reasons": {"a": "b"}}),
            "options.finish_reasons.a",
            "stop",
        ),
        (
            custom({"request": REQUEST, "response": RESPONSE, "parameters": {"x": 1}}, EndpointFormat.RAW_PREDICT),
            "options.parameters",
            "predict",
        ),
        (custom(form=EndpointFormat.TGI), "endpoint_format", "raw_predict"),
        (custom(region="us/central1"), "region", "resource id"),
        (custom(dedicated_host="1004.example.com"), "dedicated_host", "googleapis.com"),
        (custom(dedicated_host="evil.com/x.prediction.vertexai.goog"), "dedicated_host", "host"),
        (custom(dedicated_host="googleapis.com.evil.com"), "dedicated_host", "host"),
        (deployment(ProviderKind.HUGGING_FACE, None), "endpoint_format", "tgi"),
        (deployment(ProviderKind.HUGGING_FACE, EndpointFormat.TGI, target="../x"), "target", "resource id"),
        (
            deployment(ProviderKind.HUGGING_FACE, EndpointFormat.TGI, target="1", options={"template": "x"}),
            "options.template",
            "chatml",
        ),
        (
            deployment(ProviderKind.HUGGING_FACE, EndpointFormat.OPENAI_CHAT, target="1", options={"model": ""}),
            "options.model",
            "character",
        ),
        (deployment(options={"publisher": "evil"}), "options.publisher", "mistralai"),
        (deployment(options={"reasoning": "loud"}), "options.reasoning", "effort"),
        (deployment(target="a b"), "target", "resource id"),
    ],
)
def test_errors_name_deployment_and_key(broken: Any, key: str, word: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate_options(broken)
    assert caught.value.param == f"deployments.{broken.id}.{key}"
    assert broken.id in caught.value.message
    assert word in caught.value.message


def test_a_template_may_not_nest_without_end() -> None:
    nested: Any = "{{prompt}}"
    for _ in range(30):
        nested = [nested]
    with pytest.raises(InvalidRequest, match="deeper than"):
        validate_options(custom({"request": {"a": nested, **REQUEST}, "response": RESPONSE}))


@pytest.mark.parametrize(
    "fine",
    [
        custom(),
        custom({**OPTIONS, "parameters": {"n": "{{max_tokens}}"}}),
        custom({"request": REQUEST, "response": RESPONSE}, EndpointFormat.RAW_PREDICT),
        custom({"request": {"p": "{{prompt}}"}, "parameters": {"n": "{{max_tokens}}"}, "response": RESPONSE}),
        deployment(ProviderKind.HUGGING_FACE, EndpointFormat.TGI, target="1001", options={"template": "llama3"}),
        deployment(
            ProviderKind.HUGGING_FACE,
            EndpointFormat.OPENAI_CHAT,
            target="1003",
            dedicated_host="1003.us-central1-12345.prediction.vertexai.goog",
            options={"model": "meta-llama/Llama-3", "reasoning": "enable_thinking"},
        ),
        deployment(options={"publisher": "mistralai"}, target="mistral-medium-3"),
        deployment(target="meta/llama-4-maverick-17b-128e-instruct-maas"),
        deployment(ProviderKind.GEMINI, options={"anything": 1}),
    ],
)
def test_what_is_fine(fine: Any) -> None:
    assert validate_options(fine) is None


def test_options_are_read_once_per_registry_version() -> None:
    cache = OptionsCache()
    at = deployment(ProviderKind.HUGGING_FACE, EndpointFormat.TGI, target="1", options={"template": "gemma"})
    same = cache.of(at, PromptOptions)
    assert same.template == "gemma"
    assert cache.of(at, PromptOptions) is same
    changed = deployment(ProviderKind.HUGGING_FACE, EndpointFormat.TGI, target="1", options={"template": "plain"})
    assert cache.of(changed, PromptOptions).template == "plain"


def test_the_shipped_registry_has_valid_options() -> None:
    shipped = load_registry(
        *(Path(__file__).parents[2] / d / "registry" for d in ("shared", "infra/local"))
    ).deployments
    assert {validate_options(at) for at in shipped} == {None}
