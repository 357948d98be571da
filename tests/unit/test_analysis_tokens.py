"""Token estimates: what is counted, by family; how near they are is measured by tests/evals/test_token_gate.py."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.training.tokens import TARGET, data_digest, fit
from shared.analysis.artefacts import tokens_v1
from shared.analysis.features import analyse
from shared.analysis.text_runs import FEATURES, run_counts
from shared.analysis.tokens import (
    CLAUDE_IMAGE_TOKENS,
    FAMILIES,
    GEMINI_AUDIO_TOKENS_PER_S,
    GEMINI_IMAGE_TOKENS,
    GEMINI_PAGE_TOKENS,
    GEMINI_VIDEO_TOKENS_PER_S,
    MESSAGE_TOKENS,
    PAGE_TOKENS,
    UNSEEN_PAGES,
    estimate_tokens,
    media_tokens,
    text_tokens,
)
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    MediaPart,
    Message,
    Modality,
    ResponseFormat,
    Role,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from shared.domain.features import FAMILY_OF_PUBLISHER, AttachmentFeatures, TokenEstimate, TokenizerFamily
from shared.domain.policy import RoutingConstraints
from shared.scoring.engine import Question, decide
from tests.unit.routing_builders import deployment, model, no_limit, policy, registry, snapshot

GENERIC, GEMMA, CLAUDE, O200K = (
    TokenizerFamily.GENERIC,
    TokenizerFamily.GEMMA,
    TokenizerFamily.CLAUDE,
    TokenizerFamily.O200K,
)


def ask(*parts: str | MediaPart, **changes: object) -> ChatRequest:
    turn = Message(Role.USER, tuple(TextPart(p) if isinstance(p, str) else p for p in parts))
    return replace(ChatRequest((turn,)), **changes)  # type: ignore[arg-type]  # fields by name


# --- text ------------------------------------------------------------------------------------------------------------


def test_counts_name_what_they_count():
    counted = dict(zip(FEATURES, run_counts("Hello Wörld 12345, x=1  \n\n\tшлюз 世界 😀", "und"), strict=True))
    assert counted["words"] == 3  # ello, rld, x
    assert counted["capitalised"] == 1
    assert counted["digits"] == 6
    assert counted["digit_groups"] == 3
    assert counted["line_ends"] == 1
    assert counted["further_line_ends"] == 1
    assert (counted["tab_indents"], counted["tab_runs"], counted["space_runs"]) == (1, 0, 1)
    assert (counted["cyrillic_chars"], counted["cyrillic_runs"]) == (4, 1)
    assert (counted["latin_chars"], counted["han_chars"], counted["emoji_chars"]) == (1, 2, 1)
    assert counted["letters_in_de"] == 0
    long = dict(zip(FEATURES, run_counts("a" * 100 + " " + "7" * 100, "de"), strict=True))
    assert (long["letters_after_9"], long["digit_groups"], long["letters_in_de"]) == (91, pytest.approx(34, abs=1), 100)


def test_code_and_figures_are_denser_than_prose():
    texts = ("plain words that people write " * 30, "x[i] = f(y[j], k) # {a: b}\n" * 30, "3.14159,2.71828\n" * 30)
    for family in range(len(FAMILIES)):
        density = [len(text) / text_tokens(text)[family] for text in texts]
        assert density[0] > 4
        assert max(density[1:]) < 2.6


def test_languages_are_cut_finer_than_english_in_the_same_script():
    text = "Die Bürgerinnen und Bürger werden gebeten, ihre Unterlagen mitzubringen. " * 20
    assert all(german > other for german, other in zip(text_tokens(text, "de"), text_tokens(text, "und"), strict=True))


@given(st.text(max_size=500))
def test_the_estimate_grows_in_step_with_the_text(text: str):
    once, tenfold = text_tokens(text), text_tokens(text * 10)
    assert all(count >= (1 if text else 0) for count in once)
    # Where copies meet, a run may end or two become one.
    assert all(10 * (a - 1) - 80 <= b <= 10 * a + 80 for a, b in zip(once, tenfold, strict=True))


@given(st.text(max_size=200), st.text(max_size=200))
def test_texts_are_counted_together_as_alone(one: str, other: str):
    both = run_counts(f"{one}\0{other}", "de")
    apart = run_counts(one, "de") + run_counts(other, "de")
    assert both == pytest.approx(apart)


def test_the_middle_of_a_long_text_is_counted():
    whole = estimate_tokens("word " * 400_000)
    assert whole == pytest.approx(400_000, rel=0.15)
    assert analyse(ask("word " * 400_000)).prompt_tokens == pytest.approx(whole, rel=0.01)


def test_every_part_of_a_request_adds_tokens_in_every_family():
    text = "some words to count here"
    bare = analyse(ask("hi")).token_estimates
    tool = Tool("lookup", text, {"type": "object", "properties": {"key": {"type": "string"}}})
    schema = ResponseFormat(FormatKind.JSON_SCHEMA, schema={"type": "object", "required": ["a", "b"]})
    richer = [
        ask("hi", system=text),
        ask("hi", tools=(tool,)),
        ask("hi", response_format=schema),
        ask("hi", MediaPart(Modality.DOCUMENT, "text/plain", text.encode())),
        *(
            ChatRequest((*ask("hi").messages, Message(role, (part,))))
            for role, part in (
                (Role.ASSISTANT, ThinkingPart(text)),
                (Role.ASSISTANT, ToolCallPart("1", "lookup", '{"key": "some value"}')),
                (Role.TOOL, ToolResultPart("1", "lookup", text)),
            )
        ),
    ]
    for request in richer:
        more = analyse(request).token_estimates
        assert all(b.text > a.text + MESSAGE_TOKENS and b.media == 0 for a, b in zip(bare, more, strict=True))


def test_the_weights_were_fitted_to_the_data_in_the_repository():
    assert data_digest() == tokens_v1.DATA_SHA256, "run python -m infra.training.tokens"
    assert tuple(name for name, *_ in tokens_v1.WEIGHTS) == FEATURES
    assert tuple(tokens_v1.FAMILIES) == tuple(family.value for family in TokenizerFamily)
    assert all(weight >= 0 for _, *weights in tokens_v1.WEIGHTS for weight in weights)
    assert TARGET.stat().st_size < 20_000


def test_a_fit_finds_what_made_the_counts():
    np = pytest.importorskip("numpy")
    inputs = np.array([[1.0, 0, 9], [50, 3, 0], [7, 40, 2], [90, 90, 90], [0, 5, 60]]) * 20
    weights = fit(inputs, inputs @ np.array([1.0, 0.5, 0.0]))
    assert weights == pytest.approx([1.02, 0.51, 0], abs=0.01)


# --- attachments -----------------------------------------------------------------------------------------------------


def _charged(part: MediaPart, family: TokenizerFamily, **facts: object) -> int:
    of = AttachmentFeatures("here", part.modality, part.mime_type, None, len(part.data or b""), **facts)  # type: ignore[arg-type]  # fields by name
    return media_tokens(part, of, family)


IMAGE = MediaPart(Modality.IMAGE, "image/png", b"x")
LOW_DETAIL = replace(IMAGE, detail="low")
AUDIO = MediaPart(Modality.AUDIO, "audio/mpeg", bytes(160_000))
VIDEO = MediaPart(Modality.VIDEO, "video/mp4", bytes(2_500_000))
PDF = MediaPart(Modality.DOCUMENT, "application/pdf", bytes(120_000))


@pytest.mark.parametrize(
    ("part", "family", "facts", "tokens"),
    [
        (IMAGE, GEMMA, {"width": 4000, "height": 3000}, GEMINI_IMAGE_TOKENS),
        (IMAGE, GEMMA, {}, GEMINI_IMAGE_TOKENS),
        (IMAGE, CLAUDE, {"width": 1000, "height": 750}, 1000),
        (IMAGE, CLAUDE, {"width": 200, "height": 200}, 54),
        (IMAGE, CLAUDE, {"width": 3136, "height": 600}, 628),  # halved
        (IMAGE, CLAUDE, {"width": 8000, "height": 8000}, CLAUDE_IMAGE_TOKENS),
        (IMAGE, CLAUDE, {}, CLAUDE_IMAGE_TOKENS),
        (IMAGE, O200K, {"width": 1024, "height": 1024}, 765),  # the vendor's own example
        (IMAGE, O200K, {"width": 2048, "height": 4096}, 1105),  # the vendor's own example
        (LOW_DETAIL, O200K, {"width": 4096, "height": 8192}, 85),
        (AUDIO, GEMMA, {}, 10 * GEMINI_AUDIO_TOKENS_PER_S),
        (AUDIO, GEMMA, {"duration_s": 90.5}, 2896),
        (AUDIO, GEMMA, {"duration_s": 0.1}, GEMINI_AUDIO_TOKENS_PER_S),
        (VIDEO, GEMMA, {}, 10 * GEMINI_VIDEO_TOKENS_PER_S),
        (VIDEO, GEMMA, {"duration_s": 60.0}, 60 * GEMINI_VIDEO_TOKENS_PER_S),
        (PDF, GEMMA, {"pages": 7}, 7 * GEMINI_PAGE_TOKENS),
        (PDF, CLAUDE, {"pages": 7}, 7 * PAGE_TOKENS),
        (PDF, CLAUDE, {}, 3 * PAGE_TOKENS),
        (MediaPart(Modality.DOCUMENT, "application/pdf", uri="gs://b/a.pdf"), CLAUDE, {}, UNSEEN_PAGES * PAGE_TOKENS),
        (MediaPart(Modality.AUDIO, "audio/mpeg", uri="gs://b/a.mp3"), GEMMA, {}, 60 * GEMINI_AUDIO_TOKENS_PER_S),
    ],
)
def test_attachments_are_charged_as_their_vendor_does(
    part: MediaPart, family: TokenizerFamily, facts: dict[str, object], tokens: int
):
    assert _charged(part, family, **facts) == tokens


# --- what eligibility uses -------------------------------------------------------------------------------------------


def test_each_publisher_has_its_familys_estimate_at_its_models_density():
    image = MediaPart(Modality.IMAGE, "image/png", b"\x89PNG\r\n\x1a\n")
    features = analyse(ask("שלום עולם, מה שלומך היום? " * 50, image))
    by_family = {e.family: e for e in features.token_estimates}
    assert set(by_family) == set(TokenizerFamily)
    assert by_family[CLAUDE].text > 1.5 * by_family[O200K].text
    for publisher, family in FAMILY_OF_PUBLISHER.items():
        assert features.prompt_tokens_at(4.0, publisher) == by_family[family].text + by_family[family].media
    assert features.prompt_tokens_at(4.0, "somebody new") == features.prompt_tokens
    dense, usual = features.prompt_tokens_at(2.0, "google"), features.prompt_tokens_at(4.0, "google")
    assert dense - usual == by_family[GEMMA].text


def test_features_without_estimates_scale_their_one_count():
    features = replace(analyse(ask("hi")), token_estimates=(), prompt_tokens=101)
    assert features.estimate_for("google") == TokenEstimate(GENERIC, 101)
    assert features.prompt_tokens_at(2.0, "google") == 202


def test_the_sieve_counts_as_the_features_say():
    features = analyse(ask("Привет, как дела? " * 40, MediaPart(Modality.IMAGE, "image/png", b"\x89PNG\r\n\x1a\n")))
    for publisher, density in (("google", 4.0), ("anthropic", 3.0), ("deepseek-ai", 3.7), ("nobody known", 4.0)):
        shelf = snapshot(registry((model(publisher=publisher, chars_per_token=density), deployment())), policy())
        chosen = decide(Question(features, RoutingConstraints(), "svc"), shelf, 0.5, no_limit).chosen
        assert chosen.prompt_tokens == features.prompt_tokens_at(density, publisher)
