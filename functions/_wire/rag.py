"""Bodies of /rag: documents as they are sent and shown."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from functions._wire.parsing import Body
from functions._wire.query import limit_of, only, word
from shared.domain.documents import CollectionFacts, Document, DocumentStatus, IngestionTask
from shared.domain.errors import InvalidRequest
from shared.domain.security import SecurityLevel
from shared.ports import DocumentPage
from shared.services.ingestion import Submission, Taken

MAX_DOCUMENTS = 100
_DEFAULT_COLLECTION = "default"
_MOST_LISTED = 200
_TASK = TypeAdapter(IngestionTask)
_PARAMETERS = frozenset({"collection", "status", "limit", "cursor"})

_Collection = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_Line = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Group = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Key = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
_Value = Annotated[str, Field(max_length=512, pattern=r"^[^\x00]*$")]
_BlobName = Annotated[str, Field(min_length=1, max_length=900, pattern=r"^[^\x00-\x1f\x7f\\]+$")]
_MediaType = Annotated[str, Field(min_length=3, max_length=256, pattern=r"^[\w.+-]+/[\w.+-]+(?:\s*;.*)?$")]


class DocumentBody(Body):
    """One document: exactly one of `text`, `content` (Base64) and `blob`, and what is known about it."""

    text: str | None = None
    content: str | None = None
    blob: _BlobName | None = None
    name: _Line | None = None
    media_type: _MediaType | None = None
    source: _Line | None = None
    title: Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    collection: _Collection | None = None
    label: Literal["public", "internal", "confidential", "restricted"] | None = None
    acl: Annotated[list[_Group], Field(max_length=64)] | None = None
    metadata: Annotated[dict[_Key, _Value], Field(max_length=32)] | None = None

    def bytes_at(self, where: str) -> bytes | None:
        """What was sent with it; None for a blob.

        Raises:
            InvalidRequest: it is not Base64.
        """
        if self.text is not None:
            return self.text.encode("utf-8", "replace")
        if self.content is None:
            return None
        try:
            return base64.b64decode(self.content, validate=True)
        except (binascii.Error, ValueError):
            field = f"{where}content"
            raise InvalidRequest(f"{field}: must be Base64", param=field) from None

    @property
    def given(self) -> list[str]:
        """Which of the three ways to send it were used."""
        return [way for way in ("text", "content", "blob") if getattr(self, way) is not None]


class IngestBody(DocumentBody):
    """POST /rag/ingest: one document, or several in `documents` with what they have in common beside."""

    documents: Annotated[list[DocumentBody], Field(min_length=1, max_length=MAX_DOCUMENTS)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "IngestBody":
        if self.documents is None:
            if len(self.given) != 1:
                raise ValueError("give exactly one of text, content and blob, or documents")
            return self
        if self.given or self.name or self.source or self.title:
            raise ValueError("with documents, text, content, blob, name, source and title stand in each of them")
        return self

    def submissions(self) -> list[Submission]:
        """The documents.

        Raises:
            InvalidRequest: naming the field.
        """
        if self.documents is None:
            return [self._submission(self, "")]
        return [self._submission(one, f"documents[{place}].") for place, one in enumerate(self.documents)]

    def param(self, param: str | None) -> str | None:
        """A field path of the service as this body has it."""
        return param if param is None or self.documents is not None else param.removeprefix("documents[0]").lstrip(".")

    def _submission(self, one: DocumentBody, where: str) -> Submission:
        if len(one.given) != 1:
            raise InvalidRequest(f"{where}text: give exactly one of text, content and blob", param=f"{where}text")
        if one.blob is not None and any(part in {"", ".", ".."} for part in one.blob.split("/")):
            raise InvalidRequest(f"{where}blob: must be a path below your folder", param=f"{where}blob")
        name = one.name or (one.blob or "").rpartition("/")[2]
        source = one.source or one.blob or name
        if not source:
            raise InvalidRequest(f"{where}source: needed where there is no name", param=f"{where}source")
        label = one.label or self.label or "internal"
        return Submission(
            collection=one.collection or self.collection or _DEFAULT_COLLECTION,
            source=source,
            name=name,
            media_type=one.media_type or ("text/plain" if one.text is not None else "application/octet-stream"),
            content=one.bytes_at(where),
            blob=one.blob,
            title=one.title,
            label=SecurityLevel.from_label(label),
            acl=frozenset(one.acl if one.acl is not None else self.acl or ()),
            metadata={**(self.metadata or {}), **(one.metadata or {})},
        )


def listing(parameters: Mapping[str, str]) -> dict[str, Any]:
    """What GET /rag/documents asks for.

    Raises:
        InvalidRequest: naming the parameter.
    """
    only(parameters, _PARAMETERS)
    return {
        "collection": parameters.get("collection"),
        "status": word(parameters, "status", DocumentStatus),
        "limit": limit_of(parameters, _MOST_LISTED, default=50),
        "cursor": parameters.get("cursor"),
    }


def task_of(body: bytes) -> IngestionTask:
    """What a message of the ingestion queue says.

    Raises:
        ValueError: it is none.
    """
    return _TASK.validate_json(body)


def taken_body(taken: Sequence[Taken]) -> dict[str, Any]:
    """What became of an ingestion's documents."""
    return {"documents": [{**document_body(one.document), "unchanged": not one.is_new} for one in taken]}


def page_body(page: DocumentPage) -> dict[str, Any]:
    """A page of documents."""
    return {"documents": [document_body(document) for document in page.documents], "next_cursor": page.cursor}


def document_body(document: Document) -> dict[str, Any]:
    """A document as its owner sees it. The blob's name is nobody's business."""
    return {
        "id": document.id,
        "collection": document.collection,
        "source": document.source,
        "name": document.name or None,
        "title": document.title or None,
        "status": document.status.value,
        "reason": document.reason or None,
        "warnings": list(document.warnings),
        "version": document.version,
        "live_version": document.live_version,
        "chunks": document.chunks,
        "pages": document.pages,
        "attempts": document.attempts,
        "media_type": document.media_type,
        "size_bytes": document.size_bytes,
        "sha256": document.sha or None,
        "label": document.label.label,
        "acl": sorted(document.acl),
        "metadata": dict(document.metadata),
        "created_at": document.created_at.isoformat(),
        "updated_at": document.updated_at.isoformat(),
    }


def collections_body(collections: Sequence[CollectionFacts]) -> dict[str, Any]:
    """What a tenant's collections hold."""
    return {
        "collections": [
            {
                "name": facts.name,
                "documents": facts.documents,
                "chunks": facts.chunks,
                "bytes": facts.bytes,
                "by_status": {status.value: count for status, count in facts.by_status.items()},
            }
            for facts in collections
        ]
    }
