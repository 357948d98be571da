"""Attachments of a body: base64, data URLs and URIs, as the domain's parts."""

import base64
import binascii
import mimetypes
import re
from urllib.parse import urlsplit

from shared.analysis.archive_ratio import is_bomb
from shared.domain.chat import MediaPart, Modality
from shared.domain.errors import InvalidRequest

_AUDIO_TYPES = {"mp3": "audio/mpeg", "m4a": "audio/mp4"}
_URI_SCHEMES = ("https://", "gs://")
_HTTPS = 443
_MAX_URL_CHARS = 4096
_PLAIN_URL = re.compile(rf"[!-\[\]-~]{{1,{_MAX_URL_CHARS}}}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
"""A host's or bucket's name. Numeric addresses in their many ways of writing are names of no service."""


def media_at(
    url: str, modality: Modality | None, where: str, *, detail: str | None = None, filename: str | None = None
) -> MediaPart:
    """What is at a data URL, or the URI for models that fetch it themselves.

    Args:
        url: ``data:``, ``https:`` or ``gs:``.
        modality: None lets the media type say.
        where: the field's path, for errors.
        detail: resolution that an image is wanted in.
        filename: the document's name.

    Raises:
        InvalidRequest: neither of these, or not base64.
    """
    if url.startswith("data:"):
        head, separator, payload = url[5:].partition(",")
        mime_type, _, encoding = head.partition(";")
        if not separator or encoding != "base64" or "/" not in mime_type:
            raise InvalidRequest(f"{where}: a data URL must read data:TYPE;base64,DATA", param=where)
        kind = modality or _modality_of(mime_type)
        return MediaPart(kind, mime_type.lower(), _decoded(payload, where), filename=filename, detail=detail)
    if not url.startswith(_URI_SCHEMES):
        raise InvalidRequest(f"{where}: must be a data:, https:// or gs:// URL", param=where)
    _require_plain(url, where)
    guessed = mimetypes.guess_type(url.partition("?")[0])[0]
    kind = modality or Modality.DOCUMENT
    default = {Modality.IMAGE: "image/jpeg", Modality.VIDEO: "video/mp4"}.get(kind, "application/octet-stream")
    return MediaPart(kind, guessed or default, uri=url, filename=filename, detail=detail)


def _require_plain(url: str, where: str) -> None:
    """A URL that two readers could take for two different ones, or that carries a login, is refused.

    Whether its host may be named at all is the policy's to say.
    """
    try:
        parts = urlsplit(url)
        plain = parts.port in {None, _HTTPS} and parts.username is None and parts.password is None
    except ValueError:
        plain = False
    if not plain or not _PLAIN_URL.fullmatch(url) or not _HOST.fullmatch(parts.netloc.removesuffix(f":{_HTTPS}")):
        raise InvalidRequest(
            f"{where}: must name a host, without login, other ports or unescaped characters", param=where
        )


def file_of(file_data: str | None, filename: str | None, where: str) -> MediaPart:
    """A document from base64 or a data URL.

    Raises:
        InvalidRequest: there is none, or it is not base64.
    """
    if file_data is None:
        raise InvalidRequest(f"{where}.file_data: required; uploaded files (file_id) are not kept here", param=where)
    if file_data.startswith("data:"):
        return media_at(file_data, None, f"{where}.file_data", filename=filename)
    mime_type = mimetypes.guess_type(filename or "")[0] or "application/pdf"
    data = _decoded(file_data, f"{where}.file_data")
    return MediaPart(_modality_of(mime_type), mime_type, data, filename=filename)


def audio_of(data: str, audio_format: str, where: str) -> MediaPart:
    """Sound from base64.

    Raises:
        InvalidRequest: it is not base64.
    """
    mime_type = _AUDIO_TYPES.get(audio_format, f"audio/{audio_format}")
    return MediaPart(Modality.AUDIO, mime_type, _decoded(data, where))


def _modality_of(mime_type: str) -> Modality:
    family = mime_type.partition("/")[0]
    return Modality(family) if family in {"image", "audio", "video"} else Modality.DOCUMENT


def _decoded(payload: str, where: str) -> bytes:
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{where}: not valid base64", param=where) from None
    if not data:
        raise InvalidRequest(f"{where}: empty", param=where)
    if is_bomb(data):
        raise InvalidRequest(f"{where}: the archive claims to hold absurdly much", code="archive_bomb", param=where)
    return data
