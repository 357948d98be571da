"""From a body's bytes to a model, with errors that name the field and never quote the content."""

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, from_json

from shared.domain.errors import InvalidRequest


class Body(BaseModel):
    """Base of all request bodies: strict types, no unknown fields, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _one_line(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not hold control characters")
    return value


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
Line = Annotated[str, AfterValidator(_one_line)]
"""A name or a word: text that is repeated in records and logs, where line ends and escapes would forge entries."""
B = TypeVar("B", bound=Body)
_ABSENT = object()


def parse(body: bytes, model: type[B]) -> B:
    """Read a JSON body.

    Raises:
        InvalidRequest: not JSON, not an object, or a field that does not fit; `param` is the field's path.
    """
    if not body:
        raise InvalidRequest("the request has no body; send a JSON object", code="empty_body")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _explained(error, body) from None


def _explained(error: ValidationError, body: bytes) -> InvalidRequest:
    details = error.errors(include_url=False, include_context=True, include_input=False)
    if details[0]["type"] == "json_invalid":
        # pydantic's words name a position and what was expected there, never what stands there.
        reason = str(details[0].get("ctx", {}).get("error", "invalid"))
        return InvalidRequest(f"the body is not valid JSON: {reason}", code="invalid_json")
    raw = from_json(body)  # the parser that the model used, so it accepts exactly what that did
    if not isinstance(raw, dict):
        return InvalidRequest("the body must be a JSON object", code="invalid_json")
    # A union reports every branch: the error that got deepest into the body is about the branch that was meant.
    found = [(_path(detail, raw), detail) for detail in details]
    # Of those, that it is no string says least: the other branches know what it is instead.
    path, detail = max(found, key=lambda item: (len(item[0]), item[1]["type"] != "string_type"))
    field = _dotted(path)
    if detail["type"] == "extra_forbidden":
        return InvalidRequest(f"{field}: unknown field", code="unknown_field", param=field)
    message = detail["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{field}: {message}" if field else message, param=field or None)


def _path(detail: ErrorDetails, raw: Any) -> list[str | int]:
    """The part of pydantic's location that names places of the body: tags of unions and validators are left out."""
    path: list[str | int] = []
    here = raw
    location = detail["loc"]
    for position, step in enumerate(location):
        inside = _inside(here, step)
        if inside is not _ABSENT:
            here = inside
        elif not (isinstance(here, dict) and detail["type"] == "missing" and position == len(location) - 1):
            continue
        path.append(step)
    return path


def _inside(here: Any, step: str | int) -> Any:
    if isinstance(here, list) and isinstance(step, int) and step < len(here):
        return here[step]
    return here.get(step, _ABSENT) if isinstance(here, dict) else _ABSENT


def _dotted(path: list[str | int]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
