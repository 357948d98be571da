"""Bytes of text in any encoding."""

import codecs
import re
from typing import Final

from charset_normalizer import from_bytes

from shared.domain.documents import DocumentUnreadable

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES: Final = 64 * 1024
_SURE_NULS: Final = 0.2
"""Of every second byte, from which on text is UTF-16: Latin text has half of all bytes zero, Chinese text few."""
_MOSTLY: Final = 0.95
_BINARY_CONTROLS: Final = 0.05
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffd]")


def decoded(content: bytes, declared: str | None = None) -> tuple[str, str | None]:
    """The text, and a warning when some of it could not be read.

    Args:
        content: the bytes.
        declared: an encoding's name by the document's own word; a hint.

    Raises:
        DocumentUnreadable: it is no text.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _checked(content[len(mark) :].decode(encoding, "replace"))
    for encoding in filter(None, ("utf-8", _utf_16(content), _known(declared))):
        try:
            text = content.decode(encoding)
        except (UnicodeDecodeError, UnicodeError):
            continue
        if "\0" not in text:
            return _checked(text)
    # Nearly UTF-8 is UTF-8 with some bad bytes: a guess would rather find a rare code page that fits them all.
    as_utf8 = content.decode("utf-8", "replace")
    if _is_nearly_utf8(content):
        return _checked(as_utf8)
    best = from_bytes(content[:_SAMPLE_BYTES]).best()
    return _checked(as_utf8 if best is None else content.decode(best.encoding, "replace"))


def _checked(text: str) -> tuple[str, str | None]:
    sample = text[:_SAMPLE_BYTES]
    if len(_CONTROL.findall(sample)) > _BINARY_CONTROLS * len(sample) + 8:
        raise DocumentUnreadable("It is neither text nor a format that is read here. Send a PDF, Office or text file.")
    if "\ufffd" in text:
        return text, "Some characters could not be read: the encoding is damaged."
    return text, None


def _is_nearly_utf8(content: bytes) -> bool:
    kept = len(content.decode("utf-8", "ignore").encode())
    has_letters = any(byte < codecs.BOM_UTF8[0] and chr(byte).isalpha() for byte in content[:256])
    legible = sum(byte < 128 for byte in content)  # noqa: PLR2004 - ASCII
    multibyte = kept - legible
    broken = len(content) - kept
    if broken <= 16 and legible >= 0.8 * len(content) and multibyte == 0:  # noqa: PLR2004 - a few bytes among ASCII
        # A Latin code page's letters stand between letters; bad bytes stand anywhere.
        return has_letters and re.search(rb"[A-Za-z][\x80-\xff][a-z]", content) is None
    return kept >= _MOSTLY * len(content) and multibyte > broken


def _utf_16(content: bytes) -> str | None:
    sample = content[:_SAMPLE_BYTES]
    if len(sample) < 4 or b"\0" not in sample:  # noqa: PLR2004 - two characters
        return None
    even, odd = sample[::2].count(0) / len(sample[::2]), sample[1::2].count(0) / len(sample[1::2])
    if odd > _SURE_NULS and odd > 2 * even:
        return "utf-16-le"
    return "utf-16-be" if even > _SURE_NULS and even > 2 * odd else None


def _known(name: str | None) -> str | None:
    if not name:
        return None
    try:
        return codecs.lookup(name.strip()).name if codecs.lookup(name.strip())._is_text_encoding else None  # noqa: SLF001 - "rot13" is a codec too
    except (LookupError, ValueError):
        return None
