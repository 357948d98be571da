"""A Function App of a test's own beside the session's, with a registry that the test writes."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from infra.local.application import FunctionApp
from infra.local.environment import free_ports
from infra.local.stack import wait_serving

READY_S = 60.0
_RECORDS_S = 30.0
_ANSWER_S = 60.0


@dataclass
class Told:
    """What the caller saw of one request."""

    status: int
    headers: dict[str, str]
    body: Any = None
    events: list[Any] = field(default_factory=list)
    """Payloads of a stream; `[DONE]` stays a string."""
    seconds: float = 0.0

    @property
    def error(self) -> dict[str, Any] | None:
        """The error envelope, of the answer or of the last event."""
        last = self.events[-1] if self.events else self.body
        return last.get("error") if isinstance(last, dict) else None

    @property
    def text(self) -> str:
        """All content."""
        if self.body is not None:
            return "".join(choice["message"]["content"] or "" for choice in self._choices)
        return "".join(choice["delta"].get("content") or "" for choice in self._choices)

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended."""
        return next((c["finish_reason"] for c in reversed(self._choices) if c["finish_reason"]), None)

    @property
    def _choices(self) -> list[Any]:
        payloads = self.events or [self.body]
        return [choice for payload in payloads if isinstance(payload, dict) for choice in payload.get("choices") or ()]


@contextmanager
def function_app(stack: Any, directory: Path, registry: dict[str, str], redis_database: int) -> Iterator[str]:
    """Serves with this registry; yields the base URL of its API."""
    (directory / "registry").mkdir()
    for name, text in registry.items():
        (directory / "registry" / name).write_text(text)
    settings = {
        **stack.settings,
        "ROUTER_REGISTRY_DIR": str(directory / "registry"),
        "ROUTER_JOURNAL_DIR": str(directory / "journal"),
        "REDIS_URL": f"{stack.settings['REDIS_URL'].rsplit('/', 1)[0]}/{redis_database}",
    }
    (port,) = free_ports(1)
    app = FunctionApp(directory / "app", directory / "logs", port, settings)
    app.start()
    try:
        ready, answer = wait_serving(port, READY_S)
        assert ready, f"{answer}\n{app.log_tail(40)}"
        yield f"{app.base_url}/api/v1"
    finally:
        app.stop()


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Told:
    """One chat completion, read to its end."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with session.post(
        f"{url}/chat/completions", json=body, timeout=aiohttp.ClientTimeout(total=_ANSWER_S)
    ) as answer:
        raw = await answer.read()
        told = Told(answer.status, {name.lower(): value for name, value in answer.headers.items()})
    told.seconds = loop.time() - began_s
    if told.headers["content-type"].startswith("text/event-stream"):
        lines = (line[len(b"data: ") :] for line in raw.split(b"\n\n") if line.startswith(b"data: "))
        told.events = [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]
    else:
        told.body = json.loads(raw)
    return told


async def records_of(dsn: str, request_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The ledger's rows with their attempts, once all of them are there."""
    deadline_s = asyncio.get_running_loop().time() + _RECORDS_S
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        while True:
            found = await connection.execute("SELECT * FROM requests WHERE id = ANY(%s)", (list(request_ids),))
            rows = {str(row["id"]): {**row, "attempts": []} for row in await found.fetchall()}
            if len(rows) == len(request_ids):
                break
            assert asyncio.get_running_loop().time() < deadline_s, f"{len(request_ids) - len(rows)} without a record"
            await asyncio.sleep(0.1)
        attempts = await connection.execute(
            "SELECT * FROM attempts WHERE request_id = ANY(%s) ORDER BY number", (list(request_ids),)
        )
        for attempt in await attempts.fetchall():
            rows[str(attempt["request_id"])]["attempts"].append(attempt)
    return rows
