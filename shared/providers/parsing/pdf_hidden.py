"""Text of a PDF page that no reader sees: taken out of the page before its text is read."""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

_LEAST_POINTS: Final = 1.0
"""Text below this size is not legible on paper."""
_INVISIBLE: Final = 3
"""Text rendering mode that paints nothing (ISO 32000-1, table 106): how scanners lay recognised text over a picture."""
_CLIPPING: Final = 7
_LEAST_ALPHA: Final = 8
_SAME_COLOUR: Final = 12
"""Of 255, by channel: nobody sees a difference below it."""
_WHITE: Final = (255, 255, 255)
_SCAN_SHARE: Final = 0.5
"""Of the page, from which on a picture counts as a scan."""
_MAX_OBJECTS: Final = 50_000
_MAX_BACKGROUNDS: Final = 2000

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in points."""
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class PageFinds:
    """What was seen on a page.

    Attributes:
        hidden: pieces of text that were taken out.
        has_pictures: whether it shows any.
        is_recognised: whether its text lies invisibly over a scan.
    """

    hidden: int = 0
    has_pictures: bool = False
    is_recognised: bool = False


@dataclass(frozen=True, slots=True)
class _Painted:
    """Something behind text; `colour` None where it has more than one."""

    box: Box
    colour: Colour | None
    is_picture: bool = False


def remove_hidden(page: pdfium.PdfPage) -> PageFinds:
    """Take the text out of a page that is off the page, too small, transparent, or of the colour behind it."""
    paper: Box = page.get_cropbox()
    behind: list[_Painted] = []
    unseen: list[Any] = []
    invisible: list[Any] = []
    for item in islice(page.get_objects(), _MAX_OBJECTS):
        box = _box(item)
        if item.type != pdfium_c.FPDF_PAGEOBJ_TEXT:
            if len(behind) < _MAX_BACKGROUNDS:
                behind.extend(_painted(item, box))
        elif pdfium_c.FPDFTextObj_GetTextRenderMode(item) in {_INVISIBLE, _CLIPPING}:
            invisible.append(item)
        elif _is_unseen(item, box, paper, behind):
            unseen.append(item)
    pictures = [painted.box for painted in behind if painted.is_picture]
    is_scan = any(_share(box, paper) >= _SCAN_SHARE for box in pictures)
    if not is_scan:
        unseen += invisible
    for item in unseen:
        page.remove_obj(item)
    return PageFinds(len(unseen), bool(pictures), is_scan and bool(invisible))


def _painted(item: Any, box: Box) -> Iterator[_Painted]:
    """What an object that is no text puts behind later ones."""
    if item.type == pdfium_c.FPDF_PAGEOBJ_IMAGE:
        yield _Painted(box, None, is_picture=True)
    elif item.type == pdfium_c.FPDF_PAGEOBJ_SHADING:
        yield _Painted(box, None)
    elif item.type == pdfium_c.FPDF_PAGEOBJ_PATH and _is_filled(item):
        yield _Painted(box, _fill(item)[0])


def _is_unseen(item: Any, box: Box, paper: Box, behind: list[_Painted]) -> bool:
    left, bottom, right, top = box
    if right <= paper[0] or left >= paper[2] or top <= paper[1] or bottom >= paper[3]:
        return right > left  # spaces have no box
    if top - bottom < _LEAST_POINTS and right - left > _LEAST_POINTS and _size(item) < _LEAST_POINTS:
        return True
    colour, alpha = _fill(item)
    if alpha < _LEAST_ALPHA:
        return True
    return colour is not None and _is_same(colour, _colour_behind(box, behind))


def _colour_behind(box: Box, behind: list[_Painted]) -> Colour | None:
    """What is painted last below the middle of a box; None for a picture."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    for painted in reversed(behind):
        left, bottom, right, top = painted.box
        if left <= x <= right and bottom <= y <= top:
            return painted.colour
    return _WHITE


def _is_same(one: Colour, other: Colour | None) -> bool:
    return other is not None and all(abs(a - b) < _SAME_COLOUR for a, b in zip(one, other, strict=True))


def _size(item: Any) -> float:
    """Of the letters on the page, in points."""
    size = ctypes.c_float()
    if not pdfium_c.FPDFTextObj_GetFontSize(item, size):
        return _LEAST_POINTS
    here, scale = item, size.value
    while here is not None:
        matrix = here.get_matrix()
        scale *= max(abs(matrix.d), abs(matrix.b))
        here = here.container
    return float(scale)


def _fill(item: Any) -> tuple[Colour | None, int]:
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    if not pdfium_c.FPDFPageObj_GetFillColor(item, red, green, blue, alpha):
        return None, 255
    return (red.value, green.value, blue.value), alpha.value


def _is_filled(item: Any) -> bool:
    mode, stroke = ctypes.c_int(), ctypes.c_int()
    if not pdfium_c.FPDFPath_GetDrawMode(item, mode, stroke):
        return False
    return mode.value != pdfium_c.FPDF_FILLMODE_NONE and _fill(item)[1] >= _LEAST_ALPHA


def _box(item: Any) -> Box:
    try:
        box: Box = item.get_bounds()
    except pdfium.PdfiumError:
        return (0.0, 0.0, 0.0, 0.0)
    form = item.container
    while form is not None:
        box = form.get_matrix().on_rect(*box)
        form = form.container
    return box


def _share(box: Box, paper: Box) -> float:
    width = max(0.0, min(box[2], paper[2]) - max(box[0], paper[0]))
    height = max(0.0, min(box[3], paper[3]) - max(box[1], paper[1]))
    area = (paper[2] - paper[0]) * (paper[3] - paper[1])
    return width * height / area if area > 0 else 0.0
