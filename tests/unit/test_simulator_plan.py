"""The plan: the same for the same request, within its limits, and of the quality that the profile says."""

import json
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infra.local.simulator.ask import Ask, Media, ToolSpec, Turn, count_tokens
from infra.local.simulator.embedding import embed
from infra.local.simulator.plan import Finish, Plan, half, is_signature, make_plan, measure, without_answer
from infra.local.simulator.profiles import Profile, Profiles
from infra.local.simulator.prompt_cache import PromptCache
from infra.local.simulator.prose import category_of

PROFILES = Profiles.load()
WEATHER = ToolSpec("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
CLOCK = ToolSpec("read_clock")


def profile(publisher: str = "google", model: str = "gemini-3.8-flash", **fields: Any) -> Profile:
    found = PROFILES.model(publisher, model)
    assert found is not None
    return replace(found, **fields)


def asked(text: str = "Tell me about rivers.", **fields: Any) -> Ask:
    return Ask(turns=(Turn("user", text),), **fields)


def plan(ask: Ask, model: Profile | None = None, seed: int = 7) -> Plan:
    model = model or profile()
    return make_plan(model, ask, ask.digest(), seed=seed, prompt=measure(ask, model))


def test_the_same_request_has_the_same_plan_and_others_have_another() -> None:
    first = plan(asked())
    assert first == plan(asked())
    others = [
        plan(asked(), seed=8),
        plan(asked("Tell me about lakes.")),
        plan(asked(system="Be brief.")),
        plan(asked(sampling={"temperature": 0.5})),
        plan(asked(), profile(model="gemini-3.5-flash")),
    ]
    assert len({(p.id, p.ttft_s, p.s_per_token) for p in [first, *others]}) == 6


def test_the_answer_names_the_simulator_the_model_and_its_quality() -> None:
    answer = plan(asked())
    assert answer.text.startswith("[simulated by gemini-3.8-flash] ")
    assert answer.text.endswith("(quality: good)" if answer.good else "(quality: poor)")
    assert answer.finish is Finish.STOP
    assert answer.output_tokens == count_tokens(answer.text)
    assert "".join(answer.pieces()) == answer.text


def test_no_sentence_comes_twice_before_all_came_once() -> None:
    for number in range(40):
        sentences = plan(asked(f"question {number}")).text.split(". ")[1:-1]
        assert len(set(sentences[:13])) == len(sentences[:13])


@pytest.mark.parametrize("limit", [1, 5, 40])
def test_max_tokens_cuts_exactly_there(limit: int) -> None:
    answer = plan(asked(max_tokens=limit))
    assert (answer.output_tokens, answer.finish, answer.good) == (limit, Finish.LENGTH, False)
    assert plan(asked()).text.startswith("[simulated by")


def test_the_models_own_limit_holds_without_one_in_the_request() -> None:
    assert plan(asked(), profile(max_output_tokens=10)).output_tokens == 10


def test_stop_sequences_end_the_answer_before_them() -> None:
    answer = plan(asked(stops=("asked", "simulated by")))
    assert (answer.text, answer.finish, answer.stop_sequence) == ("[", Finish.STOP_SEQUENCE, "simulated by")
    assert plan(asked(stops=("asked",), max_tokens=2)).finish is Finish.LENGTH


def test_tools_are_called_when_asked_for_forced_or_named() -> None:
    def called(text: str, **fields: Any) -> list[str]:
        return [call.name for call in plan(asked(text, tools=(WEATHER, CLOCK), **fields)).calls]

    assert called("hello") == []
    assert called("Please use the tool.") == ["get_weather"]
    assert called("Please use read_clock now.") == ["read_clock"]
    assert called("get weather, then read clock") == ["get_weather", "read_clock"]
    assert called("get_weather and read_clock", sampling={"parallel_tool_calls": False}) == ["get_weather"]
    assert called("get_weather", tool_mode="none") == []
    assert called("hello", tool_mode="required") == ["get_weather"]
    assert called("hello", tool_mode="required", tool_names=("read_clock",)) == ["read_clock"]


def test_tool_arguments_obey_their_schema_and_ids_differ() -> None:
    answer = plan(asked("get_weather and read_clock", tools=(WEATHER, CLOCK)))
    assert [call.arguments for call in answer.calls] == [{"city": "simulated"}, {}]
    assert len({call.id for call in answer.calls}) == 2
    assert (answer.text, answer.finish) == ("", Finish.TOOLS)
    assert plan(asked("get_weather", tools=(WEATHER,), max_tokens=1)).finish is Finish.LENGTH


def test_after_a_tool_result_the_answer_quotes_it() -> None:
    turns = (
        Turn("user", "get_weather please"),
        Turn("assistant", calls=(("get_weather", "{}"),)),
        Turn("user", results=(("get_weather", '{"sky": "clear"}'),)),
    )
    answer = plan(Ask(turns=turns, tools=(WEATHER,)))
    assert 'The tool get_weather answered: {"sky": "clear"}' in answer.text
    assert answer.calls == ()


def test_json_answers() -> None:
    free = json.loads(plan(asked(json_mode=True)).text)
    assert free["simulated_by"] == "gemini-3.8-flash"
    assert free["quality"] in {"good", "poor"}
    shaped = json.loads(plan(asked(json_mode=True, schema=WEATHER.schema)).text)
    assert shaped["city"].startswith("[simulated by gemini-3.8-flash] (quality: ")


def test_thinking_is_within_its_budget_and_takes_from_the_answers_room() -> None:
    thought = plan(asked(thinking_tokens=100, show_thinking=True, max_tokens=4_000))
    assert 24 <= thought.thinking_tokens <= 100
    assert count_tokens(thought.thought) == thought.thinking_tokens
    assert plan(asked()).thinking_tokens == 0
    squeezed = plan(asked(thinking_tokens=1_000, max_tokens=10))
    assert (squeezed.thinking_tokens, squeezed.text, squeezed.finish) == (10, "", Finish.LENGTH)
    assert plan(asked(thinking_tokens=0), profile(model="gemini-3.1-pro-preview")).thinking_tokens == 64
    assert plan(asked(thinking_tokens=100), profile("mistralai", "codestral-2")).thinking_tokens == 0


def test_quality_follows_the_profile_by_category() -> None:
    model = profile(quality={"overall": 0.5, "math": 0.95, "translation": 0.05})
    texts = {"math": "compute 3 + {}", "translation": "translate text {} to French", "conversation": "hello number {}"}
    shares = {}
    for category, text in texts.items():
        asks = [asked(text.format(number)) for number in range(300)]
        assert {category_of(ask) for ask in asks} == {category}
        shares[category] = statistics.mean(plan(ask, model).good for ask in asks)
    assert shares["math"] > 0.9
    assert shares["translation"] < 0.1
    assert 0.4 < shares["conversation"] < 0.6


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Review this code: def f(): pass", "code_review"),
        ("Write a Python function that sorts", "code_generation"),
        ("Summarize the report", "summarization"),
        ("Extract all dates", "extraction"),
        ("Classify the sentiment", "classification"),
        ("Write a poem on autumn", "creative_writing"),
        ("Compare both trade-offs step by step", "reasoning"),
        ("Who wrote this?", "question_answering"),
        ("Context: rivers. Question: which is longest?", "grounded_answer"),
        ("good morning", "conversation"),
    ],
)
def test_categories_by_plain_signs(text: str, category: str) -> None:
    assert category_of(asked(text)) == category


