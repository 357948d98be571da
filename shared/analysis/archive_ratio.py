"""Whether a zip archive (office files are some) would fill the memory of whoever unpacks it.

Nothing is unpacked: the archive's directory says what it claims to hold. Archives whose files overlap, as the densest
bombs do (https://www.bamsoftware.com/hacks/zipbomb/), claim all of it, too.
"""

from typing import Final

from shared.analysis.byte_reader import number

_MAGIC: Final = b"PK\x03\x04"
_DIRECTORY_END: Final = b"PK\x05\x06"
_ENTRY: Final = b"PK\x01\x02"
_DIRECTORY_SEARCH: Final = 66_000
_ENTRY_BYTES: Final = 46
_MOST_FILES: Final = 20_000
_MOST_BYTES: Final = 2**30
_HARMLESS_BYTES: Final = 50 * 2**20
_MOST_RATIO: Final = 200
"""Text in office files shrinks to a tenth, repetitive tables to a hundredth; deflate ends at about a thousandth."""


def is_bomb(data: bytes) -> bool:
    """Whether an archive claims to hold absurdly much, or more files than any document; False for anything else."""
    if not data.startswith(_MAGIC):
        return False
    end = data.rfind(_DIRECTORY_END, max(0, len(data) - _DIRECTORY_SEARCH))
    if end < 0:
        return False
    at, claimed, files = number(data, end + 16, 4, "little"), 0, 0
    while data[at : at + 4] == _ENTRY:
        files += 1
        claimed += number(data, at + 24, 4, "little")
        if claimed > _MOST_BYTES or files > _MOST_FILES:
            return True
        name, extra, comment = (number(data, at + place, 2, "little") for place in (28, 30, 32))
        at += _ENTRY_BYTES + name + extra + comment
    return claimed > _HARMLESS_BYTES and claimed > _MOST_RATIO * len(data)
