"""Numbers and pieces out of bytes that nobody can trust: reading beyond the end gives zero or less, never an error."""

from dataclasses import dataclass
from typing import Literal

Order = Literal["big", "little"]


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What a file's header tells; None where it does not.

    Attributes:
        pages: pages, slides or sheets.
        width, height: pixels as stored.
        duration_s: seconds of sound or film.
    """

    pages: int | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


NOTHING = MediaFacts()
MOST_PIXELS_A_SIDE = 1 << 20
MOST_DURATION_S = 100 * 3600.0
"""Headers that claim more are taken for broken: no format's files come near."""


def number(data: bytes, at: int, size: int, order: Order) -> int:
    """An unsigned number of `size` bytes, 0 where the data ends before it does."""
    piece = data[at : at + size] if at >= 0 else b""
    return int.from_bytes(piece, order) if len(piece) == size else 0


def picture(width: int, height: int) -> MediaFacts:
    """Facts of a picture, nothing when a side makes no sense."""
    sane = 0 < width <= MOST_PIXELS_A_SIDE and 0 < height <= MOST_PIXELS_A_SIDE
    return MediaFacts(width=width, height=height) if sane else NOTHING


def seconds(amount: float, per_s: float) -> float | None:
    """`amount` units at a rate, to the millisecond, or None when the result makes no sense."""
    if per_s <= 0 or amount <= 0 or amount > per_s * MOST_DURATION_S:
        return None
    return round(amount / per_s, 3)