def test_drawn_latency_matches_the_profiles_percentiles() -> None:
    model = profile(prefill_tokens_per_s=1e12)
    drawn = sorted(plan(asked(f"number {number}"), model).ttft_s * 1000 for number in range(2_000))
    assert drawn[1_000] == pytest.approx(model.ttft_p50_ms, rel=0.08)
    assert drawn[1_900] == pytest.approx(model.ttft_p95_ms, rel=0.15)
    speeds = [1 / plan(asked(f"number {number}"), model).s_per_token for number in range(200)]
    assert 0.8 * model.tokens_per_s <= min(speeds) <= max(speeds) <= 1.2 * model.tokens_per_s


def test_prompts_are_counted_by_modality_and_prefix() -> None:
    picture = Media.of("image/png", b"x" * 100)
    pages = Media.of("application/pdf", b"%PDF /Type /Pages /Type /Page /Type /Page ")
    sound = Media.of("audio/wav", b"x" * 20_000)
    ask = Ask(turns=(Turn("user", "x" * 8, (picture, pages, sound)), Turn("assistant", "yyyy")), system="s" * 9)
    prompt = measure(ask, profile())
    assert (prompt.image, prompt.document, prompt.audio, prompt.video) == (258, 516, 64, 0)
    assert prompt.text == 3 + 2 + 1
    assert prompt.prefixes == (3, 3 + 2 + 838, 3 + 2 + 838 + 1)
    assert prompt.total == prompt.prefixes[-1]


