"""Cursors that count rows, for exports that nobody adds to while they run."""

from collections.abc import Sized

from shared.domain.errors import InvalidRequest


def offset_of(cursor: str) -> int:
    """How many rows were given before.

    Raises:
        InvalidRequest: the cursor is none of these.
    """
    if cursor and not (cursor.isascii() and cursor.isdecimal()):
        raise InvalidRequest("cursor: not one that this endpoint gave", param="cursor")
    return int(cursor or 0)


def following(rows: Sized, *, offset: int, limit: int) -> str | None:
    """The cursor of the next page, None after the last one."""
    return None if len(rows) < limit else str(offset + limit)
