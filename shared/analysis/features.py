"""The reading of a request: everything that eligibility and scoring may know of its content."""

from shared.analysis.answer_length import answer_length
from shared.analysis.categories import Evidence, classify
from shared.analysis.complexity import difficulty_of
from shared.analysis.inspection import inspect
from shared.analysis.media import attachment_features
from shared.analysis.security import level_of
from shared.analysis.text_kind import MATH, PROSE, UNDETERMINED, language_of, shape_of
from shared.analysis.tokens import prompt_estimates
from shared.analysis.wording import wording_of
from shared.domain.chat import (
    ChatRequest,
    FormatKind,
    Modality,
    Role,
    ToolCallPart,
    ToolMode,
    ToolResultPart,
)
from shared.domain.features import RequestFeatures
from shared.domain.security import Finding, SecurityLevel

SAMPLE_CHARS = 64 * 1024
"""Above this length, kind, language and category are read off the two ends; security and tokens never are."""
_INSTRUCTION_CHARS = 3 * 1024
_MODALITY_ORDER = (Modality.VIDEO, Modality.AUDIO, Modality.DOCUMENT, Modality.IMAGE)


def analyse(
    request: ChatRequest, *, label: SecurityLevel | None = None, findings: tuple[Finding, ...] | None = None
) -> RequestFeatures:
    """Read a request. Pure and deterministic; takes any text.

    Args:
        request: what is asked.
        label: level that the caller declares; it raises the level found, never lowers it.
        findings: what `shared.analysis.inspection.inspect` found in it; None: it is looked for here.
    """
    sample = _ends(_all_prose(request), SAMPLE_CHARS)
    instruction = _ends(request.last_user_text(), _INSTRUCTION_CHARS)
    wording = wording_of(instruction)
    shape = shape_of(sample)
    used_tools = any(isinstance(p, ToolCallPart | ToolResultPart) for m in request.messages for p in m.parts)
    offers_tools = bool(request.tools) and request.tool_choice.mode is not ToolMode.NONE
    probabilities = classify(
        Evidence(
            instruction=instruction,
            system=request.system,
            has_code=shape.has_code,
            offers_tools=offers_tools,
            used_tools=used_tools,
            wants_schema=request.response_format.kind is FormatKind.JSON_SCHEMA,
            turns=len(request.messages),
        )
    )
    category, confidence = probabilities[0]
    language, attachments = language_of(sample), attachment_features(request)
    # The guess is made from words; those of code and data are no language's.
    estimates = prompt_estimates(
        request, attachments, language if shape.content_type in {PROSE, MATH} else UNDETERMINED
    )
    tokens = estimates[0].text + estimates[0].media
    difficulty = difficulty_of(request, category, tokens, instruction, wording, has_code=shape.has_code)
    answer = answer_length(request, category, tokens, wording)
    findings = inspect(request) if findings is None else findings
    media = request.media()
    modalities = frozenset({Modality.TEXT, *(part.modality for part in media)})
    return RequestFeatures(
        content_type=_content_type(modalities, shape.content_type),
        category=category,
        category_confidence=confidence,
        language=language,
        prompt_tokens=tokens,
        expected_output_tokens=answer.p50,
        complexity=difficulty.score,
        complexity_level=difficulty.level,
        security_level=level_of(findings, label),
        modalities=modalities,
        needs_tools=offers_tools or used_tools,
        needs_json_object=request.response_format.kind is FormatKind.JSON_OBJECT,
        needs_json_schema=request.response_format.kind is FormatKind.JSON_SCHEMA,
        needs_media_uris=any(part.uri is not None for part in media),
        needs_system=bool(request.system),
        max_output_tokens=request.max_output_tokens,
        attachment_bytes=sum(len(part.data or b"") for part in media),
        attachments=attachments,
        findings=findings,
        reasons=difficulty.reasons,
        category_probabilities=probabilities,
        content_formats=shape.formats,
        token_estimates=estimates,
        output_tokens_p10=answer.p10,
        output_tokens_p90=answer.p90,
    )


def _all_prose(request: ChatRequest) -> str:
    """What people wrote: the user's turns, or all turns when the user wrote nothing. The system text sets no topic."""
    spoken = [message.text() for message in request.messages if message.role is Role.USER]
    return "\n".join(filter(None, spoken)) or "\n".join(message.text() for message in request.messages)


def _ends(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit // 2]}\n{text[-limit // 2 :]}"


def _content_type(modalities: frozenset[Modality], of_text: str) -> str:
    attached = next((modality for modality in _MODALITY_ORDER if modality in modalities), None)
    return of_text if attached is None else attached.value