def test_reshaped_plans() -> None:
    whole = plan(asked())
    nothing = without_answer(whole, Finish.BLOCKED)
    assert (nothing.text, nothing.output_tokens, nothing.prompt) == ("", 0, whole.prompt)
    cut = half(whole, Finish.LENGTH)
    assert whole.text.startswith(cut.text)
    assert 0 < cut.output_tokens < whole.output_tokens
    assert not cut.good


def test_signatures_are_known_again_and_forgeries_are_not() -> None:
    answer = plan(asked())
    assert is_signature(answer.signature())
    assert answer.signature() == plan(asked()).signature()
    assert answer.signature() != answer.signature(1)
    assert not is_signature(b"simulated:short")
    assert not is_signature(b"c2ltdWxhdGVk" * 3)


class TestPromptCache:
    TEXT = "rivers " * 1_000

    def use(self, cache: PromptCache, ask: Ask, model: Profile) -> tuple[int, int, int]:
        use = cache.use(model, ask, measure(ask, model))
        return use.read_tokens, use.write_tokens, use.write_long_tokens

    def test_prompts_are_cached_by_themselves_beyond_a_minimum(self) -> None:
        cache, model = PromptCache(), profile()
        first = asked(self.TEXT)
        longer = Ask(turns=(*first.turns, Turn("assistant", "yes"), Turn("user", "more")))
        size = measure(first, model).total
        assert self.use(cache, first, model) == (0, 0, 0)
        assert self.use(cache, longer, model) == (size, 0, 0)
        assert self.use(cache, first, model) == (size - 1, 0, 0)
        assert self.use(cache, asked("short"), model) == (0, 0, 0)
        assert self.use(cache, first, profile(model="gemini-3.5-flash")) == (0, 0, 0)
        cache.clear()
        assert self.use(cache, first, model) == (0, 0, 0)

    def test_claude_caches_at_marks_only(self) -> None:
        cache, model = PromptCache(), profile("anthropic", "claude-haiku-5-5")
        plain = asked(self.TEXT)
        marked = replace(plain, cache_marks=((1, 300),))
        size = measure(plain, model).total
        assert self.use(cache, plain, model) == (0, 0, 0)
        assert self.use(cache, marked, model) == (0, size, 0)
        assert self.use(cache, marked, model) == (size, 0, 0)
        longer = Ask(turns=(*plain.turns, Turn("user", "x" * 400)), cache_marks=((2, 3600),))
        assert self.use(cache, longer, model) == (size, 0, 100)
        assert self.use(cache, asked("short", cache_marks=((1, 300),)), model) == (0, 0, 0)


class TestEmbedding:
    def test_vectors_are_of_unit_length_and_stable(self) -> None:
        for text in ("hello world", "", "  ", "日本語のテキスト"):
            vector = embed(text, 768)
            assert np.linalg.norm(vector) == pytest.approx(1)
            assert np.array_equal(vector, embed.__wrapped__(text, 768))

    def test_similar_texts_are_nearer_than_others(self) -> None:
        question, near, far = (
            "How do I reset my password?",
            "I forgot my password and want to reset it",
            "The quarterly report shows rising revenue in Europe",
        )
        for dimensions in (256, 768, 3072):
            vectors = [embed(text, dimensions) for text in (question, near, far)]
            assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
            assert vectors[0] @ embed("How do I reset my passwords", dimensions) > 0.7
