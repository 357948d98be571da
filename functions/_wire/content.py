"""What the bodies of all chat surfaces have in common on their way into the domain: content in parts, and functions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from functions._wire.chat import FunctionDefinition
from functions._wire.responses_body import FunctionTool
from shared.domain.chat import Part, TextPart, Tool
from shared.domain.errors import InvalidRequest

P = TypeVar("P")
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


def parts_of(content: str | Sequence[P] | None, where: str, part_of: Callable[[P, str], Part]) -> tuple[Part, ...]:
    """The parts of a message's content; an empty text has none.

    Args:
        content: a text, or the body's parts.
        where: the message's path.
        part_of: makes a part of a body's part and its path.
    """
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    return tuple(part_of(part, f"{where}.content[{index}]") for index, part in enumerate(content))


def only_text(parts: Sequence[Part], where: str) -> str:
    """The text of a message in which nothing else is possible, a line a part.

    Raises:
        InvalidRequest: naming the part that is none.
    """
    texts = []
    for index, part in enumerate(parts):
        if not isinstance(part, TextPart):
            param = f"{where}.content[{index}]"
            raise InvalidRequest(f"{param}: only text is possible in this message", param=param)
        texts.append(part.text)
    return "\n".join(texts)


def tools_of(functions: Iterable[FunctionDefinition | FunctionTool], inside: str = "") -> tuple[Tool, ...]:
    """The functions offered.

    Args:
        functions: in the body's order.
        inside: where a function stands in its entry of ``tools``, with the dot before it.

    Raises:
        InvalidRequest: two of them have one name.
    """
    tools: dict[str, Tool] = {}
    for index, function in enumerate(functions):
        if function.name in tools:
            param = f"tools[{index}]{inside}.name"
            raise InvalidRequest(f"{param}: another tool has this name", param=param)
        schema = function.parameters or _NO_PARAMETERS
        tools[function.name] = Tool(function.name, function.description or "", schema, strict=bool(function.strict))
    return tuple(tools.values())
