"""`DocumentParser` in a process for each document, which holds nothing worth stealing and is killed when it is late."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from shared.domain.documents import DocumentUnreadable, ParsedDocument
from shared.domain.errors import DependencyUnavailable
from shared.ports import Telemetry
from shared.providers.parsing.worker import Limits, from_json

_MODULE: Final = "shared.providers.parsing.worker"
_MAX_ANSWER_BYTES: Final = 200 * 2**20
_CHUNK_BYTES: Final = 2**20
_TOO_MUCH: Final = (
    "Reading it took more time or memory than a document may cost, or made the reader fail. Send it in parts, or saved "
    "in a simpler format."
)


class SandboxedParser:
    """Parses in a process of its own, with bounds on memory, processor time and time.

    Args:
        telemetry: counts how documents end.
        limits: of one document.
        at_once: most processes at the same time.
    """

    def __init__(self, telemetry: Telemetry, limits: Limits = Limits(), *, at_once: int = 2) -> None:  # noqa: B008 - frozen
        self._telemetry = telemetry
        self._limits = limits
        self._gate = asyncio.Semaphore(at_once)

    async def parse(self, content: bytes, *, media_type: str, name: str) -> ParsedDocument:
        """The document's blocks.

        Raises:
            NeedsOcr: it holds pictures of text only.
            DocumentUnreadable: it cannot be taken, or costs too much.
            DependencyUnavailable: no process could be started.
        """
        order = {"media_type": media_type, "name": name, "limits": asdict(self._limits)}
        async with self._gate:
            answer, status = await self._run(json.dumps(order).encode() + b"\n", content)
        if status == 0:
            try:
                parsed = await asyncio.to_thread(from_json, answer)
            except (ValueError, KeyError, TypeError):
                status = 1
            else:
                self._telemetry.count("documents_parsed", outcome="read")
                return parsed
        self._telemetry.count("documents_parsed", outcome=f"died_{status}")
        raise DocumentUnreadable(_TOO_MUCH)

    async def _run(self, order: bytes, content: bytes) -> tuple[bytes, int]:
        """What the process answers, and its exit status; negative, the signal that ended it."""
        with tempfile.TemporaryDirectory(prefix="document-") as folder:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-B",
                    "-m",
                    _MODULE,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    cwd=folder,
                    env=_environment(),
                    start_new_session=True,
                )
            except OSError:
                raise DependencyUnavailable("no process could be started to read a document") from None
            try:
                async with asyncio.timeout(self._limits.wall_s):
                    answer = await _converse(process, order, content)
                    return answer, await process.wait()
            except TimeoutError:
                return b"", -signal.SIGKILL
            finally:
                await asyncio.shield(_end(process))


async def _converse(process: asyncio.subprocess.Process, order: bytes, content: bytes) -> bytes:
    """Give the process its document and take its answer, both at once: neither side may wait for the other."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        return b""

    async def give() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(order)
            for start in range(0, len(content), _CHUNK_BYTES):
                stdin.write(content[start : start + _CHUNK_BYTES])
                await stdin.drain()
            stdin.close()

    async def take() -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := await stdout.read(_CHUNK_BYTES):
            size += len(piece)
            if size > _MAX_ANSWER_BYTES:
                raise TimeoutError
            pieces.append(piece)
        return b"".join(pieces)

    _, answer = await asyncio.gather(give(), take())
    return answer


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process and whatever it started, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # With a pipe that nobody reads to its end, `wait` would wait for ever.
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
    await process.wait()


def _environment() -> dict[str, str]:
    """Nothing of this process's but where Python finds its modules: no connection strings, keys or tokens."""
    # It runs in another folder: what is relative here would be something else there.
    modules = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {"PYTHONPATH": modules, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
