"""JSON, JSON lines and notebooks."""

import json
from collections.abc import Iterator
from typing import Any, Final

from shared.domain.documents import BlockKind, DocumentUnreadable
from shared.providers.parsing.draft import Draft
from shared.providers.parsing.encodings import decoded
from shared.providers.parsing.plain import markdown

_MAX_DEPTH: Final = 100
_MAX_OUTPUT_CHARS: Final = 20_000
_DAMAGED: Final = "It is no valid JSON (line {line}). Check the file and send it again."


def read_json(content: bytes, draft: Draft) -> None:
    """Read one JSON value: each entry of the outermost list or object is a block of lines `path: value`.

    Raises:
        DocumentUnreadable: it is not JSON, nested too deep, or too long.
    """
    value = _parsed(_text(content, draft), 0)
    entries: Iterator[tuple[str, Any]] = iter((("", value),))
    if isinstance(value, list):
        entries = ((f"[{place}]", entry) for place, entry in enumerate(value))
    elif isinstance(value, dict):
        entries = iter(value.items())
    lines: list[str] = []
    for path, entry in entries:
        if isinstance(entry, dict | list):
            _add(draft, lines)
            lines = []
            draft.add(BlockKind.LIST, "\n".join(_flat(path, entry, 0)))
        else:
            lines.extend(_flat(path, entry, 0))
    _add(draft, lines)


def read_json_lines(content: bytes, draft: Draft) -> None:
    """Read JSON lines: each line is a block.

    Raises:
        DocumentUnreadable: a line is not JSON, or it is too long.
    """
    for number, line in enumerate(_text(content, draft).split("\n"), 1):
        if line.strip():
            draft.add(BlockKind.LIST, "\n".join(_flat("", _parsed(line, number - 1), 0)))


def read_notebook(content: bytes, draft: Draft) -> None:
    """Read a notebook (https://nbformat.readthedocs.io/): text, code and its printed results.

    Raises:
        DocumentUnreadable: it is no notebook, or too long.
    """
    notebook = _parsed(_text(content, draft), 0)
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise DocumentUnreadable("It is called a notebook, but has no cells (format 4). Save it again in Jupyter.")
    metadata = notebook.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("title"), str):
        draft.title = metadata["title"]
    for cell in cells:
        if not isinstance(cell, dict):
            continue
        source = _joined(cell.get("source"))
        if cell.get("cell_type") == "markdown":
            markdown(source, draft)
        else:
            draft.add(BlockKind.CODE, source)
            for output in cell.get("outputs") or ():
                draft.add(BlockKind.CODE, _printed(output)[:_MAX_OUTPUT_CHARS])


def _printed(output: object) -> str:
    if not isinstance(output, dict):
        return ""
    shown = output.get("data")
    return _joined(output.get("text") or (shown.get("text/plain") if isinstance(shown, dict) else None))


def _joined(lines: object) -> str:
    if isinstance(lines, list):
        return "".join(line for line in lines if isinstance(line, str))
    return lines if isinstance(lines, str) else ""


def _add(draft: Draft, lines: list[str]) -> None:
    if lines:
        draft.add(BlockKind.LIST, "\n".join(lines))


def _flat(path: str, value: Any, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise DocumentUnreadable("It is nested too deep. Send a flatter file.")
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), entry, depth + 1)
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            yield from _flat(f"{path}[{place}]", entry, depth + 1)
    elif value is not None:
        text = value if isinstance(value, str) else json.dumps(value)
        yield f"{path}: {text}" if path else text


def _parsed(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DocumentUnreadable(_DAMAGED.format(line=line + error.lineno)) from None
    except (RecursionError, ValueError):
        raise DocumentUnreadable("It is nested too deep or holds numbers of thousands of digits.") from None


def _text(content: bytes, draft: Draft) -> str:
    text, warning = decoded(content)
    if warning:
        draft.warn(warning)
    return text
