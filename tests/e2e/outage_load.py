"""A stack of its own whose PostgreSQL goes away under load: what the gate of the suite and the benchmark both run."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
import psycopg
import requests

from shared.config import REGISTRY_DIRECTORY
from tests.e2e.fault_app import READY_S, Told, ask
from tests.e2e.fault_cases import deployment_entry, model_entry
from tests.e2e.own_stack import OwnStack, own_stack

SERVICES = ("shop", "desk", "lab")
PAUSE_S = 0.5
"""Between two looks at GET /analytics."""
_LOOK_S = 60.0
_ASK_LEDGER_S = 2
BUDGETS = """
[[budgets]]
name = "house"
per = "tenant"
period = "month"
hard_usd = "10000"

[[budgets]]
name = "each"
per = "service"
period = "day"
hard_usd = "10000"
"""
FAULTS: tuple[dict[str, Any], ...] = (
    {"match": {"region": "case-a1"}, "fault": "unavailable", "probability": 0.1},
    {"match": {"region": "case-c1"}, "fault": "server_error"},
    {"match": {"region": "case-d1"}, "fault": "cut", "after_chunks": 2, "probability": 0.3},
)
"""One place of a model fails now and then (so there are requests of two attempts), one model always, one in mid-stream."""
REQUESTS: tuple[dict[str, Any], ...] = (
    {"model": "auto", "router": {"allow_models": ["steady", "other"]}},
    {"model": "auto", "router": {"allow_models": ["steady", "other"]}, "stream": True},
    {"model": "steady"},
    {"model": "steady", "stream": True},
    {"model": "other", "metadata": {"team": "outage"}},
    {"model": "auto:cost", "router": {"allow_models": ["steady", "other"]}, "stream": True},
    {"model": "broken", "router": {"allow_models": ["broken"], "allow_fallback": False}},
    {"model": "cut", "router": {"allow_models": ["cut"], "allow_fallback": False}, "stream": True},
    {"model": "auto", "router": {"allow_models": ["nobody"]}},
    {"model": "steady", "metadata": {"team": "outage"}, "stream": True},
)
"""What is asked in turn: left to the router or pinned, plain or streamed, and some that must fail."""


def registry() -> dict[str, str]:
    """The registry's files: two models that serve, one that fails, one that is cut; budgets that hold everything."""
    models = [
        model_entry("steady", 0.9),
        model_entry("other", 0.8),
        model_entry("broken", 0.7),
        model_entry("cut", 0.7),
    ]
    places = [
        deployment_entry("steady", "gemini", "case-a1", 1),
        deployment_entry("steady", "gemini", "case-a2", 2),
        deployment_entry("other", "openai_maas", "case-b1", 1),
        deployment_entry("broken", "anthropic", "case-c1", 1),
        deployment_entry("cut", "gemini", "case-d1", 1),
    ]
    policy = (REGISTRY_DIRECTORY / "policy.toml").read_text() + BUDGETS
    return {"models.toml": "\n".join([*models, *places]), "policy.toml": policy}


@contextmanager
def outage_stack(root: Path, *, durable: bool = False) -> Iterator[OwnStack]:
    """Serves the two models and their faults; `durable` has PostgreSQL write through to the disk."""
    with own_stack(root, registry(), durable=durable) as stack:
        stack.set_faults(FAULTS)
        yield stack


@dataclass(frozen=True)
class Sent:
    """One request of the load.

    Attributes:
        due_s: when it was due, by the monotonic clock; its latency counts from there.
        latency_s: until its answer was read to the end.
        told: None when no answer came; `failure` then says why.
    """

    service: str
    due_s: float
    latency_s: float
    told: Told | None
    failure: str = ""

    @property
    def request_id(self) -> str:
        assert self.told is not None
        return self.told.headers["x-request-id"]

    @property
    def error_code(self) -> str | None:
        """What the caller was told went wrong."""
        error = None if self.told is None else self.told.error
        return None if error is None else str(error["code"])


