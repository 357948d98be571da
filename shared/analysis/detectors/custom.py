"""Patterns of a platform team, run by RE2: in time linear in the text, whatever the pattern.

Its syntax has no look-around and no back references: https://github.com/google/re2/wiki/Syntax.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Final

import re2

from shared.analysis.detectors.detector import Detector, Hit
from shared.domain.security import CustomPattern

_MAX_MEMORY_BYTES: Final = 8 * 2**20
"""RE2's own default: what a compiled pattern and its states may take."""


def pattern_problem(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    try:
        compiled = _compiled(pattern)
    except re2.error as error:
        reason = error.args[0] if error.args else "not understood"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        return f"RE2 refuses it: {text}"
    return "matches the empty text, so it would match everywhere" if compiled.search("") is not None else None


def detector_of(custom: CustomPattern) -> Detector:
    """The detector that looks for a pattern; `pattern_problem` must have found none."""
    return Detector(custom.name, (f"(?-i:{custom.pattern})",), _finder(custom), is_structural=True)


def _finder(custom: CustomPattern) -> Callable[[str], Iterator[Hit]]:
    compiled = _compiled(custom.pattern)

    def find(text: str) -> Iterator[Hit]:
        for match in compiled.finditer(text):
            if match.end() > match.start():
                yield match.start(), match.end(), custom.level, 1.0

    return find


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY_BYTES
    return re2.compile(pattern, options)
