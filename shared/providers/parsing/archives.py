"""Office files are zip archives: looked at before anything is unpacked."""

import io
import zipfile
import zlib
from typing import Final

from shared.domain.documents import DocumentUnreadable

MAX_UNPACKED_BYTES: Final = 300 * 2**20
MAX_ENTRIES: Final = 10_000
MAX_PART_BYTES: Final = 150 * 2**20
_ENCRYPTED: Final = 0x1
_DAMAGED: Final = "The file is damaged or incomplete. Open it in the program that made it, save it again and send that."


def opened(content: bytes) -> zipfile.ZipFile:
    """The archive, once its directory shows that it is not too large unpacked.

    Raises:
        DocumentUnreadable: it is damaged, encrypted or a zip bomb.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError, IndexError, UnicodeError):
        raise DocumentUnreadable(_DAMAGED) from None
    if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise DocumentUnreadable(
            f"Unpacked it is larger than {MAX_UNPACKED_BYTES // 2**20} MB or has more than {MAX_ENTRIES:,} parts. "
            "Send a smaller file."
        )
    if len({entry.header_offset for entry in entries}) < len(entries):
        raise DocumentUnreadable("Parts of the file lie over each other, which only zip bombs do.")
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise DocumentUnreadable("It is protected with a password. Send it without one.")
    return archive


def part(archive: zipfile.ZipFile, name: str) -> bytes | None:
    """One part, or None when there is none.

    Raises:
        DocumentUnreadable: it is damaged or too large.
    """
    try:
        with archive.open(name) as stream:
            data = stream.read(MAX_PART_BYTES + 1)
    except KeyError:
        return None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, OSError, EOFError, RuntimeError):
        raise DocumentUnreadable(_DAMAGED) from None
    if len(data) > MAX_PART_BYTES:
        raise DocumentUnreadable(f"A part of it is larger than {MAX_PART_BYTES // 2**20} MB. Send a smaller file.")
    return data


def rewritten(archive: zipfile.ZipFile, name: str, content: bytes) -> bytes:
    """The archive's bytes with one part replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as copy:
        for entry in archive.infolist():
            copy.writestr(entry.filename, content if entry.filename == name else part(archive, entry.filename) or b"")
    return buffer.getvalue()