class Load:
    """Requests at a steady rate from a thread of its own, whatever becomes of them (an open loop).

    Args:
        url: of the API.
        rate_per_s: how many are sent.
    """

    def __init__(self, url: str, rate_per_s: float) -> None:
        self.sent: list[Sent] = []
        self._url = url
        self._rate_per_s = rate_per_s
        self._warmed, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._warmed.wait(2 * READY_S)
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join()

    async def _run(self) -> None:
        loop, number, under_way = asyncio.get_running_loop(), 0, set[asyncio.Task[None]]()
        async with AsyncExitStack() as closing:
            sessions = [
                await closing.enter_async_context(
                    aiohttp.ClientSession(
                        connector=aiohttp.TCPConnector(limit=0), headers={"x-router-service": service}
                    )
                )
                for service in SERVICES
            ]
            for number, session in enumerate(sessions):
                await self._warm(session, number)
            self._warmed.set()
            began_s = loop.time()
            while not self._ending.is_set():
                due_s = began_s + number / self._rate_per_s
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                task = asyncio.create_task(self._one(sessions[number % len(SERVICES)], number, due_s))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                number += 1
            await asyncio.gather(*under_way)

    async def _warm(self, session: aiohttp.ClientSession, number: int) -> None:
        """Ask until a service's budgets are opened, which nothing can be without PostgreSQL."""
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + READY_S
        while loop.time() < give_up_at_s:
            await self._one(session, number, loop.time())
            if (told := self.sent[-1].told) is not None and told.status == 200:
                return
            await asyncio.sleep(PAUSE_S)

    async def _one(self, session: aiohttp.ClientSession, number: int, due_s: float) -> None:
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": f"Why is the sky blue? Say it in the words of day {number}."}],
            "max_tokens": 400,
            **REQUESTS[number % len(REQUESTS)],
        }
        if body.get("stream"):
            body["stream_options"] = {"include_usage": True}
        told, failure = None, ""
        try:
            told = await ask(session, self._url, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            failure = type(error).__name__
        latency_s = asyncio.get_running_loop().time() - due_s
        self.sent.append(Sent(SERVICES[number % len(SERVICES)], due_s, latency_s, told, failure))


@dataclass(frozen=True)
class Look:
    """One look at GET /analytics.

    Attributes:
        began_s, ended_s: by the monotonic clock.
        status: 0: no answer.
        ledger: rows that the ledger held just before, and the ledger's time then; None: it did not answer.
        body: of the answer.
    """

    began_s: float
    ended_s: float
    ledger: tuple[int, datetime] | None
    status: int
    body: dict[str, Any]
    retry_after: str | None

    @property
    def as_of(self) -> datetime:
        return datetime.fromisoformat(self.body["as_of"])

    @property
    def counted(self) -> int:
        """Requests in the figures."""
        return 0 if self.body["total"] is None else int(self.body["total"]["requests"])


@dataclass
class Watch:
    """Looks at GET /analytics all the time, from a thread of its own."""

    stack: OwnStack
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(PAUSE_S):
            began_s = time.monotonic()
            ledger = self._ledger()
            status, body, retry_after = 0, dict[str, Any](), None
            with suppress(requests.RequestException):
                answer = analytics(self.stack)
                status, body, retry_after = answer.status_code, answer.json(), answer.headers.get("retry-after")
            self.looks.append(Look(began_s, time.monotonic(), ledger, status, body, retry_after))

    def _ledger(self) -> tuple[int, datetime] | None:
        try:
            with psycopg.connect(
                self.stack.dsn, connect_timeout=_ASK_LEDGER_S, tcp_user_timeout=1000 * _ASK_LEDGER_S
            ) as connection:
                row = connection.execute("SELECT count(*), clock_timestamp() FROM requests").fetchone()
        except psycopg.OperationalError:
            return None
        return row


def analytics(stack: OwnStack, **query: str) -> requests.Response:
    """GET /analytics from the hour in which the stack began on."""
    since = stack.started_at.replace(minute=0, second=0, microsecond=0)
    asked = {"from": since.isoformat(), "metrics": "requests,errors,errors_by_class,tokens,cost_usd", **query}
    return requests.get(f"{stack.url}/analytics", params=asked, timeout=_LOOK_S)


def tally(sent: Sequence[Sent]) -> str:
    """How requests ended, by status and error."""
    ends = Counter(
        one.failure if one.told is None else " ".join(filter(None, [str(one.told.status), one.error_code]))
        for one in sent
    )
    return ", ".join(f"{end}: {count}" for end, count in sorted(ends.items()))
