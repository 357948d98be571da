"""The process that reads one document: `python -m shared.providers.parsing.worker`.

Standard input holds a line of JSON (media type, name, limits) and then the document; standard output gets one JSON
value. It gives itself limits before it reads anything, knows no secrets, and is killed from outside when it is late.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from typing import BinaryIO, Final

from shared.domain.documents import Block, BlockKind, DocumentUnreadable, NeedsOcr, ParsedDocument

_OPEN_FILES: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost.

    Attributes:
        memory_bytes: of address space.
        cpu_s: of processor time.
        wall_s: from start to end.
    """

    memory_bytes: int = 2 * 2**30
    cpu_s: int = 60
    wall_s: float = 90.0

    def impose(self) -> None:
        """Hold this process to them, for good. It also ends by itself when nobody is left to kill it."""
        for kind, most in (
            (resource.RLIMIT_AS, self.memory_bytes),
            (resource.RLIMIT_CPU, self.cpu_s),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, _OPEN_FILES),
        ):
            with contextlib.suppress(ValueError, OSError):  # a lower limit is in force, or the system has none
                resource.setrlimit(kind, (most, most))
        signal.setitimer(signal.ITIMER_REAL, self.wall_s)


def to_json(document: ParsedDocument) -> bytes:
    """A document for the way back."""
    blocks = [(block.kind.value, block.text, block.page, block.level) for block in document.blocks]
    known = {"title": document.title, "pages": document.pages, "hidden": document.hidden, "blocks": blocks}
    return json.dumps({**known, "warnings": document.warnings}).encode()


def from_json(answer: bytes) -> ParsedDocument:
    """What the process found.

    Raises:
        NeedsOcr, DocumentUnreadable: as the process did.
        ValueError, KeyError, TypeError: the answer is none: the process was not itself any more.
    """
    value = json.loads(answer)
    if "unreadable" in value:
        if value["needs_ocr"]:
            raise NeedsOcr(str(value["unreadable"]), pages=value["pages"])
        raise DocumentUnreadable(str(value["unreadable"]))
    blocks: list[Block] = []
    start = 0
    for kind, text, page, level in value["blocks"]:
        blocks.append(Block(BlockKind(kind), str(text), start, page, int(level)))
        start += len(text) + 2
    warnings = tuple(map(str, value["warnings"]))
    return ParsedDocument(tuple(blocks), str(value["title"]), value["pages"], int(value["hidden"]), warnings)


def answer_to(order: dict[str, str], content: bytes) -> bytes:
    """Read a document and say what came of it."""
    from shared.providers.parsing.reader import read  # noqa: PLC0415 - only once the limits are in force

    try:
        return to_json(read(content, media_type=order["media_type"], name=order["name"]))
    except NeedsOcr as error:
        return json.dumps({"unreadable": error.reason, "needs_ocr": True, "pages": error.pages}).encode()
    except DocumentUnreadable as error:
        return json.dumps({"unreadable": error.reason, "needs_ocr": False}).encode()


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Serve the one order that comes in."""
    order = json.loads(source.readline())
    Limits(**order.pop("limits")).impose()
    sink.write(answer_to(order, source.read()))
    sink.flush()


if __name__ == "__main__":
    # Libraries that print must not disturb the answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    main(sys.stdin.buffer, answers)
