"""What the router knows of a request's content before it chooses: the output of the analysis, the input of scoring."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.domain.chat import Modality
from shared.domain.security import Finding, SecurityLevel

REFERENCE_CHARS_PER_TOKEN = 4.0
"""The density (`ModelProfile.chars_per_token`) at which an estimate holds as it is; another density scales its text."""


class TokenizerFamily(StrEnum):
    """Vocabularies that cut text differently enough to be counted apart; named after the one that was measured."""

    GENERIC = "generic"
    """The mean of the others but Claude's: for models whose tokenizer is not known."""
    GEMMA = "gemma"
    """Google's SentencePiece vocabulary of 256,000 pieces, which Gemini shares."""
    CLAUDE = "claude"
    """The last vocabulary that Anthropic published; later ones cut finer, which `chars_per_token` corrects."""
    O200K = "o200k"
    """OpenAI's, of gpt-oss too."""
    DEEPSEEK = "deepseek"
    TEKKEN = "tekken"
    """Mistral's."""
    LLAMA = "llama"


FAMILY_OF_PUBLISHER: Mapping[str, TokenizerFamily] = {
    "google": TokenizerFamily.GEMMA,
    "anthropic": TokenizerFamily.CLAUDE,
    "openai": TokenizerFamily.O200K,
    "deepseek-ai": TokenizerFamily.DEEPSEEK,
    "mistralai": TokenizerFamily.TEKKEN,
    "meta": TokenizerFamily.LLAMA,
}
"""By `ModelProfile.publisher`; any other publisher's models are counted as `GENERIC`."""


def family_of(publisher: str) -> TokenizerFamily:
    """The tokenizer family of a publisher's models."""
    return FAMILY_OF_PUBLISHER.get(publisher, TokenizerFamily.GENERIC)


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """A prompt's tokens in one family, those of text and those of attachments apart: only the first are cut."""

    family: TokenizerFamily
    text: int
    media: int = 0

    def at(self, chars_per_token: float) -> int:
        """For a model of that density, rounded up."""
        return math.ceil(self.text * REFERENCE_CHARS_PER_TOKEN / chars_per_token) + self.media


class Category(StrEnum):
    """The task taxonomy. `UNKNOWN` means that the evidence is too thin to say."""

    CONVERSATION = "conversation"
    QUESTION_ANSWERING = "question_answering"
    SUMMARIZATION = "summarization"
    EXTRACTION = "extraction"
    CLASSIFICATION = "classification"
    TRANSLATION = "translation"
    CODE_GENERATION = "code_generation"
    CODE_REVIEW = "code_review"
    MATH = "math"
    REASONING = "reasoning"
    CREATIVE_WRITING = "creative_writing"
    GROUNDED_ANSWER = "grounded_answer"
    AGENTIC = "agentic"
    UNKNOWN = "unknown"


CATEGORY_DESCRIPTIONS = {
    Category.CONVERSATION: "Small talk, advice and open dialogue without a task that could be checked.",
    Category.QUESTION_ANSWERING: "A question of fact or explanation, answered from the model's own knowledge.",
    Category.SUMMARIZATION: "Given text is to become shorter: summaries, minutes, headlines, key points.",
    Category.EXTRACTION: "Fields, entities or tables are to be taken out of given text.",
    Category.CLASSIFICATION: "Given items are to be put into named classes: labels, sentiment, triage, yes or no.",
    Category.TRANSLATION: "Given text is to be said in another natural language.",
    Category.CODE_GENERATION: "New code, queries, configuration or tests are to be written.",
    Category.CODE_REVIEW: "Given code is to be explained, reviewed, debugged, fixed or refactored.",
    Category.MATH: "Calculation, proof, statistics, quantitative word problems.",
    Category.REASONING: "Analysis, comparison, planning, logic puzzles, decisions with trade-offs.",
    Category.CREATIVE_WRITING: "Stories, poems, slogans, letters, marketing text, rewriting in a style.",
    Category.GROUNDED_ANSWER: "A question that is to be answered from documents or passages given with it.",
    Category.AGENTIC: "Tools are offered or were used: the model is to act, step by step.",
    Category.UNKNOWN: "The evidence is too thin to say.",
}


class ComplexityLevel(StrEnum):
    """Complexity in three words, from the score in [0, 1]."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class AttachmentFeatures:
    """An attachment as its bytes say, which is not always as its name says.

    Attributes:
        mismatch: the bytes are of another type than declared.
        extension_mismatch: the bytes are of another type than the file name's extension says.
        pages: of a PDF or text document, slides of a presentation, sheets of a workbook; None where it is not told.
        width, height: of the picture in pixels, as stored.
        duration_s: of sound or film.
    """

    location: str
    modality: Modality
    declared_mime_type: str
    detected_mime_type: str | None
    size_bytes: int
    mismatch: bool = False
    extension_mismatch: bool = False
    pages: int | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a complexity score: a feature and what it added."""

    feature: str
    contribution: float


@dataclass(frozen=True, slots=True)
class RequestFeatures:
    """Everything that eligibility and scoring may look at; no content.

    Attributes:
        content_type: the overall kind (prose, code, math, data, ...), or the attachment's modality.
        prompt_tokens: estimate for a model whose tokenizer is not known; `prompt_tokens_at` is nearer where it is.
        token_estimates: the same by tokenizer family.
        content_formats: formats inside the text: json, csv, sql, xml, table, log, url, code:<language>.
        expected_output_tokens: the answer's tokens, as likely exceeded as not (the median).
        output_tokens_p10, output_tokens_p90: nine answers in ten are longer than the one, nine shorter than the other.
        complexity: 0 (trivial) to 1 (hardest).
        security_level: the highest of findings and declared label.
        needs_*: capabilities without which a model cannot serve the request.
    """

    content_type: str
    category: Category
    category_confidence: float
    language: str
    prompt_tokens: int
    expected_output_tokens: int
    complexity: float
    complexity_level: ComplexityLevel
    security_level: SecurityLevel
    modalities: frozenset[Modality]
    needs_tools: bool = False
    needs_json_object: bool = False
    needs_json_schema: bool = False
    needs_media_uris: bool = False
    needs_system: bool = False
    max_output_tokens: int | None = None
    attachment_bytes: int = 0
    attachments: tuple[AttachmentFeatures, ...] = ()
    findings: tuple[Finding, ...] = ()
    reasons: tuple[Reason, ...] = ()
    category_probabilities: tuple[tuple[Category, float], ...] = ()
    content_formats: tuple[str, ...] = ()
    token_estimates: tuple[TokenEstimate, ...] = ()
    output_tokens_p10: int = 0
    output_tokens_p90: int = 0

    def prompt_tokens_at(self, chars_per_token: float, publisher: str = "") -> int:
        """The prompt's tokens for a publisher's model of that density, rounded up."""
        return self.estimate_for(publisher).at(chars_per_token)

    def estimate_for(self, publisher: str) -> TokenEstimate:
        """The estimate of the publisher's tokenizer family.

        Where the analysis made none (older records), `prompt_tokens` stands for every family and is all text.
        """
        return self.estimate_in(family_of(publisher))

    def estimate_in(self, family: TokenizerFamily) -> TokenEstimate:
        """The estimate of a family; see `estimate_for`."""
        for estimate in self.token_estimates:
            if estimate.family is family:
                return estimate
        return TokenEstimate(TokenizerFamily.GENERIC, self.prompt_tokens)
