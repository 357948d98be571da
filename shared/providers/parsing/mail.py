"""E-mail messages (RFC 5322, MIME)."""

import email
import email.errors
from email.message import EmailMessage
from email.policy import default
from typing import Final

from shared.domain.documents import BlockKind, DocumentUnreadable
from shared.providers.parsing.draft import Draft
from shared.providers.parsing.encodings import decoded
from shared.providers.parsing.markup import read_html
from shared.providers.parsing.plain import read_text

_HEADERS: Final = ("From", "To", "Cc", "Date")
_MAX_HEADER_CHARS: Final = 500
_MAX_PARTS: Final = 200
_SENDMAIL_LINE: Final = b"From "
_BROKEN: Final = (ValueError, LookupError, TypeError, AttributeError, IndexError, email.errors.MessageError)
"""What the standard library's parser is known to raise for broken messages."""


def read_mail(content: bytes, draft: Draft) -> None:
    """Read a message: subject, sender, receivers, date and its text; attachments are listed.

    Raises:
        DocumentUnreadable: it is no message, or too long.
    """
    if content.startswith(_SENDMAIL_LINE):
        content = content.partition(b"\n")[2]  # a mailbox's line before the message
    message = email.message_from_bytes(content, policy=default)
    if not message.keys():
        raise DocumentUnreadable("It is called an e-mail, but has no headers. Save the message as .eml again.")
    draft.title = _header(message, "Subject")
    draft.add(BlockKind.HEADING, draft.title, level=1)
    lines = [f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))]
    draft.add(BlockKind.LIST, "\n".join(lines))
    plain: list[EmailMessage] = []
    pages: list[EmailMessage] = []
    attached: list[str] = []
    for part in list(message.walk())[:_MAX_PARTS]:
        if part.is_multipart() or not isinstance(part, EmailMessage):
            continue
        kind = part.get_content_type()
        name = _file_name(part)
        if name or kind not in {"text/plain", "text/html"}:
            attached.append(f"{name or 'without a name'} ({kind})")
        else:
            (plain if kind == "text/plain" else pages).append(part)
    _read_bodies(plain, pages, draft)
    for name in attached:
        draft.add(BlockKind.NOTE, f"Attachment: {name}")
    if attached:
        draft.warn(f"{len(attached)} attachments were listed, but not read: send them as documents of their own.")


def _read_bodies(plain: list[EmailMessage], pages: list[EmailMessage], draft: Draft) -> None:
    """The plain text; the page where there is no other."""
    texts = [_payload(part) for part in plain]
    if any(text.strip() for text in texts):
        for text, part in zip(texts, plain, strict=True):
            _read_plain(text, part, draft)
        return
    for part in pages:
        content, _ = decoded(_payload(part), _charset(part))
        read_html(content.encode(), draft)


def _read_plain(content: bytes, part: EmailMessage, draft: Draft) -> None:
    text, warning = decoded(content, _charset(part))
    if warning:
        draft.warn(warning)
    read_text(text.encode(), draft)


def _payload(part: EmailMessage) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except _BROKEN:
        return b""
    return payload if isinstance(payload, bytes) else b""


def _charset(part: EmailMessage) -> str | None:
    try:
        return part.get_content_charset()
    except _BROKEN:
        return None


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())[:_MAX_HEADER_CHARS]
    except _BROKEN:
        return ""


def _file_name(part: EmailMessage) -> str:
    try:
        name = " ".join((part.get_filename() or "").split())[:_MAX_HEADER_CHARS]
        return name or ("without a name" if part.get_content_disposition() == "attachment" else "")
    except _BROKEN:
        return ""
