"""What vendors leave out. Token counts are estimated: characters over the model's characters per token.

Only text is counted: attachments have no length in characters. The figures are marked `Usage.estimated`.
"""

import math
from typing import Final

from shared.domain.chat import ChatRequest, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from shared.domain.replies import Usage
from shared.ports import ProviderCall

NOT_REPORTED: Final = "not_reported"
"""The native finish reason of answers whose vendor gives none."""


def estimated_usage(
    call: ProviderCall, output_chars: int, *, input_tokens: int | None = None, output_tokens: int | None = None
) -> Usage:
    """Usage from what the vendor said, and from characters where it said nothing.

    Args:
        call: the attempt.
        output_chars: characters of answer, tool calls and shown thinking.
        input_tokens: the vendor's figure, when it gave one.
        output_tokens: the vendor's figure, when it gave one; else the estimate, at most `call.max_output_tokens`.
    """
    chars_per_token = call.profile.chars_per_token
    if input_tokens is None:
        input_tokens = math.ceil(_prompt_chars(call.request) / chars_per_token)
        estimated = True
    else:
        estimated = output_tokens is None
    if output_tokens is None:
        output_tokens = min(math.ceil(output_chars / chars_per_token), call.max_output_tokens)
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, estimated=estimated)


def token_count(count: object) -> int | None:
    """A token count as a vendor wrote it, or None when it is not one; protobuf turns integers into floats."""
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _prompt_chars(request: ChatRequest) -> int:
    chars = len(request.system)
    for tool in request.tools:
        chars += len(tool.name) + len(tool.description) + len(str(dict(tool.parameters)))
    for message in request.messages:
        for part in message.parts:
            match part:
                case TextPart() | ToolResultPart() | ThinkingPart():
                    chars += len(part.text)
                case ToolCallPart():
                    chars += len(part.name) + len(part.arguments_json)
    return chars
