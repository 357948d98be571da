"""What endpoints that list things by time take in their URLs: instants, limits and cursors."""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TypeVar
from uuid import UUID

from shared.domain.errors import InvalidRequest

E = TypeVar("E", bound=Enum)
Parameters = Mapping[str, str]


def only(parameters: Parameters, known: frozenset[str]) -> None:
    """Refuse what is not known.

    Raises:
        InvalidRequest: naming it.
    """
    for name in parameters:
        if name not in known:
            raise InvalidRequest(f"{name[:64]}: unknown parameter", code="unknown_field", param=name[:64])


def span_of(
    parameters: Parameters, now: datetime, *, default: timedelta, longest: timedelta
) -> tuple[datetime, datetime]:
    """``since`` and ``until``; until now, by default.

    Raises:
        InvalidRequest: no instant with an offset, or a span that is empty or too long.
    """
    until = instant(parameters, "until") or now + timedelta(seconds=1)
    since = instant(parameters, "since") or until - default
    if not timedelta() < until - since <= longest:
        raise InvalidRequest(f"since: must be before until, by at most {longest.days} days", param="since")
    return since, until


def instant(parameters: Parameters, name: str) -> datetime | None:
    """An ISO 8601 instant, in UTC.

    Raises:
        InvalidRequest: it is none, or has no offset.
    """
    text = parameters.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{name}: must be an ISO 8601 instant with an offset", param=name)


def limit_of(parameters: Parameters, most: int, default: int = 100) -> int:
    """``limit``, from 1 to the most.

    Raises:
        InvalidRequest: it is not such a number.
    """
    return number_of(parameters, "limit", most, default)


def number_of(parameters: Parameters, name: str, most: int, default: int) -> int:
    """A whole number from 1 to the most.

    Raises:
        InvalidRequest: it is not such a number.
    """
    text = parameters.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:  # noqa: PLR2004 - digits
        raise InvalidRequest(f"{name}: must be a number from 1 to {most}", param=name)
    return int(text)


def word(parameters: Parameters, name: str, words: type[E]) -> E | None:
    """One of some words.

    Raises:
        InvalidRequest: another one.
    """
    text = parameters.get(name)
    if text is None:
        return None
    try:
        return words(text)
    except ValueError:
        known = ", ".join(str(one.value) for one in words)
        raise InvalidRequest(f"{name}: must be one of {known}", param=name) from None


def cursor_of(at: datetime, key: str) -> str:
    """Where a page ended, newest first, as its reader gives it back."""
    return base64.urlsafe_b64encode(f"{at.isoformat()} {key}".encode()).decode()


def before(parameters: Parameters, name: str = "cursor", *, uuid: bool = False) -> tuple[datetime, str] | None:
    """What `cursor_of` wrote.

    Args:
        parameters: of the URL.
        name: the parameter.
        uuid: whether the key must be a UUID.

    Raises:
        InvalidRequest: it did not write that.
    """
    cursor = parameters.get(name)
    if cursor is None:
        return None
    try:
        at, _, key = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition(" ")
        return datetime.fromisoformat(at).astimezone(UTC), str(UUID(key)) if uuid else key
    except (ValueError, OverflowError, binascii.Error):
        raise InvalidRequest(f"{name}: not one that this endpoint gave", param=name) from None
