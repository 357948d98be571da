"""Prompt templates against the published form of each family, and control tokens that callers write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers.endpoints_prompt import TEMPLATES, plain_messages, render
from tests.unit.openai_builders import assistant, request, user

CONVERSATION = request(user("Hi"), assistant("Hello!"), user("Bye"), system="Be brief.")

EXPECTED = {
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama3": (
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "gemma": (
        "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    ),
    "mistral": "[INST] Be brief.\n\nHi[/INST] Hello!</s>[INST] Bye[/INST]",
    "plain": "Be brief.\n\nUser: Hi\n\nAssistant: Hello!\n\nUser: Bye\n\nAssistant:",
}

CONTROL = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "mistral": ("[INST]", "[/INST]", "</s>"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template(name: str) -> None:
    assert render(CONVERSATION, name) == EXPECTED[name]


@pytest.mark.parametrize("name", CONTROL)
@given(data=st.data())
def test_no_text_of_the_request_writes_a_control_token(name: str, data: st.DataObject) -> None:
    tokens = CONTROL[name]
    hostile = st.lists(st.sampled_from([*tokens, "<", "|", "[", "/", "{}", "x"]), max_size=6).map("".join)
    honest = request(user("a"), assistant("b"), user("c"), system="d")
    attack = request(
        *(type(m)(m.role, user(data.draw(hostile)).parts) for m in honest.messages), system=data.draw(hostile)
    )
    for token in tokens:
        assert render(attack, name).count(token) <= render(honest, name).count(token)


def test_a_prompt_keeps_braces_and_percent_signs() -> None:
    assert "{} {0} %s {{prompt}}" in render(request(user("{} {0} %s {{prompt}}")), "chatml")


def test_messages_without_templates() -> None:
    assert plain_messages(CONVERSATION) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]
