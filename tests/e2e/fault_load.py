"""Many requests while one call in five fails: what the gate of the suite and the benchmark both run."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.e2e.fault_app import Told, ask
from tests.e2e.fault_cases import TARGETS, deployment_entry, model_entry

FAILING = 0.2
"""Share of the calls of every deployment that fail."""
KINDS: tuple[dict[str, Any], ...] = (
    {"fault": "unavailable"},
    {"fault": "server_error"},
    {"fault": "overloaded"},
    {"fault": "rate_limit"},
    {"fault": "deadline"},
    {"fault": "cut", "after_chunks": 0},
)
DEADLINE_S = 20.0
MODELS, PLACES = 4, 3
AT_ONCE = 24


def registry() -> str:
    """Some models, each in some regions, behind all kinds of wires."""
    providers = sorted(TARGETS)
    entries = []
    for number in range(MODELS):
        name = f"model-{number}"
        entries.append(model_entry(name, 0.9 - 0.05 * number))
        for place in range(1, PLACES + 1):
            region = f"case-{chr(ord('a') + number)}{place}"
            entries.append(deployment_entry(name, providers[number % len(providers)], region, place))
    return "\n".join(entries)


def rules() -> list[dict[str, Any]]:
    """The faults: rules are tried in turn, so each draws from what those before it left."""
    part = FAILING / len(KINDS)
    return [{**kind, "probability": part / (1 - part * number)} for number, kind in enumerate(KINDS)]


@dataclass
class Tally:
    """How the requests ended."""

    requests: int = 0
    succeeded: int = 0
    attempts: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def success_rate(self) -> float:
        """Share of requests that had their whole answer within their deadline."""
        return self.succeeded / self.requests

    def add(self, told: Told) -> None:
        """Count one."""
        self.requests += 1
        is_whole = told.status == 200 and told.error is None and bool(told.text) and told.finish_reason == "stop"
        if is_whole and (not told.events or told.events[-1] == "[DONE]") and told.seconds <= DEADLINE_S:
            self.succeeded += 1
            self.attempts[int(told.headers["x-router-attempts"])] += 1
        else:
            code = (told.error or {}).get("code", f"status {told.status}")
            self.failures[f"{code}, finished by {told.finish_reason}, in {told.seconds:.0f} s"] += 1

    def __str__(self) -> str:
        calls = sum(attempts * count for attempts, count in self.attempts.items())
        return (
            f"{self.succeeded} of {self.requests} requests succeeded within {DEADLINE_S:.0f} s "
            f"({100 * self.success_rate:.3f}%), {calls / max(1, self.succeeded):.3f} calls each; "
            f"by attempts {dict(sorted(self.attempts.items()))}; failures {dict(self.failures)}"
        )


async def run(url: str, requests: int) -> Tally:
    """Sends the requests: left to the router or naming a model, plain and streamed in turn."""
    tally = Tally()
    waiting = iter(range(requests))

    async def caller(session: aiohttp.ClientSession) -> None:
        for number in waiting:
            tally.add(await ask(session, url, _body(number)))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(caller(session) for _ in range(AT_ONCE)))
    return tally


def _body(number: int) -> dict[str, Any]:
    return {
        "model": "auto" if number % 2 else f"model-{number // 2 % MODELS}",
        "messages": [{"role": "user", "content": f"Why is the sky blue? Say it in the words of day {number}."}],
        "max_tokens": 4_000,
        "stream": number % 4 >= 2,
        "router": {"timeout_s": DEADLINE_S},
    }
